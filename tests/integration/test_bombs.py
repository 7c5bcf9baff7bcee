"""Decompression bombs through the doors: a clear answer soon, and no more memory than the limits allow."""

import io
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio

from tests.bombs import flac_silence, forget_peak_memory, ogg_silence, peak_memory_bytes, wav_that_claims, webm_silence
from tests.integration.voices import VoiceClient, at_level, voice_server, wav
from tests.speech import beckett

pytestmark = [pytest.mark.weights, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

THREE_HOURS_S = 3 * 3600
SOON_S = 10.0
UPLOAD_BYTES = 300 << 20
"""What a transcription may take: 25 minutes, decoded (96 MB), on their way between two processes."""


@pytest_asyncio.fixture
async def client(tmp_path: Path, models_dir: Path) -> AsyncIterator[VoiceClient]:
    """A server that has enrolled and transcribed something already: what it loads late does not count."""
    async with voice_server(tmp_path, models_dir) as client:
        recording = wav(at_level(beckett()))
        _, profile = await client.upload(recording)
        assert (await client.enrolled(profile["id"]))["status"] == "ready"
        assert (await transcribed(client, recording))[0] == 200
        yield client


BOMBS = {
    "FLAC": lambda: flac_silence(THREE_HOURS_S),
    "Ogg": lambda: ogg_silence(THREE_HOURS_S),
    "WebM": lambda: webm_silence(THREE_HOURS_S),
}
LIES = {
    "a rate of 2^31 - 1 Hz": lambda: wav_that_claims(2**31 - 1, 2_000_000, bytes(2_000_000)),
    "4 GB of samples": lambda: wav_that_claims(16_000, 0xFFFFFFFF, bytes(16_000)),
}


async def transcribed(client: VoiceClient, data: bytes) -> tuple[int, Any]:
    form = aiohttp.FormData({"model": "whisper-1"})
    form.add_field("file", io.BytesIO(data), filename="a.wav")
    return await client.call("POST", "/v1/audio/transcriptions", data=form)


def peaks() -> dict[int, int]:
    """The most that the server (this process) and each of its decoders has taken."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return {process.pid: peak_memory_bytes(process.pid) for process in processes}


@pytest.mark.parametrize("kind", BOMBS)
async def test_three_hours_in_a_small_file(client: VoiceClient, kind: str) -> None:
    data = BOMBS[kind]()
    assert len(data) < 4_000_000
    forget_peak_memory()
    before, began = peaks(), time.monotonic()
    status, profile = await client.upload(data, name="Bomb")
    assert status == 202
    failed = await client.enrolled(profile["id"])
    assert (failed["status"], failed["problem_code"]) == ("failed", "BUFFER_LIMIT")
    assert "longer than 60 s" in failed["problem"]
    status, problem = await transcribed(client, data)
    assert (status, problem["error"]["code"]) == (413, "buffer_limit")
    assert time.monotonic() - began < SOON_S
    after = peaks()
    assert sum(after[pid] - before.get(pid, 0) for pid in after) < UPLOAD_BYTES
    assert os.getpid() in after


@pytest.mark.parametrize(("lie", "code"), [*zip(LIES, ("BAD_AUDIO", "NO_SPEECH"), strict=True)])
async def test_a_header_that_lies(client: VoiceClient, lie: str, code: str) -> None:
    data = LIES[lie]()
    forget_peak_memory()
    before, began = peaks(), time.monotonic()
    status, told = await client.upload(data, name="Lie")
    if code == "BAD_AUDIO":
        assert (status, told["code"]) == (422, code)
    else:
        failed = await client.enrolled(told["id"])
        assert (failed["status"], failed["problem_code"]) == ("failed", code)
    status, answer = await transcribed(client, data)
    assert status == (400 if code == "BAD_AUDIO" else 200)
    assert ("Hz" if code == "BAD_AUDIO" else "text") in str(answer)
    assert time.monotonic() - began < SOON_S
    after = peaks()
    assert sum(after[pid] - before.get(pid, 0) for pid in after) < 64 << 20
