"""Recordings nobody would send on purpose, through the real decoders and models: an answer, always, and then a turn."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import soundfile

from avatar import choosing
from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample
from tests.integration.serving import Server, WireClient, serving, settings_for, settled
from tests.speech import CLEAR_VOICE, COUNTRY, QUESTION, spoken

pytestmark = pytest.mark.weights

INPUT_ERRORS = {"BAD_AUDIO", "NO_SPEECH", "BUFFER_LIMIT"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> AsyncIterator[Server]:
    wishes = {"stt": {"model": "moonshine-tiny-en"}, "llm": {"model": "smollm2-135m-instruct"}}
    settings = settings_for(tmp_path_factory.mktemp("data"), models_dir=models_dir, **wishes)
    engines = choosing.picks(choosing.survey(settings), settings)
    async with serving(engines, settings) as running:
        yield running
        await settled(lambda: running.service.sessions.active == 0)


def file(pcm: Pcm, rate_hz: int, channels: int = 1, format_: str = "WAV") -> bytes:
    """`pcm` (16 kHz) as an audio file of that rate."""
    out = io.BytesIO()
    samples = resample(pcm, INPUT_RATE_HZ, rate_hz)
    soundfile.write(out, np.stack([samples] * channels, axis=1), rate_hz, format=format_)
    return out.getvalue()


async def question() -> Pcm:
    return np.pad(await spoken(QUESTION, voice=CLEAR_VOICE), 1600)


async def talk(client: WireClient, recording: bytes) -> str:
    """Push to talk; the transcript, or the code of the error."""
    before = len(client.messages)
    for start in range(0, len(recording), 60_000):
        await client.ws.send_bytes(recording[start : start + 60_000])
    await client.send("audio.end")
    while True:
        message = await client.read()
        assert message is not None or client.audio
        kinds = {message["type"]: message for message in client.messages[before:]}
        if "error" in kinds:
            return str(kinds["error"]["code"])
        if "transcript" in kinds:
            await client.send("interrupt")
            await client.until("reply.done")
            return str(kinds["transcript"]["text"])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (96_000, 1), (44_100, 2), (16_000, 2)])
async def test_any_rate_and_stereo_are_understood(server: Server, rate_hz: int, channels: int) -> None:
    async with server.client() as client:
        await client.start()
        assert COUNTRY in await talk(client, file(await question(), rate_hz, channels))


@pytest.mark.asyncio(loop_scope="module")
async def test_whatever_comes_the_next_turn_works(server: Server) -> None:
    rng = np.random.default_rng(3)
    noise = np.sign(rng.standard_normal(2 * INPUT_RATE_HZ)).astype(np.float32)
    flac = file(await question(), INPUT_RATE_HZ, format_="FLAC")
    hours = file(np.zeros(3600 * 1000, dtype=np.float32), 8_000, format_="FLAC")
    async with server.client() as client:
        await client.start()
        assert await talk(client, b"\x00") == "BAD_AUDIO"
        assert await talk(client, file(np.zeros(INPUT_RATE_HZ, dtype=np.float32), 16_000)) == "NO_SPEECH"
        assert await talk(client, hours) == "BUFFER_LIMIT"
        assert await talk(client, b"RIFF" + rng.bytes(3000)) == "BAD_AUDIO"
        for odd in (file(noise, 16_000), flac[: len(flac) // 2], flac[:100]):
            said = await talk(client, odd)
            assert said
        assert COUNTRY in await talk(client, flac)
