"""A backup made beside a store that is being written to, and what comes of it in a new folder."""

import asyncio
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avatar.cli.backup import Held, back_up, restore
from avatar.core.errors import SetupError
from avatar.store import Recording, Store, Turn, TurnRecord
from tests.integration.test_command_line import run
from tests.unit.test_voice_library import ANN

SOUND: Recording = (np.sin(np.arange(8_000, dtype=np.float32) / 10), 16_000)


async def talk(store: Store, text: str) -> Turn:
    conversation = await store.create_conversation()
    said = TurnRecord(
        conversation_id=conversation.id,
        input_kind="speech",
        status="completed",
        user_text=text,
        heard_text="Yes.",
        user_audio=SOUND,
        reply_audio=SOUND,
    )
    return await store.save_turn(said)


async def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "all.tar.gz"
    store = await Store.open(old)
    before = [await talk(store, f"before {number}") for number in range(3)]
    await store.voices.save(ANN)
    (old / "voices" / ANN.id).mkdir(parents=True)
    (old / "voices" / ANN.id / "reference.wav").write_bytes(b"RIFF")

    async def go_on() -> None:
        for number in range(1000):
            await talk(store, f"meanwhile {number}")

    writing = asyncio.create_task(go_on())
    held = await asyncio.to_thread(back_up, old, file)
    assert not writing.done()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await store.aclose()

    assert file.stat().st_mode & 0o777 == 0o600
    assert set(os.listdir(tmp_path)) == {"old", "all.tar.gz"}
    umask = os.umask(0o022)
    try:
        await asyncio.to_thread(restore, file, new)
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o077 for path in new.rglob("*")} == {0}
    again = await Store.open(new)
    there = (await again.conversations(100)).items
    turns = [turn for conversation in there for turn in await again.turns(conversation.id)]
    assert held == Held(len(there), len(turns), 1, files=2 * len(turns) + 1)
    assert {turn.id for turn in before} <= {turn.id for turn in turns}
    for turn in turns:
        for side in ("user", "reply"):
            assert soundfile.info(await again.audio_path(turn.conversation_id, turn.id, side)).frames
    assert await again.voices.all() == [ANN]
    assert (new / "voices" / ANN.id / "reference.wav").read_bytes() == b"RIFF"
    assert await again.search("before 1")
    await again.aclose()


async def saved(folder: Path) -> Path:
    store = await Store.open(folder)
    await talk(store, "hello")
    await store.aclose()
    return folder


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    data, file = await saved(tmp_path / "data"), tmp_path / "all.tar.gz"
    file.write_text("precious")
    with pytest.raises(SetupError, match="is there already"):
        back_up(data, file)
    assert file.read_text() == "precious"
    back_up(data, tmp_path / "other.tar.gz")
    with pytest.raises(SetupError, match="holds conversations already"):
        restore(tmp_path / "other.tar.gz", data)


@pytest.mark.parametrize("end", [0, 40, -40])
async def test_what_is_no_whole_backup_makes_no_store(tmp_path: Path, end: int) -> None:
    file, new = tmp_path / "all.tar.gz", tmp_path / "new"
    back_up(await saved(tmp_path / "data"), file)
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(SetupError, match=r"was not restored|no backup"):
        restore(file, new)
    assert not (new / "avatar.db").exists()


def test_another_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "file", "file")
    with pytest.raises(SetupError, match="no backup that `avatar backup` made"):
        restore(tmp_path / "all.tar.gz", tmp_path / "new")
    assert not (tmp_path / "new").exists()


async def test_the_commands(tmp_path: Path) -> None:
    await saved(tmp_path / "data")
    file = str(tmp_path / "all.tar.gz")
    made = await asyncio.to_thread(run, tmp_path, "backup", file)
    assert "1 conversations with 1 turns, 0 voices, 2 files" in made.stdout
    refused = await asyncio.to_thread(run, tmp_path, "restore", file)
    assert (refused.returncode, "AVATAR_DATA_DIR" in refused.stderr) == (1, True)
    done = await asyncio.to_thread(run, tmp_path, "restore", file, AVATAR_DATA_DIR=str(tmp_path / "new"))
    assert (done.returncode, (tmp_path / "new/avatar.db").is_file()) == (0, True)
    nothing = await asyncio.to_thread(run, tmp_path, "backup", f"{file}.2", AVATAR_DATA_DIR=str(tmp_path / "none"))
    assert (nothing.returncode, "nothing to back up" in nothing.stderr) == (1, True)
