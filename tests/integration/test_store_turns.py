"""Conversations and turns in a real database with real files."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile

from avatar.core.errors import BadMessage, NotFound, StoreError
from avatar.core.history import CalledTool
from avatar.store import Recording, Store, TurnRecord, new_id

USER: Recording = (np.sin(np.arange(8_000, dtype=np.float32) / 10), 16_000)
REPLY: Recording = (np.sin(np.arange(24_000, dtype=np.float32) / 20), 24_000)


CALLS = (CalledTool("c1", "look", '{"at": "天"}', "雨"), CalledTool("c2", "feel", "{}", "cold\ud800"))


def record(conversation_id: str, text: str = "你好", *, audio: bool = False) -> TurnRecord:
    return TurnRecord(
        conversation_id=conversation_id,
        input_kind="speech",
        status="completed",
        user_text=text,
        user_audio=USER if audio else None,
        reply_audio=REPLY if audio else None,
    )


def files(data_dir: Path) -> list[str]:
    audio = data_dir / "audio"
    return sorted(str(path.relative_to(audio)) for path in audio.rglob("*") if path != audio / ".pending")


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    ticks = count()
    store = await Store.open(tmp_path, now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(ticks)))
    yield store
    await store.aclose()


async def test_a_turn_comes_back_as_it_was_saved(store: Store, tmp_path: Path) -> None:
    conversation = await store.create_conversation(language="zh", instructions="简短回答")
    saved = await store.save_turn(
        TurnRecord(
            conversation_id=conversation.id,
            input_kind="speech",
            status="interrupted",
            user_text="讲个故事",
            user_language="zh",
            generated_text="从前有座山，山里有座庙。",
            calls=CALLS,
            heard_text="从前有座山",
            error_code="ENGINE_FAILED",
            timings={"stt_ms": 12.5, "voice_to_voice_ms": 400},
            engines={"stt": "moonshine (tiny)"},
            user_audio=USER,
            reply_audio=REPLY,
        )
    )
    assert await store.turns(conversation.id) == [saved]
    assert (saved.position, saved.status, saved.heard_text) == (0, "interrupted", "从前有座山")
    assert saved.generated_text == "从前有座山，山里有座庙。"
    assert saved.calls == (CALLS[0], replace(CALLS[1], result="cold?"))
    assert saved.timings == {"stt_ms": 12.5, "voice_to_voice_ms": 400.0}
    assert saved.created_at.tzinfo is UTC
    for side, (pcm, rate_hz) in (("user", USER), ("reply", REPLY)):
        path = await store.audio_path(conversation.id, saved.id, side)  # type: ignore[arg-type]
        info = soundfile.info(path)
        assert (info.format, info.subtype) == ("OGG", "OPUS")
        assert info.duration == pytest.approx(pcm.size / rate_hz, abs=0.05)
    assert len(files(tmp_path)) == 3  # the conversation's folder and two recordings: nothing pending


async def test_the_first_words_are_the_title_until_it_is_renamed(store: Store) -> None:
    conversation = await store.create_conversation()
    await store.save_turn(record(conversation.id, "  What is\nthe weather? " + "so " * 100))
    await store.save_turn(record(conversation.id, "something else"))
    title = (await store.conversation(conversation.id)).title
    assert title.startswith("What is the weather? so")
    assert len(title) == 60
    assert (await store.rename(conversation.id, "Weather")).title == "Weather"


async def test_a_typed_turn_has_no_recording(store: Store, tmp_path: Path) -> None:
    conversation = await store.create_conversation()
    nothing: Recording = (np.zeros(0, np.float32), 16_000)
    turn = await store.save_turn(
        TurnRecord(conversation_id=conversation.id, input_kind="text", status="completed", user_audio=nothing)
    )
    assert (turn.has_user_audio, turn.has_reply_audio) == (False, False)
    assert files(tmp_path) == []
    with pytest.raises(NotFound):
        await store.audio_path(conversation.id, turn.id, "user")


async def test_turns_keep_the_order_of_the_calls_and_recent_ones_come_last(store: Store) -> None:
    conversation = await store.create_conversation()
    saves = [store.save_turn(record(conversation.id, str(n), audio=n % 3 == 0)) for n in range(10)]
    await asyncio.gather(*saves)
    assert [turn.user_text for turn in await store.turns(conversation.id)] == [str(n) for n in range(10)]
    assert [turn.position for turn in await store.recent_turns(conversation.id, 3)] == [7, 8, 9]


async def test_fifty_sessions_save_at_once(store: Store) -> None:
    made = await asyncio.gather(*(store.create_conversation() for _ in range(50)))
    await asyncio.gather(
        *(store.save_turn(record(conversation.id, audio=True)) for conversation in made),
        *(store.conversations() for _ in range(50)),
        *(store.search("你好") for _ in range(50)),
    )
    for conversation in made:
        (turn,) = await store.turns(conversation.id)
        await store.audio_path(conversation.id, turn.id, "reply")


async def test_a_second_store_on_the_same_folder_saves_too(store: Store, tmp_path: Path) -> None:
    other = await Store.open(tmp_path)
    conversation = await store.create_conversation()
    saves = [(store, other)[n % 2].save_turn(record(conversation.id, audio=True)) for n in range(10)]
    await asyncio.gather(*saves)
    await other.aclose()
    assert len(await store.turns(conversation.id)) == 10


async def test_a_turn_is_saved_once_and_a_second_try_harms_nothing(store: Store, tmp_path: Path) -> None:
    conversation = await store.create_conversation()
    once = record(conversation.id, audio=True)
    await store.save_turn(once)
    before = files(tmp_path)
    with pytest.raises(StoreError, match="saved before"):
        await store.save_turn(once)
    assert files(tmp_path) == before
    assert len(await store.turns(conversation.id)) == 1


async def test_a_turn_of_a_deleted_conversation_is_refused_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    conversation = await store.create_conversation()
    await store.delete(conversation.id)
    with pytest.raises(NotFound):
        await store.save_turn(record(conversation.id, audio=True))
    assert files(tmp_path) == []


async def test_deleting_while_turns_are_saved_leaves_nothing(store: Store, tmp_path: Path) -> None:
    for _ in range(5):
        conversation = await store.create_conversation()
        saves = [store.save_turn(record(conversation.id, audio=True)) for _ in range(4)]
        await asyncio.gather(*saves[:2], store.delete(conversation.id), *saves[2:], return_exceptions=True)
        assert await store.turns(conversation.id) == []
        assert files(tmp_path) == []


async def test_deleting_removes_turns_recordings_and_what_search_finds(store: Store, tmp_path: Path) -> None:
    kept, gone = await store.create_conversation(), await store.create_conversation()
    for conversation in (kept, gone):
        await store.save_turn(record(conversation.id, "find me please", audio=True))
    await store.delete(gone.id)
    assert {hit.conversation_id for hit in await store.search("find me")} == {kept.id}
    assert all(name.startswith(kept.id) for name in files(tmp_path))
    with pytest.raises(NotFound):
        await store.conversation(gone.id)
    with pytest.raises(NotFound):
        await store.delete(gone.id)
    with pytest.raises(NotFound):
        await store.rename(gone.id, "x")


async def test_deleted_words_are_gone_from_the_disk(store: Store, tmp_path: Path) -> None:
    kept, gone = await store.create_conversation(), await store.create_conversation()
    for n in range(50):
        await store.save_turn(record(kept.id, f"something else {n}"))
        await store.save_turn(record(gone.id, f"龘龘龘龘 {n}"))
    await store.delete(gone.id)
    await store.aclose()
    assert b"something" in (tmp_path / "avatar.db").read_bytes()
    assert "龘".encode() not in (tmp_path / "avatar.db").read_bytes()


async def test_a_cancelled_save_is_whole_or_absent(store: Store, tmp_path: Path) -> None:
    conversation = await store.create_conversation()
    chance = random.Random(1)
    for _ in range(40):
        task = asyncio.create_task(store.save_turn(record(conversation.id, audio=True)))
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.aclose()
    reopened = await Store.open(tmp_path)
    turns = await reopened.turns(conversation.id)
    assert files(tmp_path) == sorted(
        [conversation.id, *(f"{conversation.id}/{turn.id}.{side}.ogg" for turn in turns for side in ("user", "reply"))]
    )
    assert [turn.position for turn in turns] == list(range(len(turns)))
    await reopened.aclose()


async def test_cancelled_reads_leave_the_store_working(store: Store) -> None:
    conversation = await store.create_conversation(title="still here")
    for turns_of_the_loop in range(30):
        reads = [asyncio.create_task(store.search("still")) for _ in range(5)]
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
    assert [hit.conversation_id for hit in await store.search("still here")] == [conversation.id]


async def test_a_closed_store_saves_what_was_begun_and_refuses_the_rest(store: Store, tmp_path: Path) -> None:
    conversation = await store.create_conversation()
    begun = asyncio.create_task(store.save_turn(record(conversation.id, audio=True)))
    await asyncio.sleep(0)
    await store.aclose()
    await store.aclose()
    await begun
    with pytest.raises(StoreError):
        await store.save_turn(record(conversation.id))
    assert not (tmp_path / "avatar.db-wal").exists()


async def test_pages_give_every_conversation_once_the_last_used_first(store: Store) -> None:
    made = [await store.create_conversation(title=str(n)) for n in range(7)]
    await store.save_turn(record(made[2].id))
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.conversations(3, cursor)
        seen += [conversation.title for conversation in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["2", "6", "5", "4", "3", "1", "0"]


@pytest.mark.parametrize("cursor", ["", "x", "Z", "2026-01-01", "2026-13-01T00:00:00.000000Zconv_x", "' OR 1=1 --"])
async def test_a_wrong_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(BadMessage):
        await store.conversations(3, cursor)


async def test_search_finds_what_was_said_heard_or_only_generated(store: Store) -> None:
    conversation = await store.create_conversation(title="旅行计划")
    for text in ("第一句", "second sentence"):
        await store.save_turn(
            TurnRecord(
                conversation_id=conversation.id,
                input_kind="text",
                status="interrupted",
                user_text=text,
                heard_text="heard part",
                generated_text="heard part and the unheard rest",
            )
        )
    assert [hit.excerpt for hit in await store.search("一句")] == ["第一句"]
    assert [hit.excerpt for hit in await store.search("sentence heard")] == ["second sentence"]
    assert len(await store.search("unheard rest")) == 2
    assert len(await store.search("unheard rest", limit=1)) == 1
    (by_title,) = await store.search("旅行")
    assert (by_title.turn_id, by_title.excerpt) == (None, "旅行计划")
    assert await store.search("第一句 sentence") == []
    assert await store.search("  \0 ") == []


async def test_search_follows_a_new_title(store: Store) -> None:
    conversation = await store.create_conversation(title="before")
    await store.rename(conversation.id, "afterwards")
    assert await store.search("before") == []
    assert len(await store.search("afterwards")) == 1


async def test_text_that_sqlite_cannot_hold_is_mended(store: Store) -> None:
    conversation = await store.create_conversation()
    turn = await store.save_turn(record(conversation.id, "a\0b \ud800 c"))
    assert turn.user_text == "ab ? c"
    assert await store.turns(conversation.id) == [turn]
    assert len(await store.search("\ud800")) == 1  # mended in the same way


@pytest.mark.parametrize("id_", ["../../etc/passwd", "", "conv_", "%", "' OR 1=1 --", "a\0b", "é" * 5000])
async def test_an_id_is_only_ever_looked_up(store: Store, id_: str) -> None:
    conversation = await store.create_conversation()
    await store.save_turn(record(conversation.id, audio=True))
    with pytest.raises(NotFound):
        await store.conversation(id_)
    with pytest.raises(NotFound):
        await store.delete(id_)
    with pytest.raises(NotFound):
        await store.audio_path(id_, id_, "user")
    with pytest.raises(NotFound):
        await store.audio_path(conversation.id, id_, "user")
    assert await store.turns(id_) == []
    with pytest.raises(NotFound):
        await store.save_turn(record(new_id("conv")))


async def test_a_superseded_turn_is_kept_and_neither_found_nor_a_title(store: Store) -> None:
    conversation = await store.create_conversation()
    stub = await store.save_turn(replace(record(conversation.id, "I would like"), superseded=True))
    assert (await store.conversation(conversation.id)).title == ""
    whole = await store.save_turn(record(conversation.id, "I would like to book a table."))
    assert (await store.conversation(conversation.id)).title == "I would like to book a table."
    assert [turn.superseded for turn in await store.turns(conversation.id)] == [True, False]
    assert [hit.turn_id for hit in await store.search("I would like")] == [whole.id] != [stub.id]
