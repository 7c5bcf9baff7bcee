"""Enrolled voices over HTTP, on a real server with real decoders and the real speaker encoder."""

import asyncio
import io
import json
import time
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
import pytest_asyncio
import soundfile

from avatar.core.audio import INPUT_RATE_HZ, Pcm, silence
from avatar.core.errors import NotFound
from avatar.core.watermark import THRESHOLD, score
from avatar.engines.base import SpeechChunk
from avatar.engines.tts.espeak import Espeak
from tests.fakes.cloner import FakeCloner
from tests.fakes.tts import FakeTextToSpeech
from tests.integration.realtime_client import calling
from tests.integration.serving import settled
from tests.integration.voices import CONSENT, VoiceClient, at_level, voice_server, wav
from tests.speech import beckett, spoken

pytestmark = pytest.mark.weights

READY_S = 5.0

LONG = "What a lovely day it is today, and how nice of you to come and talk to me. " * 2


class SpeakingCloner(FakeCloner):
    """Speaks with espeak-ng, whatever voice it has learned: a mark wants more than a hum."""

    def __init__(self) -> None:
        super().__init__()
        self.espeak = Espeak()
        self.sample_rate_hz = self.espeak.sample_rate_hz

    def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        return self.espeak.speak(text, language=language)

    async def aclose(self) -> None:
        await self.espeak.aclose()


@pytest.fixture
def tts() -> FakeCloner:
    return FakeCloner()


@pytest_asyncio.fixture
async def client(tmp_path: Path, models_dir: Path, tts: FakeCloner) -> AsyncIterator[VoiceClient]:
    async with voice_server(tmp_path, models_dir, tts) as client:
        yield client


@pytest.fixture
def recording() -> bytes:
    return wav(at_level(beckett()))


async def ready(client: VoiceClient, recording: bytes, **fields: str) -> str:
    status, profile = await client.upload(recording, **fields)
    assert status == 202, profile
    enrolled = await client.enrolled(profile["id"])
    assert enrolled["status"] == "ready", enrolled
    voice_id: str = profile["id"]
    return voice_id


@pytest.mark.parametrize(
    ("path", "field"),
    [("/api/voice-profile", "audio"), ("/api/voice-profiles", "file"), ("/api/tts/qwen3/voices/upload", "audio")],
)
async def test_a_recording_becomes_a_voice(
    client: VoiceClient, tts: FakeCloner, recording: bytes, path: str, field: str
) -> None:
    status, profile = await client.upload(recording, path, field, language="en", reference_text="Ever tried.")
    assert (status, profile["status"]) == (202, "queued")
    profile = await client.enrolled(profile["id"])
    assert profile["status"] == "ready"
    assert profile["quality"]["speech_s"] > 3
    assert profile["quality"]["snr_db"] > 20
    assert tts.learned.keys() == {profile["id"]}
    assert tts.conditioned[0].rate_hz == 24_000
    assert tts.conditioned[0].text == "Ever tried."
    for prefix in ("/api/voice-profiles", "/api/tts/qwen3/voices"):
        _, listed = await client.call("GET", prefix)
        assert [voice["id"] for voice in listed["voices"]] == [profile["id"]]
        _, state = await client.call("GET", f"{prefix}/{profile['id']}/clone-status")
        assert (state["status"], state["progress"]) == ("ready", 1.0)


async def test_progress_is_told_step_by_step(client: VoiceClient, recording: bytes) -> None:
    async with client.http.ws_connect(f"{client.server.url}/ws/events?scope=qwen3_tts_voice_clone") as ws:
        await client.upload(recording)
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(30):
            while not seen or seen[-1]["state"] != "done":
                seen.append(json.loads((await ws.receive()).data))
    steps = [message["step"] for message in seen if "step" in message]
    order = ["decode", "trim", "quality", "embedding", "transcribe", "conditioning"]
    assert steps == [step for step in order if step in steps]  # a slow reader gets the newest alone
    assert {message["scope"] for message in seen} == {"qwen3_tts_voice_clone"}
    assert seen[-1]["fraction"] == 1.0


async def test_the_transcriber_fills_in_what_is_said(client: VoiceClient, recording: bytes) -> None:
    voice_id = await ready(client, recording)
    _, profile = await client.call("GET", f"/api/voice-profiles/{voice_id}")
    assert profile["reference_text"]


@pytest.mark.parametrize("prefix", ["/api/voice-profiles", "/api/tts/qwen3/voices"])
async def test_a_voice_is_changed_previewed_and_deleted(
    client: VoiceClient, tts: FakeCloner, recording: bytes, prefix: str
) -> None:
    voice_id = await ready(client, recording)
    url = f"{prefix}/{voice_id}"
    status, profile = await client.call("PATCH", url, json={"name": "萨姆 2", "is_default": True})
    assert (status, profile["name"], profile["is_default"]) == (200, "萨姆 2", True)
    assert await client.call("GET", url) == (200, profile)
    status, state = await client.call("POST", f"{url}/clone")
    assert (status, state["voice_id"], state["status"], state["progress"]) == (202, voice_id, "ready", 1.0)
    status, spoken = await client.call("POST", f"{url}/preview", json={"text": "Hello there."})
    assert (status, tts.requests[-1][0]) == (200, voice_id)
    pcm, rate_hz = soundfile.read(io.BytesIO(spoken))
    assert (rate_hz, pcm.size > 0) == (24_000, True)
    status, heard = await client.call("GET", f"{url}/audio")
    assert (status, soundfile.read(io.BytesIO(heard))[1]) == (200, 24_000)
    _, speakers = await client.call("GET", "/v1/voices")
    assert [voice["kind"] for voice in speakers["data"]] == ["enrolled", "builtin", "builtin"]
    assert (await client.call("DELETE", url))[0] == 204
    assert (await client.call("GET", url))[0] == 404
    assert (await client.call("GET", f"{url}/clone-status"))[0] == 404
    assert (await client.call("GET", prefix))[1]["voices"] == []
    assert not tts.learned


async def test_speech_says_that_it_is_synthetic(client: VoiceClient, recording: bytes) -> None:
    voice_id = await ready(client, recording)
    url = f"{client.server.url}/api/tts/qwen3/voices/{voice_id}/preview"
    async with client.http.post(url, json={"text": "Hello."}) as response:
        said = response.headers["X-Avatar-Provenance"]
    assert "synthetic=?1, cloned=?1" in said
    assert f'voice="{voice_id}"' in said


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


async def test_the_same_upload_twice_is_one_voice(client: VoiceClient, tts: FakeCloner, recording: bytes) -> None:
    voice_id = await ready(client, recording, reference_text="Ever tried.")
    status, again = await client.upload(recording)
    assert (status, again["id"]) == (200, voice_id)
    other = await ready(client, recording, name="Somebody else", reference_text="Ever tried.")
    assert other != voice_id
    assert len(tts.conditioned) == 1  # the same recording: nothing is computed again


async def another() -> Pcm:
    """A woman that espeak-ng makes."""
    return at_level(await spoken("We are going for a walk in the park, and the weather is nice today.", language="it"))


def turns(one: Pcm, other: Pcm, turn_s: float = 2.0) -> list[tuple[Pcm, Pcm]]:
    """What two say, cut into turns that follow each other."""
    cuts = [range(0, pcm.size, int(turn_s * INPUT_RATE_HZ)) for pcm in (one, other)]
    pieces = [
        [pcm[at : at + int(turn_s * INPUT_RATE_HZ)] for at in cut] for pcm, cut in zip((one, other), cuts, strict=True)
    ]
    return list(zip(*pieces, strict=False))


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("silence", "NO_SPEECH", "Nobody speaks"),
        ("half a second", "BAD_AUDIO", "too short"),
        ("music", "", ""),
        ("overdriven", "BAD_AUDIO", "overdriven"),
        ("noisy", "BAD_AUDIO", "noise behind the voice"),
        ("two people", "BAD_AUDIO", "More than one voice"),
        ("too long", "BUFFER_LIMIT", "longer than 60 s"),
        ("cut off", "BAD_AUDIO", "damaged"),
    ],
)
async def test_a_recording_that_will_not_do_fails_with_the_reason(
    client: VoiceClient, kind: str, code: str, reason: str
) -> None:
    speech, rng = at_level(beckett()), np.random.default_rng(1)
    seconds = np.arange(10 * INPUT_RATE_HZ) / INPUT_RATE_HZ
    chord = sum(np.sin(2 * np.pi * hz * seconds) * (1 + np.sin(seconds * 9)) for hz in (220, 277, 330, 440, 880))
    noise = rng.normal(0, 0.05, speech.size)
    recordings = {
        "silence": silence(80_000),
        "half a second": speech[4_800:13_000],
        "music": at_level(np.asarray(chord, np.float32)),
        "overdriven": np.clip(speech * 20, -1, 1),
        "noisy": (speech + noise).astype(np.float32),
        "too long": np.tile(speech, 7),
        "two people": np.concatenate([part for turn in turns(speech, await another()) for part in turn]),
    }
    data = wav(recordings[kind]) if kind in recordings else wav(speech)[:40]
    status, profile = await client.upload(data)
    assert status == 202
    failed = await client.enrolled(profile["id"])
    assert failed["status"] == "failed"
    assert code in failed["problem_code"]
    assert reason in failed["problem"]
    assert failed["problem_code"] in ("BAD_AUDIO", "NO_SPEECH", "BUFFER_LIMIT")
    _, listed = await client.call("GET", "/api/voice-profiles")
    assert listed["voices"] == []
    _, everything = await client.call("GET", "/api/voice-profiles?status=all")
    assert [voice["id"] for voice in everything["voices"]] == [profile["id"]]


@pytest.mark.parametrize("name", ["../../etc", "a\0b", "<script>alert(1)</script>", "", "x" * 81, "a\nb", "..", "a/b"])
async def test_a_name_that_is_none_is_refused(client: VoiceClient, recording: bytes, name: str) -> None:
    status, problem = await client.upload(recording, name=name)
    assert (status, problem["code"]) == (400, "BAD_MESSAGE")
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []


@pytest.mark.parametrize("name", ["Åsa Öberg", "王小明", "हिन्दी", "O’Brien (work)", "Sam-2"])
async def test_a_name_may_be_of_any_language(client: VoiceClient, recording: bytes, name: str) -> None:
    status, profile = await client.upload(recording, name=name)
    assert (status, profile["name"]) == (202, name)
    await client.call("DELETE", f"/api/voice-profiles/{profile['id']}")


async def test_what_is_no_audio_is_refused_at_the_door(client: VoiceClient, tmp_path: Path) -> None:
    for data in (b"", b"<html>not audio at all</html>", b"MZ" + bytes(2000), b"PK\3\4" + bytes(100)):
        status, problem = await client.upload(data)
        assert (status, problem["code"]) == (422, "BAD_AUDIO")
    assert not list((tmp_path / "voices" / ".incoming").iterdir())


PNG = b"\x89PNG\r\n\x1a\n" + bytes(2000)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("voice.wav", wav(at_level(beckett())))
    return file.getvalue()


@pytest.mark.parametrize("data", [PNG, zipped()], ids=["PNG", "ZIP"])
async def test_what_is_only_called_audio_is_refused_wherever_audio_is_taken(client: VoiceClient, data: bytes) -> None:
    for path in (
        "/api/voice-profile",
        "/api/tts/qwen3/voices/upload",
        "/api/v1/extract-embedding",
        "/api/v1/clone-voice",
    ):
        form = aiohttp.FormData({"name": "Sam", "text": "Hello.", **CONSENT})
        form.add_field("audio", data, filename="voice.wav", content_type="audio/wav")
        status, problem = await client.call("POST", path, data=form)
        assert (status, problem["code"]) == (422, "BAD_AUDIO")
        assert "none of the audio files taken here" in problem["detail"]
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []


@pytest.mark.parametrize(
    "head", [b"RIFF\0\0\0\0WAVE", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"\0\0\0\x20ftypisom"]
)
async def test_what_only_begins_like_audio_fails_and_is_never_listed(client: VoiceClient, head: bytes) -> None:
    status, profile = await client.upload(head + PNG)
    assert status == 202
    failed = await client.enrolled(profile["id"])
    assert (failed["status"], failed["problem_code"]) == ("failed", "BAD_AUDIO")
    assert (await client.call("GET", "/api/voice-profiles"))[1]["voices"] == []


async def test_audio_by_another_name_is_taken_for_what_it_is(client: VoiceClient, recording: bytes) -> None:
    form = aiohttp.FormData({"name": "Sam", **CONSENT})
    form.add_field("audio", recording, filename="voice.mp3", content_type="audio/mpeg")
    _, profile = await client.call("POST", "/api/voice-profile", data=form)
    assert (await client.enrolled(profile["id"]))["status"] == "ready"


async def test_consent_is_needed(client: VoiceClient, recording: bytes) -> None:
    for fields in ({"consent_statement": " "}, {"consent_date": "yesterday"}):
        status, problem = await client.upload(recording, **fields)
        assert (status, problem["code"]) == (400, "BAD_MESSAGE")
        assert "consent" in problem["detail"]


async def test_more_than_the_limit_is_refused_before_it_is_kept(client: VoiceClient) -> None:
    status, problem = await client.upload(b"RIFF____WAVE" + bytes(21_000_000))
    assert (status, problem["code"]) == (413, "BUFFER_LIMIT")

    async def chunked() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield bytes(1_000_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    status, problem = await client.call("POST", "/api/voice-profile", data=chunked(), headers=headers)
    assert (status, problem["code"]) == (413, "BUFFER_LIMIT")


async def test_an_upload_is_ready_soon(client: VoiceClient, recording: bytes) -> None:
    began = time.monotonic()
    await ready(client, recording)
    assert time.monotonic() - began < READY_S


async def test_deleted_files_are_set_aside_on_wish(client: VoiceClient, recording: bytes, tmp_path: Path) -> None:
    gone, kept = await ready(client, recording), await ready(client, recording, name="Kept")
    assert (await client.call("DELETE", f"/api/voice-profiles/{gone}"))[0] == 204
    assert (await client.call("DELETE", f"/api/tts/qwen3/voices/{kept}?delete_files=false"))[0] == 204
    assert (await client.call("GET", "/api/voice-profiles?status=all"))[1]["voices"] == []
    assert [path.name for path in (tmp_path / "voices").glob("**/voice_*")] == [kept]
    assert (tmp_path / "voices" / ".removed" / kept / "source").read_bytes() == recording


async def test_fifty_uploads_at_once_lose_no_job(client: VoiceClient, recording: bytes) -> None:
    answers = await asyncio.gather(*(client.upload(recording, name=f"Voice {n}") for n in range(50)))
    assert {status for status, _ in answers} == {202}
    ended = [await client.enrolled(profile["id"], 60) for _, profile in answers]
    assert {profile["status"] for profile in ended} == {"ready"}


async def test_deleting_while_it_is_enrolled_leaves_nothing(
    client: VoiceClient, recording: bytes, tmp_path: Path
) -> None:
    for _ in range(3):
        _, profile = await client.upload(recording)
        assert (await client.call("DELETE", f"/api/voice-profiles/{profile['id']}"))[0] == 204
    left = {path.name for path in (tmp_path / "voices").iterdir()}
    assert left <= {".incoming", ".conditioning"}


async def test_an_enrolment_is_cancelled_and_begun_again(client: VoiceClient, recording: bytes) -> None:
    _, first = await client.upload(recording, name="First")
    _, second = await client.upload(recording, name="Second")
    url = f"/api/tts/qwen3/voices/{second['id']}/clone"
    _, state = await client.call("DELETE", url)
    assert state["status"] == "cancelled"
    assert (await client.enrolled(first["id"]))["status"] == "ready"
    status, _ = await client.call("POST", url)
    assert status == 202
    assert (await client.enrolled(second["id"]))["status"] == "ready"


async def test_the_embedding_of_a_recording(client: VoiceClient, recording: bytes) -> None:
    form = aiohttp.FormData()
    form.add_field("audio", recording, filename="a.wav")
    status, found = await client.call("POST", "/api/v1/extract-embedding", data=form)
    assert (status, len(found["embedding"])) == (200, 256)
    assert np.linalg.norm(found["embedding"]) == pytest.approx(1, abs=1e-4)
    assert 5 < found["duration"] < 10
    form = aiohttp.FormData({"embedding": json.dumps(found["embedding"]), "text": "Hello."})
    status, problem = await client.call("POST", "/api/v1/synthesize-with-embedding", data=form)
    assert (status, problem["code"]) == (501, "UNSUPPORTED")
    for wrong in ("[1, 2]", "hello", "[" * 5000, json.dumps(["x"] * 256)):
        form = aiohttp.FormData({"embedding": wrong, "text": "Hello."})
        status, problem = await client.call("POST", "/api/v1/synthesize-with-embedding", data=form)
        assert (status, problem["code"]) == (400, "BAD_MESSAGE")


async def test_the_embedding_of_ten_seconds_takes_less_than_one(client: VoiceClient, recording: bytes) -> None:
    took_s = []
    for _ in range(2):  # the first loads the encoder
        form, began = aiohttp.FormData(), time.monotonic()
        form.add_field("audio", recording, filename="a.wav")
        assert (await client.call("POST", "/api/v1/extract-embedding", data=form))[0] == 200
        took_s.append(time.monotonic() - began)
    assert took_s[1] < 1


async def test_a_voice_for_one_text_is_forgotten(client: VoiceClient, tts: FakeCloner, recording: bytes) -> None:
    form = aiohttp.FormData({"text": "Hello there."})
    form.add_field("audio", recording, filename="a.wav")
    status, spoken = await client.call("POST", "/api/v1/clone-voice", data=form)
    assert (status, spoken[:4]) == (200, b"RIFF")
    assert tts.requests[-1][0] not in (None, "hum")
    assert not tts.learned


async def test_a_batch_of_texts(client: VoiceClient) -> None:
    texts = {"texts": ["One.", "Two two.", "…"]}
    status, answer = await client.call("POST", "/api/v1/batch-synthesize", json=texts)
    assert status == 200
    assert [bool(item["audio"]) for item in answer["items"]] == [True, True, False]
    assert answer["items"][1]["duration"] > answer["items"][0]["duration"]
    assert "nothing" in answer["items"][2]["problem"]
    empty: list[str] = []
    for wrong in ({"texts": empty}, {"texts": ["x"] * 21}, {"texts": ["x" * 2001]}):
        assert (await client.call("POST", "/api/v1/batch-synthesize", json=wrong))[0] == 400
    assert (await client.call("POST", "/api/v1/batch-synthesize", json={"texts": ["x"], "voice": "nobody"}))[0] == 404


async def test_unknown_voices(client: VoiceClient) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/clone", None),
        ("GET", "/clone-status", None),
        ("POST", "/preview", {}),
        ("GET", "/audio", None),
    ):
        for voice_id in ("voice_nobody", "..%2F..%2Fsecret", "%00"):
            status, problem = await client.call(method, f"/api/voice-profiles/{voice_id}{path}", json=body)
            assert status in (404, 405)  # with a slash in it, it is another path
            assert problem["code"] in ("NOT_FOUND", "BAD_MESSAGE")


async def test_voices_outlive_the_server_and_nothing_is_computed_again(
    tmp_path: Path, models_dir: Path, recording: bytes
) -> None:
    async with voice_server(tmp_path, models_dir) as client:
        voice_id = await ready(client, recording)
        _, before = await client.call("GET", f"/api/voice-profiles/{voice_id}")
    tts = FakeCloner()
    async with voice_server(tmp_path, models_dir, tts) as client:
        _, after = await client.call("GET", f"/api/voice-profiles/{voice_id}")
        assert after == before
        await client.call("POST", f"/api/voice-profiles/{voice_id}/preview", json={"text": "Hello."})
        assert (tts.requests[-1][0], tts.conditioned) == (voice_id, [])
    newer = FakeCloner()
    newer.conditioning_version = "fake-2"
    async with voice_server(tmp_path, models_dir, newer) as client:
        await settled(lambda: voice_id in newer.learned)
        assert len(newer.conditioned) == 1


async def test_speech_of_a_cloned_voice_is_marked_wherever_it_leaves(
    tmp_path: Path, models_dir: Path, recording: bytes
) -> None:
    tts = SpeakingCloner()
    async with voice_server(tmp_path, models_dir, tts) as client:
        voice_id = await ready(client, recording)
        body = {"input": LONG, "response_format": "wav"}
        path = f"/api/voice-profiles/{voice_id}/preview"
        clips = {
            "preview": await client.call("POST", path, json={"text": LONG}),
            "speech": await client.call("POST", "/v1/audio/speech", json=body | {"voice": voice_id}),
            "default": await client.call("POST", "/v1/audio/speech", json=body),
        }
    for name, (status, data) in clips.items():
        assert status == 200
        pcm, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
        assert (score(pcm, rate_hz, "avatar") > THRESHOLD) == (name != "default"), name
