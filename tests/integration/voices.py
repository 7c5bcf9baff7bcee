"""A server for tests of voices: real decoders, voice activity and speaker encoder; what hears and speaks is fake."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
import soundfile

from avatar.conversation.terms import Engines
from avatar.core.audio import INPUT_RATE_HZ, Pcm
from avatar.engines.base import SpeechToText, TextToSpeech
from avatar.engines.vad.silero import SileroVad
from avatar.settings import load
from tests.fakes.cloner import FakeCloner
from tests.integration.serving import Server, serving
from tests.speech import beckett
from tests.unit.conversation import Fakes

CONSENT = {"consent_statement": "This is my own voice.", "consent_date": "2026-11-20"}


def wav(pcm: Pcm, rate_hz: int = INPUT_RATE_HZ, subtype: str = "PCM_16") -> bytes:
    """`pcm` as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, pcm, rate_hz, format="WAV", subtype=subtype)
    return file.getvalue()


def at_level(pcm: Pcm, peak: float = 0.5) -> Pcm:
    """`pcm` as loud as a close microphone makes it."""
    loud: Pcm = (pcm * (peak / np.abs(pcm).max())).astype(np.float32)
    return loud


@dataclass
class VoiceClient:
    """Talks to the voice routes of a server."""

    http: aiohttp.ClientSession
    server: Server

    async def call(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status, and JSON or bytes."""
        async with self.http.request(method, self.server.url + path, **more) as response:
            is_json = "json" in response.content_type
            return response.status, await (response.json() if is_json else response.read())

    async def upload(
        self, recording: bytes, path: str = "/api/voice-profile", field: str = "audio", **fields: str
    ) -> tuple[int, Any]:
        """Send a recording with a name and consent, unless `fields` say otherwise."""
        form = aiohttp.FormData()
        form.add_field(field, io.BytesIO(recording), filename="../../etc/passwd", content_type="audio/wav")
        for name, value in ({"name": "Sam"} | CONSENT | fields).items():
            form.add_field(name, value)
        return await self.call("POST", path, data=form)

    async def enrolled(self, voice_id: str, timeout_s: float = 30) -> dict[str, Any]:
        """The profile once its enrolment has ended."""
        async with asyncio.timeout(timeout_s):
            while True:
                _, profile = await self.call("GET", f"/api/voice-profiles/{voice_id}")
                if profile["status"] not in ("queued", "enrolling"):
                    found: dict[str, Any] = profile
                    return found
                await asyncio.sleep(0.02)


def engines(tts: TextToSpeech, stt: SpeechToText | None = None) -> Engines:
    """Fakes, but for voice activity."""
    others = Fakes().engines
    return replace(others, vad=SileroVad(), stt=stt or others.stt, tts=tts)


@asynccontextmanager
async def voice_server(
    data_dir: Path, models_dir: Path, tts: TextToSpeech | None = None, stt: SpeechToText | None = None, **settings: Any
) -> AsyncIterator[VoiceClient]:
    """Serve with these engines, by default a voice that clones."""
    chosen = load(overrides={"data_dir": data_dir, "models_dir": models_dir, **settings})
    async with serving(engines(tts or FakeCloner(), stt), chosen) as server, aiohttp.ClientSession() as http:
        yield VoiceClient(http, server)


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
    """The id of a voice that has been enrolled."""
    status, profile = await client.upload(recording, **fields)
    assert status == 202, profile
    enrolled = await client.enrolled(profile["id"])
    assert enrolled["status"] == "ready", enrolled
    voice_id: str = profile["id"]
    return voice_id
