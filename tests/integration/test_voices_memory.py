"""What many uploads at once take of the server's memory; the server is a process of its own, beside the clients."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from avatar.core.audio import INPUT_RATE_HZ, resample
from tests.bombs import peak_memory_bytes
from tests.integration import voice_serving
from tests.integration.serving import Server
from tests.integration.voices import VoiceClient, at_level, wav
from tests.speech import beckett

pytestmark = [pytest.mark.weights, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

UPLOADS = 50
MOST_BYTES = 256 << 20
RATE_HZ = 96_000


@asynccontextmanager
async def server_process(folder: Path, models_dir: Path) -> AsyncIterator[tuple[str, int]]:
    """Its address and process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", voice_serving.__name__, str(folder), str(models_dir)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip(), process.pid
    finally:
        await process.communicate(b"")  # closes its input


def peak_bytes(server: int) -> int:
    """The most that the server and its decoders have taken."""
    process = psutil.Process(server)
    return sum(peak_memory_bytes(one.pid) for one in (process, *process.children(recursive=True)))


@pytest.mark.timeout(180)
async def test_fifty_large_uploads_at_once_wait_on_the_disk(tmp_path: Path, models_dir: Path) -> None:
    recording = wav(resample(at_level(beckett()), INPUT_RATE_HZ, RATE_HZ), RATE_HZ, "DOUBLE")
    assert UPLOADS * len(recording) > 1.3 * MOST_BYTES
    async with server_process(tmp_path, models_dir) as (url, pid), aiohttp.ClientSession() as http:
        client = VoiceClient(http, Server(url, None))  # type: ignore[arg-type]  # its inside is elsewhere
        _, first = await client.upload(recording)
        assert (await client.enrolled(first["id"]))["status"] == "ready"  # what is loaded late does not count
        before_bytes = peak_bytes(pid)
        answers = await asyncio.gather(*(client.upload(recording, name=f"Voice {n}") for n in range(UPLOADS)))
        assert {status for status, _ in answers} == {202}
        ended = [await client.enrolled(profile["id"], 120) for _, profile in answers]
        assert {profile["status"] for profile in ended} == {"ready"}
        grown = peak_bytes(pid) - before_bytes
        assert grown < MOST_BYTES
