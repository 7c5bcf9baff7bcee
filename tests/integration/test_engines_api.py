"""Engines changed while a real server talks: the choice is the real one, the engines are fakes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from avatar import choosing
from avatar.engines.registry import EngineSpec
from avatar.hub import catalog
from avatar.hub.catalog import Model, ModelFile
from tests.fakes.gpu import GIB, FakeGpu
from tests.fakes.tts import FakeTextToSpeech
from tests.integration.models_client import call, news, until
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled
from tests.unit.conversation import Fakes


class Voices:
    """Every voice engine that was made. Each takes 2 GiB of the GPU."""

    def __init__(self) -> None:
        self.gpu = FakeGpu()
        self.made: list[FakeTextToSpeech] = []

    def build(self, weights: Path | None, options: Any) -> FakeTextToSpeech:
        self.gpu.used_bytes += 2 * GIB
        self.made.append(FakeTextToSpeech(sample_rate_hz=16_000))
        return self.made[-1]


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> Voices:
    """Two engines to choose from: one that needs weights, one that cannot run here."""
    voices = Voices()
    specs = (
        EngineSpec("tts", "singer", voices.build, weights=("tiny-voice",), praise="it sings"),
        EngineSpec("tts", "orator", voices.build, ("no_such_package",)),
    )
    monkeypatch.setattr(choosing, "BUILTIN", specs)
    model = Model("tiny-voice", "tts", "Tiny voice", "MIT", (ModelFile("voice.bin"),), huggingface="org/tiny-voice")
    monkeypatch.setitem(catalog.MODELS, "tiny-voice", model)
    return voices


@pytest_asyncio.fixture
async def server(tmp_path: Path, voices: Voices) -> AsyncIterator[Server]:
    async with serving(fake_engines(Fakes()), settings_for(tmp_path)) as running:
        yield running


def put_weights(server: Server) -> Path:
    folder = server.service.settings.models_dir / "tiny-voice"
    folder.mkdir(parents=True)
    (folder / "voice.bin").write_bytes(b"la")
    return folder


async def seat(server: Server, stage: str = "tts") -> Any:
    status, body = await call(server, "GET", "/api/engines")
    assert status == 200
    return next(one for one in body["stages"] if one["stage"] == stage)


async def load(server: Server) -> None:
    async with news(server, "engines") as socket:
        assert (await call(server, "POST", "/api/engines/tts/load", {"engine": "singer"}))[0] == 202
        assert (await until(socket, "done", "failed"))[-1]["state"] == "done"


async def test_what_serves_and_what_could(server: Server) -> None:
    now = await seat(server)
    assert (now["state"], now["name"], now["sessions"]) == ("ready", "fake text to speech", 0)
    singer, orator = now["options"]
    assert "no weights" in singer["why_not"]
    assert "no_such_package is not installed" in orator["why_not"]
    put_weights(server)
    assert (await seat(server))["options"][0] == {"engine": "singer", "why_not": None, "models": ["tiny-voice"]}


async def test_what_an_engine_takes_of_the_gpu_is_told(
    server: Server, voices: Voices, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_weights(server)
    assert (await call(server, "GET", "/api/engines"))[1]["gpu"] is None
    voices.gpu.plug_in(monkeypatch)
    await load(server)
    _, lineup = await call(server, "GET", "/api/engines")
    assert lineup["gpu"] == {"used_bytes": 5 * GIB, "total_bytes": 24 * GIB}
    now = await seat(server)
    assert (now["engine"], now["vram_bytes"]) == ("singer", 2 * GIB)


async def test_a_session_keeps_its_engine_and_the_next_has_the_new_one(server: Server, voices: Voices) -> None:
    put_weights(server)
    old = server.service.lineup.engines.tts
    assert isinstance(old, FakeTextToSpeech)
    async with server.client() as before:
        assert (await before.start())["output"]["sample_rate"] == 24_000
        await load(server)
        assert (await seat(server))["engine"] == "singer"
        async with server.client() as after:
            assert (await after.start())["output"]["sample_rate"] == 16_000
            assert (await seat(server))["sessions"] == 1
            for client, rate_hz in ((before, 24_000), (after, 16_000)):
                await client.send("text", text="Hello")
                assert (await client.until("reply.audio"))["sample_rate"] == rate_hz
                assert (await client.until("reply.done"))["status"] == "completed"
        assert not old.closed
    await settled(lambda: bool(old.closed))
    assert not voices.made[0].closed


async def test_a_model_in_use_is_not_deleted(server: Server) -> None:
    folder = put_weights(server)
    await load(server)
    status, problem = await call(server, "DELETE", "/api/models/tiny-voice")
    assert (status, problem["code"]) == (409, "CONFLICT")
    assert "in use by tts." in problem["detail"]
    assert folder.exists()
    _, model = await call(server, "GET", "/api/models/tiny-voice")
    assert model["used_by"] == ["tts"]
    assert (await call(server, "POST", "/api/engines/tts/unload"))[0] == 200
    assert (await call(server, "DELETE", "/api/models/tiny-voice"))[0] == 204
    assert not folder.exists()


async def test_without_a_voice_nobody_is_let_in_until_one_is_loaded(server: Server) -> None:
    put_weights(server)
    status, now = await call(server, "POST", "/api/engines/tts/unload")
    assert (status, now["state"]) == (200, "unloaded")
    status, ready = await server.get("/readyz")
    assert status == 503
    assert "No tts engine is loaded" in ready["reason"]
    async with server.client() as client:
        refusal = await client.until("error")
        assert refusal["fatal"]
    await load(server)
    assert (await server.get("/readyz"))[0] == 200


@pytest.mark.parametrize(
    ("stage", "body", "status", "said"),
    [
        ("tts", {"engine": "orator"}, 409, "not installed"),
        ("tts", {"engine": "nobody"}, 409, "Known: auto, singer, orator"),
        ("tts", {"engine": "singer"}, 409, "no weights"),
        ("tts", {"engine": "singer", "model": "/etc/passwd"}, 409, "cannot use"),
        ("tts", {"voice": "x"}, 400, "body.voice"),
        ("nose", {}, 400, "path.stage"),
    ],
)
async def test_what_cannot_be_loaded_is_said(server: Server, stage: str, body: object, status: int, said: str) -> None:
    answered, problem = await call(server, "POST", f"/api/engines/{stage}/load", body)
    assert (answered, problem["status"]) == (status, status)
    assert said in problem["detail"]
