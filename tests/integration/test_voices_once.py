"""Embeddings, clones and batches without a profile; and that what is spoken says that it is synthetic."""

import io
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import soundfile

from avatar.core.errors import EngineFailed
from avatar.core.watermark import THRESHOLD, score
from avatar.engines.base import SpeechChunk
from avatar.engines.tts.espeak import Espeak
from tests.fakes.cloner import FakeCloner
from tests.fakes.stt import FakeSpeechToText
from tests.integration.voices import VoiceClient, client, ready, recording, tts, voice_server

__all__ = ["client", "recording", "tts"]  # the fixtures

pytestmark = pytest.mark.weights

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
        form, began_s = aiohttp.FormData(), time.process_time()  # others who want the processor do not count
        form.add_field("audio", recording, filename="a.wav")
        assert (await client.call("POST", "/api/v1/extract-embedding", data=form))[0] == 200
        took_s.append(time.process_time() - began_s)
    assert took_s[1] < 1


async def test_a_voice_for_one_text_is_forgotten(client: VoiceClient, tts: FakeCloner, recording: bytes) -> None:
    form = aiohttp.FormData({"text": "Hello there."})
    form.add_field("audio", recording, filename="a.wav")
    status, spoken = await client.call("POST", "/api/v1/clone-voice", data=form)
    assert (status, spoken[:4]) == (200, b"RIFF")
    assert tts.requests[-1][0] not in (None, "hum")
    assert tts.conditioned[-1].text  # some engines cannot do without
    assert not tts.learned
    form = aiohttp.FormData({"text": "Hello there.", "reference_text": "Ever tried."})
    form.add_field("audio", recording, filename="a.wav")
    assert (await client.call("POST", "/api/v1/clone-voice", data=form))[0] == 200
    assert tts.conditioned[-1].text == "Ever tried."


async def test_an_engine_that_needs_no_words_clones_while_the_transcriber_fails(
    tmp_path: Path, models_dir: Path, recording: bytes
) -> None:
    tts, stt = FakeCloner(), FakeSpeechToText(error=EngineFailed("out of order"))
    form = aiohttp.FormData({"text": "Hello there."})
    form.add_field("audio", recording, filename="a.wav")
    async with voice_server(tmp_path, models_dir, tts, stt) as client:
        status, spoken = await client.call("POST", "/api/v1/clone-voice", data=form)
    assert status == 200, spoken
    assert (spoken[:4], tts.conditioned[-1].text) == (b"RIFF", "")


async def test_a_batch_of_texts(client: VoiceClient) -> None:
    texts = {"texts": ["One.", "Two two.", "…"]}
    status, answer = await client.call("POST", "/api/v1/batch-synthesize", json=texts)
    assert status == 200
    assert [bool(item["audio"]) for item in answer["items"]] == [True, True, False]
    assert answer["items"][1]["duration"] > answer["items"][0]["duration"]
    assert "nothing" in answer["items"][2]["problem"]
    async with client.http.post(f"{client.server.url}/api/v1/batch-synthesize", json=texts) as response:
        assert "synthetic=?1, cloned=?0" in response.headers["X-Avatar-Provenance"]
    empty: list[str] = []
    for wrong in ({"texts": empty}, {"texts": ["x"] * 21}, {"texts": ["x" * 2001]}):
        assert (await client.call("POST", "/api/v1/batch-synthesize", json=wrong))[0] == 400
    assert (await client.call("POST", "/api/v1/batch-synthesize", json={"texts": ["x"], "voice": "nobody"}))[0] == 404


async def test_speech_says_that_it_is_synthetic(client: VoiceClient, recording: bytes) -> None:
    voice_id = await ready(client, recording)
    url = f"{client.server.url}/api/tts/qwen3/voices/{voice_id}/preview"
    async with client.http.post(url, json={"text": "Hello."}) as response:
        said = response.headers["X-Avatar-Provenance"]
    assert "synthetic=?1, cloned=?1" in said
    assert f'voice="{voice_id}"' in said


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
