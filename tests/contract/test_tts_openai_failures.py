"""How `OpenAISpeech` takes a server that refuses, hangs, talks nonsense or goes away: over real sockets."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest
import pytest_asyncio
import soundfile
from aiohttp import web

from avatar.core.errors import EngineError, EngineFailed, EngineLost, EngineTimeout, Overloaded
from avatar.core.voices import Reference
from avatar.engines.base import SpeechChunk
from avatar.engines.tts.openai_speech import OpenAISpeech
from tests.fakes.speech_server import SpeechServer, blocks

REFERENCE = Reference(np.sin(np.arange(24_000, dtype=np.float32) / np.float32(20)), 24_000, "Ever tried.", "en")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[SpeechServer]:
    async with SpeechServer().running() as server:
        yield server


@pytest_asyncio.fixture
async def engine(server: SpeechServer) -> AsyncIterator[OpenAISpeech]:
    engine = OpenAISpeech(server.base_url, read_timeout_s=0.3)
    await engine.warm_up()
    yield engine
    await engine.aclose()


async def say(engine: OpenAISpeech, text: str = "Hello there.", voice: str | None = None) -> list[SpeechChunk]:
    async def pieces() -> AsyncIterator[str]:
        yield text

    async with aclosing(engine.speak(pieces(), voice=voice)) as chunks:
        return [chunk async for chunk in chunks]


async def test_a_request_says_what_is_wanted(engine: OpenAISpeech, server: SpeechServer) -> None:
    await say(engine)
    assert server.requests[-1] == {
        "model": "tiny-tts",
        "input": "Hello there.",
        "voice": "vivian",
        "response_format": "pcm",
        "stream_format": "audio",
    }
    await say(engine, voice="ryan")
    assert server.requests[-1]["voice"] == "ryan"


async def test_a_learned_voice_sends_its_recording_with_each_request(
    engine: OpenAISpeech, server: SpeechServer
) -> None:
    engine.learn("voice_x", await engine.condition(REFERENCE))
    await say(engine, voice="voice_x")
    body = server.requests[-1]
    head, _, data = body["ref_audio"].partition(",")
    pcm, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
    assert head == "data:audio/wav;base64"
    assert rate_hz == 24_000
    np.testing.assert_allclose(pcm, REFERENCE.pcm, atol=1e-4)
    assert body["ref_text"] == "Ever tried."
    engine.learn("voice_y", await engine.condition(Reference(REFERENCE.pcm, 24_000)))
    await say(engine, voice="voice_y")
    assert "ref_text" not in server.requests[-1]
    assert server.requests[-1]["x_vector_only_mode"] is True


@pytest.mark.parametrize(
    ("told", "reference_audio", "clones", "first"),
    [
        ({"voices": ["a"], "uploaded_voices": []}, "auto", True, "a"),
        ({"voices": ["a"], "uploaded_voices": []}, "off", False, "a"),
        ({"voices": [{"id": "af_heart", "name": "Heart"}]}, "auto", False, "af_heart"),
        ({"voices": [{"name": "Heart"}]}, "on", True, "Heart"),
        (None, "auto", False, "alloy"),
    ],
)
async def test_what_the_server_tells_of_its_voices(
    server: SpeechServer, told: dict[str, object] | None, reference_audio: str, clones: bool, first: str
) -> None:
    server.voices = told
    engine = OpenAISpeech(server.base_url, reference_audio=reference_audio)  # type: ignore[arg-type]
    await engine.warm_up()
    assert (engine.capabilities.clones, engine.voices[0]) == (clones, first)
    await engine.aclose()


async def test_a_server_without_a_model_is_refused(server: SpeechServer) -> None:
    server.models = []
    engine = OpenAISpeech(server.base_url)
    with pytest.raises(EngineFailed, match=r"tts\.model"):
        await engine.warm_up()
    await engine.aclose()


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (401, EngineFailed, r"tts\.api_key"),
        (404, EngineFailed, r"tts\.base_url"),
        (429, Overloaded, "busy"),
        (503, Overloaded, "busy"),
        (400, EngineFailed, "refused"),
        (500, EngineFailed, "HTTP 500"),
    ],
)
async def test_each_refusal_says_what_to_do(
    engine: OpenAISpeech, server: SpeechServer, status: int, error: type[EngineError], advice: str
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=status)

    server.misbehave = refuse
    with pytest.raises(error, match=advice):
        await say(engine)


async def test_nobody_at_home(server: SpeechServer) -> None:
    engine = OpenAISpeech("http://127.0.0.1:9/v1", model="x")
    with pytest.raises(EngineFailed, match="start it"):
        await engine.warm_up()
    with pytest.raises(Overloaded, match="start it"):
        await say(engine)
    await engine.aclose()


async def test_a_connection_the_server_closed_meanwhile_goes_unnoticed(
    engine: OpenAISpeech, server: SpeechServer
) -> None:
    async def drop_the_first(request: web.Request) -> web.StreamResponse | None:
        if len(server.requests) == 1 and request.transport is not None:
            request.transport.abort()
        return None

    server.misbehave = drop_the_first
    assert sum(chunk.pcm.size for chunk in await say(engine))
    assert len(server.requests) == 2


async def test_silence_has_a_limit(engine: OpenAISpeech, server: SpeechServer) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.misbehave = hang
    with pytest.raises(EngineTimeout):
        await say(engine)


@pytest.mark.parametrize(
    ("kind", "body"), [("application/json", b'{"audio": "no"}'), ("audio/pcm", b""), ("audio/pcm", bytes(4000))]
)
async def test_what_is_no_speech_is_said(engine: OpenAISpeech, server: SpeechServer, kind: str, body: bytes) -> None:
    async def nonsense(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=kind)

    server.misbehave = nonsense
    with pytest.raises(EngineFailed, match="no speech"):
        await say(engine)


async def test_breaking_off_after_the_first_sound_is_a_loss(engine: OpenAISpeech, server: SpeechServer) -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm", "Content-Length": "100000"})
        await response.prepare(request)
        for block in blocks("Hello there.")[:8]:
            await response.write(block)
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    server.misbehave = half
    with pytest.raises(EngineLost):
        await say(engine)
    assert len(server.requests) == 1


async def test_closing_ends_the_request(engine: OpenAISpeech, server: SpeechServer) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        while True:
            await response.write(blocks("Hello")[-1])
            await asyncio.sleep(0.001)

    async def pieces() -> AsyncIterator[str]:
        yield "Hello."

    server.misbehave = endless
    stream = engine.speak(pieces())
    await anext(stream)
    await stream.aclose()
    async with asyncio.timeout(5):
        await server.gone.wait()
