"""`avatar voices` as a user types it, beside a running server."""

import asyncio
import re
from pathlib import Path

import pytest

from avatar import choosing
from avatar.core.audio import INPUT_RATE_HZ
from avatar.core.errors import EngineFailed
from avatar.core.watermark import embed
from avatar.engines.builtin import BUILTIN
from avatar.engines.registry import EngineSpec
from avatar.scoring import score
from avatar.settings import load
from tests.fakes.cloner import FakeCloner
from tests.integration.test_command_line import run
from tests.integration.voices import at_level, ready, voice_server, wav
from tests.speech import beckett, spoken

pytestmark = pytest.mark.weights


async def test_a_voice_is_listed_and_scored(tmp_path: Path, models_dir: Path) -> None:
    async with voice_server(tmp_path / "data", models_dir) as client:
        _, profile = await client.upload(wav(at_level(beckett())), language="en")
        assert (await client.enrolled(profile["id"]))["status"] == "ready"
        listed = await asyncio.to_thread(run, tmp_path, "voices", "list", models=models_dir)
        assert f"{profile['id']}  Sam   ready   en" in listed.stdout
        scored = await asyncio.to_thread(run, tmp_path, "voices", "score", "Sam", models=models_dir)
    assert scored.returncode == 0, scored.stderr
    assert "sounds like another speaker" in scored.stdout  # espeak-ng clones nothing, and the tool says so
    assert "clones no voices" in scored.stdout
    assert re.search(r"similarity 0\.\d{3}", scored.stdout)
    assert re.search(r"weather is nice today.*\d%", scored.stdout)


async def test_an_engine_that_makes_no_speech_is_named(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hums = EngineSpec("tts", "hummer", lambda weights, options: FakeCloner())
    monkeypatch.setattr(choosing, "BUILTIN", (*BUILTIN, hums))
    async with voice_server(tmp_path, models_dir) as client:
        await ready(client, wav(at_level(beckett())), language="en")
    chosen = load(overrides={"data_dir": tmp_path, "models_dir": models_dir, "tts": {"engine": "hummer"}})
    with pytest.raises(EngineFailed, match=r"“The weather is nice.* is no speech"):
        await score(chosen, "Sam")


async def test_marked_speech_is_told_from_speech(tmp_path: Path) -> None:
    speech = await spoken("What a lovely day it is today, and how nice of you to come. " * 2)
    (tmp_path / "speech.wav").write_bytes(wav(speech))
    (tmp_path / "marked.wav").write_bytes(wav(embed(speech, INPUT_RATE_HZ, "avatar")))
    for name, code, word in (("marked", 0, "marked (score"), ("speech", 1, "no mark found")):
        result = await asyncio.to_thread(run, tmp_path, "voices", "detect", str(tmp_path / f"{name}.wav"))
        assert (result.returncode, word in result.stdout) == (code, True)


def test_what_is_no_audio_and_nobody_are_told(tmp_path: Path, models_dir: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    result = run(tmp_path, "voices", "detect", str(tmp_path / "a.wav"), models=models_dir)
    assert result.returncode == 1
    assert "none of the audio files" in result.stderr
    result = run(tmp_path, "voices", "score", "nobody", models=models_dir)
    assert "There is no voice 'nobody'" in result.stderr
    assert "Traceback" not in result.stderr
