"""Who speaks: what sessions are told and hear when a voice is chosen, cannot be spoken, or is deleted."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from avatar import choosing
from avatar.core.audio import silence
from avatar.core.errors import NotFound
from avatar.engines.registry import EngineSpec
from avatar.hub import catalog
from avatar.hub.catalog import Model, ModelFile
from avatar.settings import Settings
from tests.fakes.cloner import FakeCloner
from tests.fakes.tts import FakeTextToSpeech
from tests.integration.realtime_client import calling
from tests.integration.serving import picks_of, serving, settings_for, settled
from tests.integration.voices import VoiceClient, client, engines, ready, recording, tts, voice_server, wav

__all__ = ["client", "recording", "tts"]  # the fixtures

pytestmark = pytest.mark.weights


async def test_an_engine_that_clones_nothing_speaks_with_its_own_voice_and_says_so(
    tmp_path: Path, models_dir: Path, recording: bytes
) -> None:
    async with voice_server(tmp_path, models_dir, FakeTextToSpeech()) as client:
        voice_id = await ready(client, recording, name="玛丽")
        url = f"{client.server.url}/api/voice-profiles/{voice_id}/preview"
        async with client.http.post(url, json={"text": "Hello."}) as response:
            assert response.status == 200
            assert "clones no voices" in response.headers["X-Avatar-Notice"]
        async with client.server.client() as talker:
            await talker.start(voice_id=voice_id)
            told = await talker.until("error")
        assert (told["code"], told["fatal"]) == ("VOICE_FALLBACK", False)
        assert "玛丽" in told["message"]
        async with client.server.client() as talker:
            await talker.start()
            await talker.send("session.update", voice_id=voice_id)
            assert (await talker.until("error"))["code"] == "VOICE_FALLBACK"
        async with (
            openai.AsyncOpenAI(base_url=f"{client.server.url}/v1", api_key="none", max_retries=0) as caller,
            calling(caller) as line,
        ):
            await line.update(audio={"output": {"voice": {"id": voice_id}}})
            assert (await line.until("error"))["error"]["code"] == "voice_fallback"
            await line.update(instructions="Be kind.")
            assert len(line.of("error")) == 1
        _, speakers = await client.call("GET", "/v1/voices")
        assert [voice["available"] for voice in speakers["data"]] == [False, True, True]


async def test_a_session_turns_to_another_voice_and_back(
    client: VoiceClient, tts: FakeCloner, recording: bytes
) -> None:
    voice_id = await ready(client, recording)
    async with client.server.client() as talker:
        await talker.start()
        for wanted, spoken_with in (("Sam", voice_id), ("", None)):
            await talker.send("session.update", voice_id=wanted)
            await talker.send("text", text="Hello?")
            await talker.until("reply.done")
            assert tts.requests[-1][0] == spoken_with
        await talker.send("session.update", voice_id="nobody")
        assert (await talker.until("error"))["code"] == "NOT_FOUND"


async def test_a_session_speaks_with_a_voice_and_hears_that_another_is_not_ready(
    client: VoiceClient, tts: FakeCloner, recording: bytes
) -> None:
    voice_id = await ready(client, recording)
    _, broken = await client.upload(wav(silence(80_000)), name="Nobody")
    await client.enrolled(broken["id"])
    async with client.server.client() as talker:
        await talker.send("session.start", voice_id=broken["id"])
        assert (await talker.until("error"))["code"] == "VOICE_NOT_READY"
        await talker.start(voice_id="Sam")
        await talker.send("text", text="Hello?")
        await talker.until("reply.done")
    assert tts.requests[-1][0] == voice_id


async def test_a_voice_deleted_while_it_speaks_ends_its_reply_and_the_next_turn_has_the_default(
    client: VoiceClient, tts: FakeCloner, recording: bytes
) -> None:
    voice_id = await ready(client, recording)
    async with client.server.client() as talker, client.server.client() as other:
        await other.start()
        await talker.start(voice_id=voice_id)
        await talker.send("text", text="Hello?")
        await talker.until("reply.audio")
        assert (await client.call("DELETE", f"/api/voice-profiles/{voice_id}"))[0] == 204
        told = await talker.until("error")
        assert (told["code"], told["fatal"]) == ("VOICE_FALLBACK", False)
        assert "deleted" in told["message"]
        assert (await talker.until("reply.done"))["status"] == "completed"
        assert tts.requests == [(voice_id, None)]
        await talker.send("text", text="And now?")
        assert (await talker.until("reply.done"))["status"] == "completed"
        assert tts.requests[1:] == [(None, None)]
        await other.send("text", text="Hello?")
        await other.until("reply.done")
        assert not [message for message in other.messages if message["type"] == "error"]


async def test_every_engine_that_learned_a_voice_forgets_it(
    client: VoiceClient, tts: FakeCloner, recording: bytes, tmp_path: Path
) -> None:
    voice_id = await ready(client, recording)
    better, slow = FakeCloner(), FakeCloner()
    slow.conditioning_version = "fake-2"
    slow.hold.clear()
    library = client.server.service.library()
    await library.teach(better, voice_id)
    learning = asyncio.create_task(library.teach(slow, voice_id))
    await client.call("DELETE", f"/api/voice-profiles/{voice_id}")
    slow.hold.set()
    with pytest.raises(NotFound):
        await learning
    assert [tts.learned, better.learned, slow.learned] == [{}, {}, {}]
    assert not list((tmp_path / "voices" / ".conditioning").iterdir())


async def test_a_default_voice_deleted_gives_way_to_the_engines(
    client: VoiceClient, tts: FakeCloner, recording: bytes
) -> None:
    voice_id = await ready(client, recording)
    await client.call("PATCH", f"/api/voice-profiles/{voice_id}", json={"is_default": True})
    async with client.server.client() as talker:
        await talker.start()
        for spoken_with in (voice_id, None):
            await talker.send("text", text="Hello?")
            await talker.until("reply.done")
            assert tts.requests[-1][0] == spoken_with
            await client.call("DELETE", f"/api/voice-profiles/{voice_id}")


class Voiceless(FakeCloner):
    """Has no voice of its own, as a base model."""

    capabilities = replace(FakeCloner.capabilities, has_own_voices=False)


async def test_the_first_voice_brought_speaks_where_the_engine_has_none(
    tmp_path: Path, models_dir: Path, recording: bytes
) -> None:
    tts = Voiceless()
    async with voice_server(tmp_path, models_dir, tts) as client:
        first, second = await ready(client, recording), await ready(client, recording, name="Second")

        async def speaks(voice_id: str | None) -> None:
            async with client.server.client() as talker:
                await talker.start()
                await talker.send("text", text="Hello?")
                await talker.until("reply.done")
            assert tts.requests[-1][0] == voice_id
            assert not [message for message in talker.messages if message["type"] == "error"]
            _, speakers = await client.call("GET", "/v1/voices")
            assert [voice["id"] for voice in speakers["data"] if voice["is_default"]] == [voice_id or "hum"]

        await speaks(first)
        await client.call("PATCH", f"/api/voice-profiles/{second}", json={"is_default": True})
        await speaks(second)
        await client.call("DELETE", f"/api/voice-profiles/{second}")
        await speaks(first)
        await client.call("DELETE", f"/api/voice-profiles/{first}")
        await speaks(None)


@pytest.fixture
def singer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, models_dir: Path) -> Settings:
    """An engine with three models, of which `cloner` clones; all are here, and settings that leave the choice open."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "ge2e-speaker").symlink_to(models_dir / "ge2e-speaker")
    for key in ("soloist", "choir", "cloner"):
        (models / key).mkdir()
        (models / key / "voice.bin").write_bytes(b"la")
        monkeypatch.setitem(catalog.MODELS, key, Model(key, "tts", key, "MIT", (ModelFile("voice.bin"),)))

    def build(weights: Path | None, options: Any) -> FakeTextToSpeech:
        assert weights is not None
        return FakeCloner() if weights.name == "cloner" else FakeTextToSpeech()

    spec = EngineSpec("tts", "singer", build, weights=("soloist", "choir", "cloner"), cloning_weights=("cloner",))
    monkeypatch.setattr(choosing, "BUILTIN", (spec,))
    return settings_for(tmp_path)


@pytest.mark.parametrize(("by_hand", "serves"), [(None, "cloner"), ("choir", "choir")])
async def test_the_first_voice_brings_the_weights_that_speak_it_unless_others_were_chosen_by_hand(
    singer: Settings, recording: bytes, by_hand: str | None, serves: str
) -> None:
    first = picks_of(engines(FakeTextToSpeech())) | {"tts": choosing.pick(singer, "tts", "singer", None)}
    async with serving(first, singer) as server, aiohttp.ClientSession() as http:
        client, seat = VoiceClient(http, server), server.service.lineup.seats["tts"]

        def serving_now() -> str:
            weights = seat.loaded.pick.weights if seat.loaded and not seat.coming else None
            return weights.name if weights else ""

        def can_speak(voice_id: str) -> bool:
            with server.service.house().speaker() as tts:
                return voice_id in tts.voices

        assert serving_now() == "soloist"
        if by_hand:
            await client.call("POST", "/api/engines/tts/load", json={"engine": "singer", "model": by_hand})
            await settled(lambda: serving_now() == by_hand)
        voice_id = await ready(client, recording)
        await settled(lambda: not server.service.lineup._tasks)
        assert serving_now() == serves
        await settled(lambda: can_speak(voice_id) == (serves == "cloner"))
        async with server.client() as talker:
            await talker.start(voice_id=voice_id)
            await talker.send("text", text="Hello?")
            await talker.until("reply.done")
        assert any(message["type"] == "error" for message in talker.messages) == (serves != "cloner")


async def test_a_voice_deleted_under_a_realtime_session(client: VoiceClient, tts: FakeCloner, recording: bytes) -> None:
    voice_id = await ready(client, recording)
    async with (
        openai.AsyncOpenAI(base_url=f"{client.server.url}/v1", api_key="none", max_retries=0) as caller,
        calling(caller) as line,
    ):
        await line.update(audio={"output": {"voice": voice_id}})
        for spoken_with in (voice_id, None, None):
            content = [{"type": "input_text", "text": "Hello."}]
            await line.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
            await line.send("response.create")
            done = (await line.until("response.done"))["response"]
            assert done["status"] == "completed"
            assert tts.requests[-1][0] == spoken_with
            await client.call("DELETE", f"/api/voice-profiles/{voice_id}")
            await line.update(instructions="Be kind.")
        told = [event["error"] for event in line.of("error")]
        assert [(error["code"], "deleted" in error["message"]) for error in told] == [("voice_fallback", True)]
