"""`/ws/chat` over a real socket: both modes, every message, everything bad a client can do."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from avatar.core.audio import float_to_pcm16
from avatar.core.errors import EngineFailed
from avatar.core.trace import STAGES
from avatar.media.opus import encode_ogg_opus
from tests.integration.serving import BUFFER_BYTES, Server, fake_engines, serving, settings_for, settled
from tests.unit.conversation import Fakes, recording, tone

SPEECH = tone(0.3, 800)
QUIET = tone(0.0, 800)


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest_asyncio.fixture
async def server(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Server]:
    settings = settings_for(
        tmp_path,
        admission={"max_sessions": 2, "wait_s": 0.2},
        conversation={"stall_timeout_s": 1.0, "first_token_timeout_s": 1.0, "max_utterance_s": 5.0},
        server={"send_timeout_s": 1.0},
    )
    async with serving(fake_engines(fakes), settings) as running:
        yield running
        await settled(lambda: running.service.sessions.active == 0)
    assert fakes.llm.active == fakes.tts.active == 0


async def test_health_and_readiness(server: Server) -> None:
    assert await server.get("/healthz") == (200, {"status": "ok"})
    status, body = await server.get("/readyz")
    assert status == 200
    assert body["engines"]["llm"] == "fake language model"


async def test_a_live_conversation(server: Server) -> None:
    async with server.client() as client:
        ready = await client.start(mode="live")
        assert ready["output"] == {"format": "pcm16", "sample_rate": 24000}
        await client.speak(SPEECH)
        await client.speak(QUIET)
        done = await client.until("reply.done")
        drafts = [m for m in client.messages if m["type"] == "transcript" and not m["is_final"]]
        order = [message["type"] for message in client.messages if message not in drafts]
        assert [kind for kind in order if kind != "reply.text"] == [
            "session.ready", "speech.started", "speech.stopped", "transcript", "reply.audio", "reply.done"
        ]  # fmt: skip
        assert all(message["session_id"] == ready["session_id"] for message in client.messages)
        texts = [message for message in client.messages if message["type"] == "reply.text"]
        assert "".join(message["delta"] for message in texts) == texts[-1]["text"] == "I am fine. How are you?"
        assert done["status"] == "completed"
        metrics = done["metrics"]
        assert [span["name"] for span in metrics["trace"]] == list(STAGES)
        assert all(span["end_ms"] >= span["start_ms"] for span in metrics["trace"])
        assert all(ms >= 0 for name, ms in metrics.items() if name.endswith("_ms"))
        assert metrics["trace"][-2]["end_ms"] == metrics["trace"][-1]["start_ms"] == metrics["voice_to_voice_ms"]
        assert abs(client.pcm).max() > 0.05
    status, saved = await server.get(f"/api/conversations/{ready['conversation_id']}")
    assert status == 200
    turn = saved["turns"][0]
    assert turn["id"] == done["turn_id"]
    assert turn["timings"]["wire_ms"] == metrics["wire_ms"]
    assert turn["timings"]["trace.wire.end_ms"] == metrics["trace"][-1]["end_ms"]


async def test_push_to_talk_with_a_real_container(server: Server) -> None:
    async with server.client() as client:
        await client.start()
        data = encode_ogg_opus(SPEECH, 16_000)
        for start in range(0, len(data), 500):
            await client.ws.send_bytes(data[start : start + 500])
        await client.send("audio.end")
        done = await client.until("reply.done")
    assert done["status"] == "completed"


async def test_without_session_start_a_default_session_is_ready(server: Server) -> None:
    async with server.client() as client:
        ready = await client.until("session.ready")
        assert ready["mode"] == "push_to_talk"
        again = await client.start(mode="live", output={"sample_rate": 16000})
        assert (again["mode"], again["output"]["sample_rate"]) == ("live", 16000)
    async with server.client() as client:
        await client.send("text", text="hello")
        await client.until("session.ready")
        await client.until("reply.done")


async def test_a_conversation_goes_on_with_its_id_and_with_its_token(server: Server, fakes: Fakes) -> None:
    async with server.client() as client:
        ready = await client.start()
        await client.send("text", text="first")
        await client.until("reply.done")
    for way in ({"conversation_id": ready["conversation_id"]}, {"resume_token": ready["resume_token"]}):
        async with server.client() as client:
            again = await client.start(**way)
            assert again["conversation_id"] == ready["conversation_id"]
            await client.send("text", text="next")
            await client.until("reply.done")
    assert [message.content for message in fakes.llm.requests[-1] if message.role == "user"] == [
        "first",
        "next",
        "next",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conversation_id", "conv_AAAAAAAAAAAAAAAAAAAAAA"),
        ("conversation_id", "nonsense"),
        ("resume_token", "conv_AAAAAAAAAAAAAAAAAAAAAA.00"),
        ("voice_id", "nobody"),
    ],
)
async def test_what_does_not_exist_is_said(server: Server, field: str, value: str) -> None:
    async with server.client() as client:
        await client.send("session.start", **{field: value})
        error = await client.until("error")
        assert error["code"] == "NOT_FOUND"
        await client.start()


@pytest.mark.parametrize(
    "frame",
    [
        "{not json",
        "[1, 2]",
        "{}",
        '{"type": "dance"}',
        '{"type": "text"}',
        '{"type": "text", "text": 5}',
        '{"type": "text", "text": "hi", "loud": true}',
        '{"type": "playback", "turn_id": "t", "played_ms": "much"}',
        '{"type": "session.start", "audio": {"format": "aac"}}',
        '{"type": "session.start", "audio": {"format": "pcm16", "sample_rate": 1000000}}',
        '{"type": "session.start", "mode": "live", "audio": {"format": "webm"}}',
        '{"type": "text", "text": "' + "x" * 9000 + '"}',
        "[" * 100_000,
    ],
)
async def test_a_bad_message_gets_an_error_and_the_next_turn_works(server: Server, frame: str) -> None:
    async with server.client() as client:
        await client.ws.send_str(frame)
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("BAD_MESSAGE", False)
        await client.send("text", text="hello")
        done = await client.until("reply.done")
        assert done["status"] == "completed"


async def test_a_huge_text_frame_is_a_clean_close(server: Server) -> None:
    async with server.client() as client:
        await client.start()
        await client.ws.send_str("x" * (2 << 20))
        with pytest.raises(ConnectionError, match="1009"):
            await client.until("error")


NOT_AUDIO = json.dumps({"not": "audio"}).encode() * 50


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (NOT_AUDIO, "BAD_AUDIO"),
        (b"\x1a\x45\xdf\xa3" + bytes(500), "BAD_AUDIO"),
        (b"", "NO_SPEECH"),
        (encode_ogg_opus(tone(0.0, 1000), 16_000), "NO_SPEECH"),
        (encode_ogg_opus(tone(0.3, 8000), 16_000), "BUFFER_LIMIT"),
    ],
)
async def test_bad_audio_gets_its_code_and_the_next_turn_works(server: Server, data: bytes, code: str) -> None:
    async with server.client() as client:
        await client.start()
        await client.ws.send_bytes(data)
        await client.send("audio.end")
        error = await client.until("error")
        assert error["code"] == code
        await client.ws.send_bytes(encode_ogg_opus(SPEECH, 16_000))
        await client.send("audio.end")
        done = await client.until("reply.done")
        assert done["status"] == "completed"


async def test_over_the_buffer_limit_the_session_lives(server: Server) -> None:
    async with server.client() as client:
        await client.start()
        for _ in range(1001):
            await client.ws.send_bytes(b"x")
        assert (await client.until("error"))["code"] == "BUFFER_LIMIT"
        await client.send("text", text="hello")
        await client.until("reply.done")


async def test_raw_audio_of_an_odd_length_is_bad_audio(server: Server) -> None:
    async with server.client() as client:
        await client.start(mode="live")
        await client.ws.send_bytes(b"\x00\x00\x00")
        assert (await client.until("error"))["code"] == "BAD_AUDIO"


@pytest.mark.parametrize("rate_hz", [8_000, 48_000])
async def test_other_rates_are_resampled(server: Server, rate_hz: int) -> None:
    async with server.client() as client:
        await client.start(mode="live", audio={"format": "pcm16", "sample_rate": rate_hz})
        scale = rate_hz / 16_000
        await client.speak(tone(0.3, 800 * scale), rate_hz)
        await client.speak(tone(0.0, 800 * scale), rate_hz)
        assert (await client.until("reply.done"))["status"] == "completed"


async def test_interrupting_in_words(server: Server, fakes: Fakes) -> None:
    fakes.llm.replies = ["A long answer that goes on and on and on. " * 5, "ok"]
    async with server.client() as client:
        await client.start()
        await client.send("text", text="tell me")
        await client.until("reply.audio")
        await client.send("interrupt")
        done = await client.until("reply.done")
        assert done["status"] == "interrupted"
        heard = len(client.audio)
        await asyncio.sleep(0.3)
        await client.send("ping")
        await client.until("pong")
        assert len(client.audio) == heard


async def test_an_engine_that_fails_is_said(server: Server, fakes: Fakes) -> None:
    fakes.llm.error = EngineFailed("The model is broken. Try another.")
    async with server.client() as client:
        await client.start()
        await client.send("text", text="hello")
        error = await client.until("error")
        assert (error["code"], error["message"]) == ("ENGINE_FAILED", "The model is broken. Try another.")
        assert (await client.until("reply.done"))["status"] == "failed"
        fakes.llm.error, fakes.llm.hang = None, True
        await client.send("text", text="hello")
        assert (await client.until("error"))["code"] == "ENGINE_TIMEOUT"
        assert (await client.until("reply.done"))["status"] == "failed"
        fakes.llm.hang = False
        await client.send("text", text="hello")
        assert (await client.until("reply.done"))["status"] == "completed"


async def test_a_full_house(server: Server) -> None:
    async with server.client() as one, server.client() as two:
        await one.start()
        await two.start()
        async with server.client() as third:
            error = await third.until("error")
            assert (error["code"], error["fatal"]) == ("SERVER_FULL", True)
            with pytest.raises(ConnectionError, match="1013"):
                await third.until("never")
    async with server.client() as fourth:
        await fourth.start()


async def test_a_client_that_vanishes_mid_upload_and_mid_reply(server: Server, fakes: Fakes) -> None:
    fakes.llm.replies = "A long answer that goes on and on and on. " * 5
    async with server.client() as client:
        await client.start()
        await client.ws.send_bytes(recording(1)[:1000])
        assert client.ws._response.connection is not None
        client.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    async with server.client() as client:
        await client.start()
        await client.send("text", text="hello")
        await client.until("reply.audio")
        client.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    await settled(lambda: server.service.sessions.active == 0)
    await settled(lambda: fakes.llm.active == fakes.tts.active == 0)


async def test_a_client_that_never_reads_is_dropped(server: Server, fakes: Fakes) -> None:
    fakes.llm.replies = "word " * 60_000
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=narrow_socket)) as http,
        http.ws_connect(f"{server.url}/ws/chat") as ws,
    ):
        await ws.send_json({"type": "session.start", "output": {"sample_rate": 48_000}})
        assert (await ws.receive_json())["type"] == "session.ready"
        await ws.send_json({"type": "text", "text": "hello"})
        assert ws._response.connection is not None
        transport = ws._response.connection.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        assert server.service.sessions.active == 1
        await settled(lambda: server.service.sessions.active == 0)
        transport.abort()


def narrow_socket(address: tuple[Any, ...]) -> socket.socket:
    """One whose buffer is full after a second of audio: the kernel's own holds half a minute."""
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    return made


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [("http://evil.example", False), ("null", False), ("http://[", False), (None, True), ("ours", True)],
)
async def test_other_sites_are_kept_out(server: Server, origin: str | None, welcome: bool) -> None:
    headers = {} if origin is None else {"Origin": server.url if origin == "ours" else origin}
    if welcome:
        async with server.client(**headers) as client:
            await client.start()
    else:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            async with server.client(**headers):
                pass


async def test_two_ends_of_audio(server: Server) -> None:
    async with server.client() as client:
        await client.start(audio={"format": "pcm16", "sample_rate": 16000})
        await client.ws.send_bytes(float_to_pcm16(SPEECH))
        await client.send("audio.end")
        await client.send("audio.end")
        assert (await client.until("error"))["code"] == "NO_SPEECH"
        assert (await client.until("reply.done"))["status"] == "completed"
