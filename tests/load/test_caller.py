"""The reference client against a server whose delays are known, in real time."""

import asyncio

import numpy as np
import pytest

from avatar.core.audio import INPUT_RATE_HZ, Pcm, pcm16_to_float
from avatar.media.decoder_child import decode
from tests.load.caller import CONNECTION_LOST, TIMEOUT, Caller, CallFailed, Mode
from tests.load.fake_server import END_OF_TURN_MS, LEADING_SILENCE_MS, FakeServer, serving
from tests.load.questions import FRAME_SAMPLES, NOISE_RMS, Question, question

SLACK_MS = 60
"""A busy machine's: each tick of 20 ms may come late, at both ends."""


def speech(seconds: float = 0.5) -> Pcm:
    times_s = np.arange(int(seconds * INPUT_RATE_HZ)) / INPUT_RATE_HZ
    pcm: Pcm = (0.3 * np.sin(2 * np.pi * 200 * times_s)).astype(np.float32)
    return pcm


def a_question() -> Question:
    return question(speech())


async def test_live_latency_is_what_the_server_took() -> None:
    async with serving(FakeServer(think_ms=80)) as server, Caller(server.url) as caller:
        answers = [await caller.ask(a_question()) for _ in range(2)]

    for answer in answers:
        assert answer.voice_to_voice_ms is not None
        took_ms = END_OF_TURN_MS + 80 + LEADING_SILENCE_MS
        assert took_ms - 5 <= answer.voice_to_voice_ms <= took_ms + SLACK_MS
        assert (answer.status, answer.transcript, answer.text) == ("completed", "a question", "Yes.")
        assert answer.metrics["llm_ttft_ms"] == 12.0
        assert answer.errors == []
    assert not caller.errors
    assert caller.ready["engines"] == {"llm": "fake"}


async def test_the_microphone_runs_in_real_time_and_is_never_digital_silence() -> None:
    async with serving(FakeServer()) as server, Caller(server.url) as caller:
        await asyncio.sleep(0.5)
        await caller.ask(a_question())
        playing = [message for message in server.received if message["type"] == "playback"]
        frames = list(server.binary)

    assert server.received[0]["mode"] == "live"
    assert {len(frame) for frame in frames} == {FRAME_SAMPLES * 2}
    before = np.concatenate([pcm16_to_float(frame) for frame in frames[:20]])
    assert float(before.std()) == pytest.approx(NOISE_RMS, rel=0.2)
    seconds = 0.5 + 0.5 + (END_OF_TURN_MS + 50 + 200) / 1000
    assert len(frames) * 0.02 == pytest.approx(seconds, abs=0.15)
    assert playing
    assert 0 < playing[-1]["played_ms"] <= 200


async def test_a_caller_who_has_heard_enough_interrupts() -> None:
    async with serving(FakeServer(reply_ms=20_000)) as server, Caller(server.url, hear_s=0.4) as caller:
        answer = await caller.ask(a_question())
        kinds = [message["type"] for message in server.received]

    assert answer.status == "interrupted"
    assert answer.voice_to_voice_ms is not None
    assert answer.errors == []
    assert kinds.count("interrupt") >= 1


async def test_an_answer_longer_than_the_time_out_is_heard_out() -> None:
    async with serving(FakeServer(reply_ms=1500)) as server, Caller(server.url, answer_timeout_s=0.6) as caller:
        answer = await caller.ask(a_question())

    assert answer.status == "completed"
    assert answer.errors == []


async def test_push_to_talk_sends_what_a_browser_records() -> None:
    async with serving(FakeServer(think_ms=80)) as server, Caller(server.url, mode="push_to_talk") as caller:
        answer = await caller.ask(a_question())

    assert answer.voice_to_voice_ms is not None
    assert 105 <= answer.voice_to_voice_ms <= 110 + SLACK_MS
    assert len(server.binary) == 3
    pcm = decode(b"".join(server.binary), INPUT_RATE_HZ)
    assert pcm.size == pytest.approx(INPUT_RATE_HZ * 3 // 4, abs=FRAME_SAMPLES)


async def test_an_error_stands_in_for_the_answer() -> None:
    async with serving(FakeServer(error="ENGINE_FAILED")) as server, Caller(server.url) as caller:
        answer = await caller.ask(a_question())

    assert answer.errors == ["ENGINE_FAILED"]
    assert answer.status == "failed"
    assert answer.voice_to_voice_ms is None
    assert dict(caller.errors) == {"ENGINE_FAILED": 1}


async def test_silence_is_a_timeout_and_the_call_goes_on() -> None:
    server = FakeServer(silent=True)
    async with serving(server), Caller(server.url, answer_timeout_s=0.5) as caller:
        first = await caller.ask(a_question())
        server.silent = False
        caller._answer_timeout_s = 5.0
        second = await caller.ask(a_question())

    assert first.errors == [TIMEOUT]
    assert second.errors == []


async def test_a_lost_connection_ends_every_question() -> None:
    async with serving(FakeServer(hang_up=True)) as server, Caller(server.url) as caller:
        answers = [await caller.ask(a_question()) for _ in range(2)]

    assert [answer.errors for answer in answers] == [[CONNECTION_LOST], [CONNECTION_LOST]]


@pytest.mark.parametrize("mode", ["live", "push_to_talk"])
async def test_a_refusal_says_its_code(mode: Mode) -> None:
    async with serving(FakeServer(refuse="SERVER_FULL")) as server:
        with pytest.raises(CallFailed, match="SERVER_FULL"):
            async with Caller(server.url, mode=mode):
                pass


async def test_nobody_there_is_a_refusal_too() -> None:
    with pytest.raises(CallFailed, match="ClientConnectorError"):
        async with Caller("ws://127.0.0.1:9/ws/chat"):
            pass


def test_a_recording_with_a_long_quiet_end_is_cut_after_its_speech() -> None:
    noisy = np.concatenate((speech(), np.random.default_rng(0).normal(0, 0.002, 16_000).astype(np.float32)))

    assert question(noisy).pcm.size == pytest.approx(INPUT_RATE_HZ // 2, abs=16)
    frames = question(noisy).frames
    assert float(np.abs(pcm16_to_float(frames[-1])).max()) > 0.1
