"""Opening: making, upgrading, refusing and recovering a data folder."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from avatar.core.errors import SetupError, StoreError
from avatar.store import Store, TurnRecord, new_id
from avatar.store.audio import AudioFolder
from avatar.store.database import MIGRATIONS, connect, upgrade
from avatar.store.tables import metadata

VERSION_1 = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE conversations (
    number INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    language TEXT,
    instructions TEXT
);
CREATE INDEX conversations_by_use ON conversations (updated_at, id);
CREATE TABLE turns (
    number INTEGER NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    input_kind TEXT NOT NULL CHECK (input_kind IN ('speech', 'text')),
    status TEXT NOT NULL CHECK (status IN ('completed', 'interrupted', 'failed')),
    user_text TEXT NOT NULL,
    user_language TEXT,
    generated_text TEXT NOT NULL,
    heard_text TEXT NOT NULL,
    error_code TEXT,
    timings JSON NOT NULL,
    engines JSON NOT NULL,
    user_audio TEXT,
    reply_audio TEXT,
    UNIQUE (conversation_id, position),
    FOREIGN KEY (conversation_id) REFERENCES conversations (id) ON DELETE CASCADE
);
CREATE TABLE voice_profiles (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at TEXT NOT NULL,
    language TEXT,
    reference_text TEXT,
    consent_statement TEXT,
    consent_date TEXT,
    owner TEXT
);
CREATE VIRTUAL TABLE conversations_fts USING fts5 (
    title, content='conversations', content_rowid='number', tokenize='trigram');
CREATE TRIGGER conversations_fts_insert AFTER INSERT ON conversations BEGIN
    INSERT INTO conversations_fts (rowid, title)
    VALUES (new.number, new.title);
END;
CREATE TRIGGER conversations_fts_delete AFTER DELETE ON conversations BEGIN
    INSERT INTO conversations_fts (conversations_fts, rowid, title)
    VALUES ('delete', old.number, old.title);
END;
CREATE TRIGGER conversations_fts_update AFTER UPDATE OF title ON conversations BEGIN
    INSERT INTO conversations_fts (conversations_fts, rowid, title)
    VALUES ('delete', old.number, old.title);
    INSERT INTO conversations_fts (rowid, title)
    VALUES (new.number, new.title);
END;
CREATE VIRTUAL TABLE turns_fts USING fts5 (
    user_text, heard_text, generated_text, content='turns', content_rowid='number', tokenize='trigram');
CREATE TRIGGER turns_fts_insert AFTER INSERT ON turns BEGIN
    INSERT INTO turns_fts (rowid, user_text, heard_text, generated_text)
    VALUES (new.number, new.user_text, new.heard_text, new.generated_text);
END;
CREATE TRIGGER turns_fts_delete AFTER DELETE ON turns BEGIN
    INSERT INTO turns_fts (turns_fts, rowid, user_text, heard_text, generated_text)
    VALUES ('delete', old.number, old.user_text, old.heard_text, old.generated_text);
END;
CREATE TRIGGER turns_fts_update AFTER UPDATE OF user_text, heard_text, generated_text ON turns BEGIN
    INSERT INTO turns_fts (turns_fts, rowid, user_text, heard_text, generated_text)
    VALUES ('delete', old.number, old.user_text, old.heard_text, old.generated_text);
    INSERT INTO turns_fts (rowid, user_text, heard_text, generated_text)
    VALUES (new.number, new.user_text, new.heard_text, new.generated_text);
END;
INSERT INTO alembic_version VALUES ('0001');
"""
"""What the first release made. Later versions must open it; it is never edited."""

SOME_ROWS = """
INSERT INTO conversations VALUES (
    1, 'conv_AAAAAAAAAAAAAAAAAAAAAA', '', '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:00.000000Z', NULL, NULL
);
INSERT INTO turns (
    number, id, conversation_id, position, created_at, input_kind, status, user_text, user_language, generated_text,
    heard_text, error_code, timings, engines, user_audio, reply_audio
) VALUES (
    1, 'turn_AAAAAAAAAAAAAAAAAAAAAA', 'conv_AAAAAAAAAAAAAAAAAAAAAA', 0, '2026-01-01T00:00:00.000000Z', 'speech',
    'completed', '今天天气怎么样', 'zh', '晴天，很热', '晴天', NULL, '{"stt_ms": 12.0}', '{}', NULL, NULL
);
"""

PCM = (np.zeros(1600, np.float32), 16_000)


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return list(db.iterdump())


def with_migration(folder: Path, name: str, body: str) -> Path:
    """A copy of the migrations with one more on top."""
    scripts = folder / "migrations"
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    down = max(path.stem[1:5] for path in (scripts / "versions").glob("v*.py"))
    (scripts / "versions" / f"v{name}.py").write_text(
        f"from alembic import op\nrevision = {name!r}\ndown_revision = {down!r}\ndef upgrade():\n    {body}\n"
    )
    return scripts


def test_the_migrations_make_the_tables_the_code_knows(tmp_path: Path) -> None:
    upgrade(tmp_path / "avatar.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'avatar.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": False})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert [item for item in differences if not (item[0] == "remove_table" and "_fts" in item[1].name)] == []


def test_a_current_database_opens_without_alembic(tmp_path: Path) -> None:
    upgrade(tmp_path / "avatar.db")
    script = f"""
import asyncio, pathlib, sys, time
from avatar.store import Store
async def opened(name):
    begin_s = time.process_time()  # others who want the processor do not count
    store = await Store.open(pathlib.Path({str(tmp_path)!r}, name))
    took_s = time.process_time() - begin_s
    await store.aclose()
    return took_s
async def main():
    took_s = await opened("")
    assert "alembic" not in sys.modules
    new_s = await opened("new")
    assert "alembic" in sys.modules
    assert took_s < new_s / 4, (took_s, new_s)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=30)


def test_processes_that_start_at_once_make_one_database(tmp_path: Path) -> None:
    script = """
import pathlib, sys
import alembic.command, alembic.config
from avatar.store.database import upgrade
print("ready", flush=True)
sys.stdin.readline()
upgrade(pathlib.Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "avatar.db")]
    children = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(4)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=30)
    assert [child.returncode for child in children] == [0, 0, 0, 0]


async def test_a_database_of_a_newer_avatar_is_refused_untouched(tmp_path: Path) -> None:
    database = tmp_path / "avatar.db"
    upgrade(database, with_migration(tmp_path, "9000", "op.execute('CREATE TABLE later (id TEXT)')"))
    before = dump(database)
    with pytest.raises(SetupError, match="version 9000"):
        await Store.open(tmp_path)
    assert dump(database) == before


@pytest.mark.parametrize("existing", [True, False])
def test_a_migration_that_fails_leaves_nothing_of_itself(tmp_path: Path, existing: bool) -> None:
    database = tmp_path / "avatar.db"
    if existing:
        upgrade(database)
    before = dump(database) if existing else ["BEGIN TRANSACTION;", "COMMIT;"]
    body = "op.execute('CREATE TABLE half (id TEXT)'); op.execute('INSERT INTO nowhere VALUES (1)')"
    scripts = with_migration(tmp_path, "9000", body)
    with pytest.raises(OperationalError):
        upgrade(database, scripts)
    assert dump(database) == before
    upgrade(database)


def test_a_migration_that_orphans_rows_is_undone(tmp_path: Path) -> None:
    database = tmp_path / "avatar.db"
    upgrade(database)
    with closing(sqlite3.connect(database)) as db:
        db.executescript(SOME_ROWS)
    before = dump(database)
    with pytest.raises(SetupError, match="orphan"):
        upgrade(database, with_migration(tmp_path, "9000", "op.execute('DELETE FROM conversations')"))
    assert dump(database) == before


async def test_what_version_1_wrote_opens(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "avatar.db")) as db:
        db.executescript(VERSION_1 + SOME_ROWS)
    store = await Store.open(tmp_path)
    (hit,) = await store.search("今天天气")
    (turn,) = await store.turns(hit.conversation_id)
    assert (turn.heard_text, turn.timings, turn.has_reply_audio) == ("晴天", {"stt_ms": 12.0}, False)
    assert turn.calls == ()
    another = TurnRecord(conversation_id=hit.conversation_id, input_kind="text", status="completed")
    assert (await store.save_turn(another)).position == 1
    await store.aclose()


def test_an_upgrade_keeps_the_rows_of_version_1(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "avatar.db")) as db:
        db.executescript(VERSION_1 + SOME_ROWS)
    scripts = with_migration(tmp_path, "9000", "op.execute('ALTER TABLE turns ADD COLUMN mood TEXT')")
    upgrade(tmp_path / "avatar.db", scripts)
    with closing(sqlite3.connect(tmp_path / "avatar.db")) as db:
        assert db.execute("SELECT user_text, mood FROM turns").fetchall() == [("今天天气怎么样", None)]
        assert db.execute("SELECT version_num FROM alembic_version").fetchall() == [("9000",)]


async def test_the_promises_of_sqlite_are_kept(tmp_path: Path) -> None:
    upgrade(tmp_path / "avatar.db")
    engine = connect(tmp_path / "avatar.db")
    async with engine.connect() as db:
        got = {
            name: await db.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    await engine.dispose()
    assert got == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    assert (tmp_path / "avatar.db").stat().st_mode & 0o077 == 0


async def test_a_folder_that_cannot_be_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        await Store.open(tmp_path / "file")


async def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "avatar.db").write_text("something else entirely " * 100)
    with pytest.raises(StoreError):
        await Store.open(tmp_path)


async def test_a_strange_path_is_only_a_path(tmp_path: Path) -> None:
    data_dir = tmp_path / "a b?c#d%20e:f 你好"
    await (await Store.open(data_dir)).aclose()
    assert (data_dir / "avatar.db").is_file()


async def test_recovery_ends_what_a_crash_left_half_done(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    kept, half_deleted = await store.create_conversation(), await store.create_conversation()
    both = [
        TurnRecord(conversation_id=made.id, input_kind="speech", status="completed", user_audio=PCM)
        for made in (kept, half_deleted)
    ]
    saved = [await store.save_turn(record) for record in both]
    await store.delete(half_deleted.id)
    await store.aclose()

    audio, root = AudioFolder(tmp_path / "audio"), tmp_path / "audio"
    staged, placed = new_id("turn"), new_id("turn")
    audio.stage(kept.id, staged, {"user": PCM})  # killed before the rename
    audio.stage(kept.id, placed, {"user": PCM})
    audio.place(kept.id, placed, ["user"])  # killed before the commit
    (root / ".pending" / f"{kept.id}.{saved[0].id}").mkdir()  # killed after the commit
    audio.mark_deletion(kept.id)  # killed before the deletion was committed
    audio.stage(half_deleted.id, new_id("turn"), {"user": PCM})
    audio.mark_deletion(half_deleted.id)  # killed after it was, its recordings still there
    (root / half_deleted.id).mkdir()
    (root / half_deleted.id / f"{saved[1].id}.user.ogg").write_bytes(b"OggS")
    (root / ".pending" / "something else").mkdir()

    store = await Store.open(tmp_path)
    left = {str(path.relative_to(root)) for path in root.rglob("*")}
    assert left == {".pending", ".pending/something else", kept.id, f"{kept.id}/{saved[0].id}.user.ogg"}
    await store.audio_path(kept.id, saved[0].id, "user")
    await store.aclose()


async def test_a_second_process_does_not_recover_what_is_being_saved(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    conversation = await store.create_conversation()
    audio, turn_id = AudioFolder(tmp_path / "audio"), new_id("turn")
    audio.stage(conversation.id, turn_id, {"user": PCM})  # as the first one has it while it saves
    await (await Store.open(tmp_path)).aclose()
    audio.place(conversation.id, turn_id, ["user"])
    await store.aclose()
