"""The store: conversations, turns and their recordings, saved whole or not at all.

Writes go one at a time, in the order they were asked for, each in one durable transaction. A write that was begun is
finished even if its caller is cancelled. Owns those rules; SQLite's are `database.py`'s, the files' `audio.py`'s.
Knows no session and no HTTP.
"""

import asyncio
import fcntl
import os
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import astuple
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

from sqlalchemy import Select, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from avatar.core.errors import NotFound, StoreError
from avatar.core.history import CalledTool
from avatar.store.audio import AudioFolder
from avatar.store.database import connect, failures, upgrade
from avatar.store.pages import page_of, page_query
from avatar.store.records import Conversation, Hit, Page, Recording, Side, Turn, TurnRecord, new_id
from avatar.store.search import title_hit, titles_with, turn_hit, turns_with, words_of
from avatar.store.tables import Row, conversation_of, conversations, storable, turn_of, turns
from avatar.store.voices import VoiceRows

T = TypeVar("T")

_TITLE_CHARS = 60


def _utc_now() -> datetime:
    return datetime.now(UTC)


ENCODER_NICENESS = 5
"""A third of the time an equal would get, where cores are scarce."""


def _step_back() -> None:
    """Encoding can wait; who is talking cannot. Threads have a priority of their own on Linux alone."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), ENCODER_NICENESS)


class Store:
    """Made by `Store.open`. Methods raise `StoreError` when the disk or the database fails."""

    def __init__(self, database: Path, audio: AudioFolder, lock: TextIO, now: Callable[[], datetime]) -> None:
        self._engine = connect(database)
        self._audio = audio
        self._lock = lock
        self._now = now
        self._turnstile = asyncio.Lock()
        # One thread: a burst of turns cannot take the cores from the engines, and stays in order.
        self._encoder = ThreadPoolExecutor(1, "avatar-store", initializer=_step_back)
        self._writes: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.voices = VoiceRows(self._whole, self._writing, self._rows)

    @classmethod
    async def open(cls, data_dir: Path, now: Callable[[], datetime] = _utc_now) -> "Store":
        """Open the store in `data_dir`, making or upgrading it, and clean up after a crash.

        Raises `SetupError` if a newer AVATAR made the database, `StoreError` if the folder cannot be used.
        """
        with failures():
            return cls(*await asyncio.to_thread(_prepare, data_dir), now)

    async def aclose(self) -> None:
        """Finish what is being saved, then close. Idempotent; later writes raise `StoreError`."""
        self._closed = True
        await asyncio.gather(*self._writes, return_exceptions=True)
        self._encoder.shutdown()
        await self._engine.dispose()
        self._lock.close()

    # --- writing --------------------------------------------------------------------------------

    async def create_conversation(
        self,
        *,
        title: str = "",
        language: str | None = None,
        instructions: str | None = None,
        conversation_id: str | None = None,
    ) -> Conversation:
        """Begin a conversation. Without a title it gets the first thing the user says.

        `conversation_id`: one that `new_id` made, when it had to be known before.
        """
        now = self._now()
        instructions = instructions and storable(instructions)
        made = Conversation(conversation_id or new_id("conv"), now, now, language, storable(title), instructions)
        await self._whole(self._create(made))
        return made

    async def save_turn(self, record: TurnRecord) -> Turn:
        """Save a turn with its recordings; when this returns they survive a power cut.

        Turns of a conversation keep the order of the calls. Raises `NotFound` if the conversation was deleted,
        `StoreError` also if the turn was saved before. Cancelled, it still saves the whole turn.
        """
        return await self._whole(self._save(record))

    async def rename(self, conversation_id: str, title: str) -> Conversation:
        """Give a conversation another title. Raises `NotFound`."""
        await self._whole(self._rename(conversation_id, storable(title)))
        return await self.conversation(conversation_id)

    async def cut_heard(self, turn_id: str, heard_text: str) -> None:
        """Less of a turn's reply was heard than was thought when it was saved. Nothing happens if it is not there."""
        await self._whole(self._cut_heard(turn_id, storable(heard_text)))

    async def delete(self, conversation_id: str) -> None:
        """Remove a conversation with its turns and recordings. Raises `NotFound`."""
        await self._whole(self._delete(conversation_id))

    async def _whole(self, write: Coroutine[Any, Any, T]) -> T:
        if self._closed:
            write.close()
            raise StoreError("The store is closed: the server is shutting down.")
        task = asyncio.create_task(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        with failures():
            async with self._turnstile, self._engine.execution_options(begin="IMMEDIATE").begin() as db:
                yield db

    async def _create(self, made: Conversation) -> None:
        async with self._writing() as db:
            await db.execute(insert(conversations).values(vars(made)))

    async def _save(self, record: TurnRecord) -> Turn:
        ids = (record.conversation_id, record.id)
        both: dict[Side, Recording | None] = {"user": record.user_audio, "reply": record.reply_audio}
        recordings = {side: recording for side, recording in both.items() if recording and recording[0].size}
        with failures():
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._encoder, self._audio.stage, *ids, recordings)
        ours = False  # whether files in their last place are: a turn saved twice must not lose those of the first time
        try:
            async with self._writing() as db:
                row = await self._next_row(db, record)
                ours = True
                names = await asyncio.to_thread(self._audio.place, *ids, recordings)
                row |= {f"{side}_audio": names.get(side) for side in both}
                await db.execute(insert(turns).values(row))
        except Exception:  # a dying loop is no Exception: it cannot know about the commit, `recover` can
            await asyncio.to_thread(self._audio.settle, *ids, keep=not ours)
            raise
        await asyncio.to_thread(self._audio.settle, *ids, keep=True)
        return turn_of(row)

    async def _next_row(self, db: AsyncConnection, record: TurnRecord) -> dict[str, Any]:
        """The row of a new turn, its conversation brought up to date."""
        now = self._now()
        conversation = conversations.c.id == record.conversation_id
        title = await db.scalar(select(conversations.c.title).where(conversation))
        if title is None:
            raise NotFound("This conversation does not exist any more, so its turn was not saved.")
        if await db.scalar(select(turns.c.id).where(turns.c.id == record.id)):
            raise StoreError("This turn was saved before; a turn is saved once.")
        user_text = storable(record.user_text)
        if not record.superseded:
            title = title or " ".join(user_text.split())[:_TITLE_CHARS]
        await db.execute(update(conversations).where(conversation).values(updated_at=now, title=title))
        last = select(func.max(turns.c.position)).where(turns.c.conversation_id == record.conversation_id)
        position = await db.scalar(last)
        return {
            "id": record.id,
            "conversation_id": record.conversation_id,
            "position": 0 if position is None else position + 1,
            "created_at": now,
            "input_kind": record.input_kind,
            "status": record.status,
            "user_text": user_text,
            "user_language": record.user_language,
            "generated_text": storable(record.generated_text),
            "heard_text": storable(record.heard_text),
            "error_code": record.error_code,
            "timings": {name: float(ms) for name, ms in record.timings.items()},
            "engines": dict(record.engines),
            "calls": tuple(CalledTool(*map(storable, astuple(call))) for call in record.calls),
            "superseded": record.superseded,
        }

    async def _rename(self, conversation_id: str, title: str) -> None:
        async with self._writing() as db:
            changed = await db.execute(
                update(conversations).where(conversations.c.id == conversation_id).values(title=title)
            )
            if not changed.rowcount:
                raise _no_conversation()

    async def _cut_heard(self, turn_id: str, heard_text: str) -> None:
        async with self._writing() as db:
            await db.execute(update(turns).where(turns.c.id == turn_id).values(heard_text=heard_text))

    async def _delete(self, conversation_id: str) -> None:
        async with self._writing() as db:
            gone = await db.execute(delete(conversations).where(conversations.c.id == conversation_id))
            if not gone.rowcount:
                raise _no_conversation()
            # An index keeps the words of deleted rows until its parts are merged: 0.3 s for 10 000 turns.
            for index in ("turns_fts", "conversations_fts"):
                await db.execute(text(f"INSERT INTO {index} ({index}) VALUES ('optimize')"))
            await asyncio.to_thread(self._audio.mark_deletion, conversation_id)
        with failures():
            await asyncio.to_thread(self._audio.delete, conversation_id)

    # --- reading --------------------------------------------------------------------------------

    async def conversation(self, conversation_id: str) -> Conversation:
        """One conversation. Raises `NotFound`."""
        rows = await self._rows(select(conversations).where(conversations.c.id == conversation_id))
        if not rows:
            raise _no_conversation()
        return conversation_of(rows[0])

    async def conversations(self, limit: int = 50, cursor: str | None = None) -> Page:
        """`limit` conversations, the last used first, from `cursor` on. Raises `BadMessage` on a wrong cursor."""
        return page_of(await self._rows(page_query(limit, cursor)), limit)

    async def turns(self, conversation_id: str) -> list[Turn]:
        """All turns of a conversation, in order."""
        return [turn_of(row) for row in await self._rows(_turns_of(conversation_id).order_by(turns.c.position))]

    async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]:
        """The last `limit` turns of a conversation, in order."""
        query = _turns_of(conversation_id).order_by(turns.c.position.desc()).limit(limit)
        return [turn_of(row) for row in reversed(await self._rows(query))]

    async def audio_path(self, conversation_id: str, turn_id: str, side: Side) -> Path:
        """The Ogg/Opus file of one side of a turn. Raises `NotFound`."""
        query = select(turns.c[f"{side}_audio"].label("name")).where(turns.c.id == turn_id)
        rows = await self._rows(query.where(turns.c.conversation_id == conversation_id))
        path = self._audio.path(rows[0]["name"]) if rows and rows[0]["name"] else None
        if path is None or not await asyncio.to_thread(path.is_file):
            raise NotFound("There is no such recording.")
        return path

    async def search(self, query: str, limit: int = 20) -> list[Hit]:
        """Where every word of `query` was said, typed, answered or is in a title; the newest first."""
        words = words_of(query)
        if not words:
            return []
        spoken = [turn_hit(row, words) for row in await self._rows(turns_with(words).limit(limit))]
        seen = {hit.conversation_id for hit in spoken}
        others = titles_with(words).where(conversations.c.id.not_in(seen)).limit(limit)
        titled = [title_hit(row, words) for row in await self._rows(others)]
        return sorted(spoken + titled, key=lambda hit: hit.at, reverse=True)[:limit]

    async def _rows(self, query: Select[Any]) -> list[Row]:
        with failures():
            async with self._engine.connect() as db:
                return [row._asdict() for row in await db.execute(query)]


def _prepare(data_dir: Path) -> tuple[Path, AudioFolder, TextIO]:
    """Make, upgrade, recover. The lock is shared by all who have the store open; who is alone may recover."""
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    database, audio = data_dir / "avatar.db", AudioFolder(data_dir / "audio")
    upgrade(database)
    audio.prepare()
    with ExitStack() as stack:
        lock = stack.enter_context((data_dir / "avatar.lock").open("a"))
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _recover(database, audio)
        fcntl.flock(lock, fcntl.LOCK_SH)
        stack.pop_all()
    return database, audio, lock


def _recover(database: Path, audio: AudioFolder) -> None:
    with closing(sqlite3.connect(database)) as db:

        def exists(table: str, id_: str) -> bool:
            return db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (id_,)).fetchone() is not None

        audio.recover(partial(exists, "conversations"), partial(exists, "turns"))


def _turns_of(conversation_id: str) -> Select[Any]:
    return select(turns).where(turns.c.conversation_id == conversation_id)


def _no_conversation() -> NotFound:
    return NotFound("There is no such conversation.")
