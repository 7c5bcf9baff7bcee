"""What survives kill -9 and a full disk. This file is also the program that gets killed."""

import asyncio
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Set
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from avatar.core.errors import StoreError
from avatar.store import Recording, Store, TurnRecord

KILLS = 20
SAVERS = 4


def _sound(seconds: float) -> Recording:
    return np.random.default_rng(1).normal(0, 0.1, int(16_000 * seconds)).astype(np.float32), 16_000


def _turn(conversation_id: str, seconds: float = 0.5) -> TurnRecord:
    return TurnRecord(
        conversation_id=conversation_id,
        input_kind="speech",
        status="completed",
        user_text="今天天气怎么样",
        user_audio=_sound(seconds),
        reply_audio=_sound(seconds),
    )


def _promise(what: dict[str, object]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


async def _save_until_killed(data_dir: Path) -> None:
    """Several sessions save and delete without end; each line on stdout is a promise, or says that one is coming."""
    store = await Store.open(data_dir)

    async def session() -> None:
        while True:
            kept, gone = await store.create_conversation(), await store.create_conversation()
            for conversation in (gone, kept):
                turn = await store.save_turn(_turn(conversation.id))
                _promise({"saved": [conversation.id, turn.id]})
            _promise({"deleting": gone.id})
            await store.delete(gone.id)
            _promise({"deleted": gone.id})

    await asyncio.gather(*(session() for _ in range(SAVERS)))


async def _save_on_a_full_disk(data_dir: Path) -> None:
    """No file may grow past 20 kB for a while: neither a recording nor, at the second try, the database."""
    store = await Store.open(data_dir)
    conversation = await store.create_conversation()
    await store.save_turn(_turn(conversation.id))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    for seconds in (60, 0):
        try:
            await store.save_turn(_turn(conversation.id, seconds))
        except StoreError as error:
            recordings = [path.name for path in (data_dir / "audio").rglob("*") if path.is_file()]
            _promise({"error": str(error), "recordings": len(recordings)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.save_turn(_turn(conversation.id))
    await store.aclose()


def _start(what: str, data_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__, what, str(data_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def _kill_while_it_saves(data_dir: Path, after_lines: int) -> list[dict[str, object]]:
    """Every promise of a child that was killed after so many lines, those it made while dying included."""
    with _start("save_until_killed", data_dir) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(after_lines)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
    return [json.loads(line) for line in lines if line.endswith("\n")]


async def _check(data_dir: Path, saved: Set[tuple[str, str]] = frozenset(), deleted: Set[str] = frozenset()) -> None:
    store = await Store.open(data_dir)
    with closing(sqlite3.connect(data_dir / "avatar.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.execute("INSERT INTO turns_fts (turns_fts) VALUES ('integrity-check')")
        in_database = set(db.execute("SELECT conversation_id, id FROM turns"))
        named = {name for row in db.execute("SELECT user_audio, reply_audio FROM turns") for name in row}
        conversations = {id_ for (id_,) in db.execute("SELECT id FROM conversations")}
    root = data_dir / "audio"
    assert saved <= in_database
    assert not deleted & conversations
    assert named == {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert all((root / name).read_bytes()[:4] == b"OggS" for name in named)
    assert not list((root / ".pending").iterdir())
    await store.aclose()


@pytest.mark.timeout(240)
async def test_kill_9_loses_no_promise_and_leaves_no_half_turn(tmp_path: Path) -> None:
    chance = random.Random(7)
    saved: set[tuple[str, str]] = set()
    deleted: set[str] = set()
    for _ in range(KILLS):
        for promise in await asyncio.to_thread(_kill_while_it_saves, tmp_path, chance.randint(1, 12)):
            match promise:
                case {"saved": [str(conversation_id), str(turn_id)]}:
                    saved.add((conversation_id, turn_id))
                case {"deleting": str(conversation_id)}:
                    saved = {turn for turn in saved if turn[0] != conversation_id}
                case {"deleted": str(conversation_id)}:
                    deleted.add(conversation_id)
        await _check(tmp_path, saved, deleted)
    assert saved
    assert deleted


async def test_a_full_disk_fails_the_turn_alone(tmp_path: Path) -> None:
    with await asyncio.to_thread(_start, "save_on_a_full_disk", tmp_path) as child:
        assert child.stdout is not None
        output = await asyncio.to_thread(child.stdout.readlines)
    assert child.returncode == 0
    failures = [json.loads(line) for line in output]
    assert [failure["recordings"] for failure in failures] == [2, 2]
    assert "disk is full" in failures[0]["error"]
    with closing(sqlite3.connect(tmp_path / "avatar.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM turns").fetchone()
    assert count == 2
    await _check(tmp_path)


if __name__ == "__main__":
    programs = {"save_until_killed": _save_until_killed, "save_on_a_full_disk": _save_on_a_full_disk}
    asyncio.run(programs[sys.argv[1]](Path(sys.argv[2])))
