"""Sessions that ask for `quality` high, on a real server: espeak-ng is the better voice beside one that hums."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from avatar import choosing
from avatar.engines.registry import EngineSpec
from avatar.hub import catalog
from avatar.hub.catalog import Model, ModelFile
from tests.fakes.gpu import GIB, FakeGpu
from tests.fakes.tts import FakeTextToSpeech
from tests.integration.models_client import call
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled


async def test_high_quality_is_spoken_by_the_other_engine(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tts={"high_engine": "espeak-ng"})
    async with serving(fake_engines(), settings) as server:
        for quality, rate_hz, name in (
            ("high", 22_050, "espeak-ng (en-us)"),
            ("fast", 24_000, "fake text to speech"),
            ("high", 22_050, "espeak-ng (en-us)"),
        ):
            async with server.client() as client:
                ready = await client.start(quality=quality)
                assert ready["output"]["sample_rate"] == rate_hz
                assert ready["engines"]["tts"] == name
                await client.send("text", text="Hello?")
                assert (await client.until("reply.done"))["status"] == "completed"
            assert client.pcm.size
            assert not [message for message in client.messages if message["type"] == "error"]


async def test_a_better_voice_that_cannot_be_had_is_told_after_the_session_is_ready(tmp_path: Path) -> None:
    for tts in ({"high_engine": "kokoro"}, {}):
        async with serving(fake_engines(), settings_for(tmp_path, tts=tts)) as server, server.client() as client:
            ready = await client.start(quality="high")
            told = await client.until("error")
            assert (told["code"], told["fatal"]) == ("QUALITY_FALLBACK", False)
            assert ("kokoro" if tts else "tts.high_engine") in told["message"]
            assert ready["output"]["sample_rate"] == 24_000
            assert client.messages[0]["type"] == "session.ready"
            await client.send("text", text="Hello?")
            assert (await client.until("reply.done"))["status"] == "completed"


class Singers:
    """Every better voice that was made. Each has weights in a folder and takes 2 GiB of the GPU."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gpu = FakeGpu()
        self.made: list[FakeTextToSpeech] = []
        self.weights: list[Path | None] = []
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "voice.bin").write_bytes(b"la")
        spec = EngineSpec("tts", "singer", self.build, weights=("tiny-voice",), takes="folder")
        monkeypatch.setattr(choosing, "BUILTIN", (spec,))
        model = Model("tiny-voice", "tts", "Tiny voice", "MIT", (ModelFile("voice.bin"),), huggingface="org/tiny-voice")
        monkeypatch.setitem(catalog.MODELS, "tiny-voice", model)

    def build(self, weights: Path | None, options: Any) -> FakeTextToSpeech:
        self.gpu.used_bytes += 2 * GIB
        self.weights.append(weights)
        self.made.append(FakeTextToSpeech(sample_rate_hz=16_000))
        return self.made[-1]


@pytest.fixture
def singers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Singers:
    return Singers(tmp_path / "models" / "tiny-voice", monkeypatch)


@asynccontextmanager
async def singing(tmp_path: Path, **tts: Any) -> AsyncIterator[Server]:
    settings = settings_for(tmp_path, tts={"high_engine": "singer", **tts}, conversation={"stall_timeout_s": 1})
    async with serving(fake_engines(), settings) as server:
        yield server


async def seat(server: Server) -> Any:
    _, body = await call(server, "GET", "/api/engines")
    return next(one for one in body["stages"] if one["stage"] == "tts_high")


async def test_it_is_shown_and_its_weights_are_not_deleted_while_it_speaks(
    tmp_path: Path, singers: Singers, monkeypatch: pytest.MonkeyPatch
) -> None:
    singers.gpu.plug_in(monkeypatch)
    async with singing(tmp_path, high_idle_s=0) as server:
        assert (await seat(server))["state"] == "unloaded"
        async with server.client() as client:
            await client.start(quality="high")
            shown = await seat(server)
            assert (shown["state"], shown["engine"], shown["sessions"]) == ("ready", "singer", 1)
            assert (shown["weights"], shown["vram_bytes"]) == (str(singers.folder), 2 * GIB)
            status, problem = await call(server, "DELETE", "/api/models/tiny-voice")
            assert (status, problem["code"]) == (409, "CONFLICT")
            assert (await call(server, "GET", "/api/models/tiny-voice"))[1]["used_by"] == ["tts_high"]
            assert singers.folder.exists()
        await settled(lambda: singers.made[0].closed)
        assert (await seat(server))["state"] == "unloaded"
        assert (await call(server, "DELETE", "/api/models/tiny-voice"))[0] == 204


async def test_it_is_loaded_and_unloaded_by_hand(tmp_path: Path, singers: Singers) -> None:
    async with singing(tmp_path, high_engine="") as server:
        assert (await call(server, "GET", "/api/engines"))[1]["high_engine"] is None
        assert (await call(server, "POST", "/api/engines/tts_high/load"))[0] == 409
        status, _ = await call(server, "POST", "/api/engines/tts_high/load", {"engine": "singer"})
        assert status == 202
        await settled(lambda: server.service.lineup.seats["tts_high"].state == "ready")
        assert (await call(server, "GET", "/api/engines"))[1]["high_engine"] == "singer"
        async with server.client() as client:
            assert (await client.start(quality="high"))["output"]["sample_rate"] == 16_000
        assert (await call(server, "POST", "/api/engines/tts_high/unload"))[1]["state"] == "unloaded"
        await settled(lambda: singers.made[0].closed)


async def test_the_settings_may_name_a_folder_and_clients_may_not(tmp_path: Path, singers: Singers) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    async with singing(tmp_path, high_model=str(folder)) as server, server.client() as client:
        assert (await client.start(quality="high"))["output"]["sample_rate"] == 16_000
        assert singers.weights == [folder]
        wish = {"engine": "singer", "model": str(tmp_path)}
        status, problem = await call(server, "POST", "/api/engines/tts_high/load", wish)
        assert (status, "not in the models folder" in problem["detail"]) == (409, True)


async def test_one_that_hangs_is_replaced_in_the_middle_of_a_reply_and_for_whoever_comes(
    tmp_path: Path, singers: Singers, caplog: pytest.LogCaptureFixture
) -> None:
    async with singing(tmp_path) as server:
        async with server.client() as client:
            await client.start(quality="high")
            singers.made[0].hang = True
            for _ in range(2):
                await client.send("text", text="Hello?")
                assert (await client.until("reply.done"))["status"] == "completed"
            notices = [message for message in client.messages if message["type"] == "error"]
            assert [notice["code"] for notice in notices] == ["QUALITY_FALLBACK"]
            assert (await seat(server))["problem"] == "It did not speak in time."
            async with server.client() as second:
                await second.start(quality="high")
                await second.send("text", text="Hello?")
                assert (await second.until("reply.done"))["status"] == "completed"
            assert singers.made[1].spoken
        await settled(lambda: singers.made[0].closed)
    said = [text.strip() for engine in singers.made for text in engine.spoken]
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert said
    assert not [text for text in said for line in logged if text in line]
