"""`/v1/audio/speech`, as OpenAI's own client finds it: text becomes speech."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
import pytest_asyncio

from avatar.core.audio import pcm16_to_float
from avatar.core.errors import EngineFailed
from avatar.media.decoder_child import decode
from avatar.server.openai.speech import STOCK_VOICES
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import Fakes

TEXT = "Hello there. How are you?"


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking_openai(tmp_path) as talk:
        yield talk


async def test_raw_speech_is_24_khz(talk: Talk) -> None:
    answer = await talk.client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT, response_format="pcm")
    assert answer.response.headers["content-type"] == "audio/pcm"
    pcm = pcm16_to_float(answer.content)
    spoken = "".join(talk.fakes.tts.spoken)
    assert pcm.size / 24_000 == pytest.approx(0.05 * len(spoken))
    assert np.abs(pcm).max() == pytest.approx(0.3, abs=0.01)
    assert talk.fakes.tts.spoken == ["Hello there.", "How are you?"]


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav"])
async def test_speech_in_every_format(talk: Talk, form: Any) -> None:
    answer = await talk.client.audio.speech.create(model="x", voice="hum", input=TEXT, response_format=form)
    seconds = 0.05 * len("".join(talk.fakes.tts.spoken))
    assert decode(answer.content, 160_000).size / 16_000 == pytest.approx(seconds, abs=0.15)


async def test_mp3_is_what_one_gets_unasked(talk: Talk) -> None:
    answer = await talk.client.audio.speech.create(model="x", voice="hum", input="Hi.")
    assert answer.response.headers["content-type"] == "audio/mpeg"


async def test_voices_by_name_and_by_id(talk: Talk) -> None:
    create = talk.client.audio.speech.create
    for voice in ("low hum", {"id": "low hum"}, *sorted(STOCK_VOICES)[:2]):
        await create(model="x", voice=voice, input="Hi.")  # type: ignore[arg-type]
    assert [voice for voice, _ in talk.fakes.tts.requests] == ["low hum", "low hum", None, None]
    with pytest.raises(openai.BadRequestError) as refusal:
        await create(model="x", voice="nobody", input="Hi.")
    assert refusal.value.param == "voice"
    _, voices = await talk.server.get("/v1/voices")
    assert [voice["id"] for voice in voices["data"]] == ["hum", "low hum"]
    _, voices = await talk.server.get("/v1/audio/voices")
    assert voices["voices"][0] == {"id": "hum", "name": "hum"}


@pytest.mark.parametrize("speed", [0.25, 2.0, 4.0])
async def test_speed(talk: Talk, speed: float) -> None:
    asked: dict[str, Any] = {"model": "x", "voice": "hum", "input": TEXT, "response_format": "pcm"}
    plain = await talk.client.audio.speech.create(**asked)
    fast = await talk.client.audio.speech.create(**asked, speed=speed)
    assert len(fast.content) == pytest.approx(len(plain.content) / speed, rel=0.1)


@pytest.mark.parametrize(
    "wrong", [{"input": ""}, {"input": "x" * 4097}, {"speed": 5}, {"response_format": "ogg"}, {"stream_format": "x"}]
)
async def test_wrong_requests(talk: Talk, wrong: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "x", "voice": "hum", "input": "Hi.", **wrong}
    with pytest.raises(openai.BadRequestError) as refusal:
        await talk.client.audio.speech.create(**asked)
    assert refusal.value.param == next(iter(wrong))


async def test_null_is_as_good_as_nothing(talk: Talk) -> None:
    nothing = dict.fromkeys(("voice", "instructions", "speed", "response_format", "stream_format"))
    url, body = f"{talk.server.url}/v1/audio/speech", {"model": "x", "input": "Hi.", **nothing}
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        assert (answer.status, answer.content_type) == (200, "audio/mpeg")


async def test_speech_as_events(talk: Talk) -> None:
    asked = {"model": "x", "voice": "hum", "input": TEXT, "response_format": "pcm", "stream_format": "sse"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{talk.server.url}/v1/audio/speech", json=asked) as answer,
    ):
        assert answer.content_type == "text/event-stream"
        lines = (await answer.text()).split("\n\n")
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    audio = b"".join(base64.b64decode(delta["audio"]) for delta in deltas)
    whole = await talk.client.audio.speech.create(model="x", voice="hum", input=TEXT, response_format="pcm")
    assert audio == whole.content
    assert done["type"] == "speech.audio.done"
    assert done["usage"]["output_tokens"] == pytest.approx(len(audio) / 2 / 24_000 * 20, abs=1)


async def test_nothing_to_say_is_an_empty_file(talk: Talk) -> None:
    answer = await talk.client.audio.speech.create(model="x", voice="hum", input="...", response_format="pcm")
    assert answer.content == b""


async def test_speech_comes_while_it_is_made(talk: Talk) -> None:
    """The engine waits before the second sentence; the first is here before that."""
    released = asyncio.Event()
    trouble, pieces = talk.fakes.tts._trouble, 0

    async def wait_at_second() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 2:
            await released.wait()
        await trouble()

    talk.fakes.tts._trouble = wait_at_second  # type: ignore[method-assign]
    async with talk.client.audio.speech.with_streaming_response.create(
        model="x", voice="hum", input=TEXT, response_format="pcm"
    ) as answer:
        first = await anext(answer.iter_bytes())
        assert first
        assert talk.fakes.tts.active == 1
        released.set()


async def test_failures_of_the_voice(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    talk.fakes.tts.error = EngineFailed("hoarse")
    formats: tuple[Any, ...] = ("audio", "sse")
    for stream_format in formats:
        with pytest.raises(openai.InternalServerError, match="hoarse"):
            await talk.client.audio.speech.create(
                model="x",
                voice="hum",
                input=TEXT,
                stream_format=stream_format,
            )
    assert TEXT not in caplog.text


async def test_a_voice_that_breaks_in_the_middle_is_seen_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fakes = Fakes()
    hum = fakes.tts._hum

    def hum_once(piece: str, chars: int, samples: int) -> Any:
        if chars:
            raise EngineFailed("hoarse")
        return hum(piece, chars, samples)

    fakes.tts._hum = hum_once  # type: ignore[method-assign,assignment]
    async with talking_openai(tmp_path, fakes) as talk:
        with pytest.raises(openai.APIConnectionError):
            await talk.client.audio.speech.create(model="x", voice="hum", input=TEXT, response_format="pcm")
    assert "an answer broke off: EngineFailed" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_client_that_leaves_silences_the_voice(tmp_path: Path) -> None:
    fakes = Fakes()
    async with talking_openai(tmp_path, fakes) as talk:
        asked = {"model": "x", "voice": "hum", "input": "One two three. " * 270, "response_format": "wav"}
        fakes.tts.ms_per_char = 1000
        async with aiohttp.ClientSession() as http:
            answer = await http.post(f"{talk.server.url}/v1/audio/speech", json=asked)
            assert (await answer.content.read(4)) == b"RIFF"
            assert fakes.tts.active == 1
            answer.close()
        async with asyncio.timeout(2):
            await settled(lambda: fakes.tts.active == 0)
        assert fakes.tts.closed_early == 1


async def test_a_client_that_reads_nothing_is_let_go(tmp_path: Path) -> None:
    fakes = Fakes()
    fakes.tts.ms_per_char = 2000
    async with talking_openai(tmp_path, fakes, server={"send_timeout_s": 0.3}) as talk:
        asked = {"model": "x", "voice": "hum", "input": "One two three. " * 270, "response_format": "wav"}
        async with aiohttp.ClientSession() as http:
            answer = await http.post(f"{talk.server.url}/v1/audio/speech", json=asked)
            await settled(lambda: fakes.tts.active == 1)
            await settled(lambda: fakes.tts.active == 0)
            answer.close()
