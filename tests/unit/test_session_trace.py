"""What a session says of where its turns' time went; on virtual time, so to the millisecond."""

import asyncio
from itertools import pairwise

import pytest

from avatar.core.audio import INPUT_RATE_HZ
from avatar.core.trace import STAGES, TurnMetrics
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.unit.conversation import Client, Fakes, recording, talking

UNTOOLED = [stage for stage in STAGES if stage != "tools"]
LONG = "This is quite a long answer. It has several sentences. Each of them takes a while. And here is the last one."


def slow() -> Fakes:
    """Each stage takes a time of its own: 30 ms, 50 ms and 10 ms a token, 70 ms."""
    fakes = Fakes()
    fakes.stt.delay_s, fakes.llm.first_token_s, fakes.llm.token_s, fakes.tts.delay_s = 0.03, 0.05, 0.01, 0.07
    return fakes


def ms(metrics: TurnMetrics) -> dict[str, tuple[float, float]]:
    return {span.name: (span.start_ms, span.end_ms) for span in metrics.trace}


async def ask(client: Client) -> TurnMetrics:
    await client.speak(1)
    await client.rest(6)
    return client.done[-1].metrics


async def test_an_eager_reply_works_while_the_end_of_the_turn_is_waited_for() -> None:
    async with talking(slow()) as client:
        metrics = await ask(client)
    trace = ms(metrics)
    assert list(trace) == UNTOOLED
    assert trace["endpoint"][0] == 0
    assert trace["endpoint"][1] == metrics.endpoint_ms
    assert 0 < trace["stt"][0] < trace["endpoint"][1]
    assert metrics.stt_ms == 30
    assert metrics.llm_ttft_ms == 50
    for before, after in pairwise(list(trace)[2:]):
        assert trace[before][1] == trace[after][0]
    assert trace["queue"][1] == metrics.voice_to_voice_ms
    assert metrics.wire_ms == 0  # this client takes everything at once
    assert metrics.eager_tries == 0


async def test_audio_that_is_ready_early_waits_for_the_turn() -> None:
    fakes = slow()
    fakes.stt.text = "I think so"
    fakes.end_of_turn = FakeEndOfTurn(0.1)  # the ceiling ends the turn
    async with talking(fakes) as client:
        metrics = await ask(client)
    trace = ms(metrics)
    assert trace["tts_first_audio"][1] < 400
    assert metrics.queue_ms is not None
    assert metrics.queue_ms > 700
    assert trace["queue"][1] == pytest.approx(trace["endpoint"][1], abs=33)


async def test_a_slow_socket_shows() -> None:
    async with talking(slow()) as client:
        client.reading.clear()
        await client.speak(1)
        await client.rest(1)
        client.reading.set()
        await client.rest(6)
    wire_ms = client.done[0].metrics.wire_ms
    assert wire_ms is not None
    assert 400 < wire_ms < 1000


async def test_a_recording_has_no_endpoint_and_typed_words_no_transcription() -> None:
    async with talking(slow(), mode="push_to_talk") as client:
        client.session.audio(recording(1))
        client.session.end_audio()
        await asyncio.sleep(5)
        client.session.say("hello")
        await asyncio.sleep(5)
    spoken, typed = (turn.metrics for turn in client.done)
    assert list(ms(spoken)) == UNTOOLED[1:]
    assert ms(spoken)["stt"][0] == 0
    assert list(ms(typed)) == UNTOOLED[2:]
    assert typed.stt_ms is None


async def test_dropped_replies_are_counted_in_their_turn_alone() -> None:
    fakes = slow()
    fakes.stt.text = "I think so"
    fakes.end_of_turn = FakeEndOfTurn(0.1)
    async with talking(fakes) as client:
        for _ in range(2):
            await client.speak(1)
            await client.rest(0.5)
        await client.speak(1)
        await client.rest(8)
        await client.speak(1)
        await client.rest(8)
    first, second = (turn.metrics for turn in client.done)
    assert first.eager_tries == 2
    assert first.wasted_tokens == 2 * len("I am fine. How are you?".split())
    first_audio_ms = (
        30 + 50 + 3 * 10 + 70
    )  # a clause is known to end when the next word comes; the model is done before
    assert first.wasted_ms == pytest.approx(2 * first_audio_ms, abs=0.2)
    assert (second.eager_tries, second.wasted_tokens, second.wasted_ms) == (0, 0, 0)


async def test_noise_that_had_no_words_wastes_its_transcription_alone() -> None:
    fakes = slow()
    fakes.end_of_turn = FakeEndOfTurn(0.1)
    fakes.stt.text = lambda pcm: "" if pcm.size < 1.5 * INPUT_RATE_HZ else "words"
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(0.6)
        await client.speak(1)
        await client.rest(8)
    metrics = client.done[0].metrics
    assert (metrics.eager_tries, metrics.wasted_tokens, metrics.wasted_ms) == (1, 0, 30)


async def test_a_typed_turn_is_not_charged_for_what_was_being_said() -> None:
    fakes = slow()
    fakes.stt.text = "I think so"
    fakes.end_of_turn = FakeEndOfTurn(0.1)
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(0.5)
        client.session.say("hello")
        await client.rest(8)
    typed = client.done[0].metrics
    assert typed.stt_ms is None
    assert typed.eager_tries == 0


async def test_all_of_it_is_saved() -> None:
    async with talking(slow()) as client:
        metrics = await ask(client)
    assert client.store.saved[0].timings == metrics.numbers()


async def test_a_voice_slower_than_speech_is_seen_to_run_dry() -> None:
    fakes = Fakes()
    fakes.llm.replies = LONG
    fakes.llm.token_s = 0.5
    async with talking(fakes) as client:
        client.session.say("hello")
        await asyncio.sleep(30)
        fakes.llm.token_s = 0.0
        client.session.say("hello")
        await asyncio.sleep(30)
    starved, fed = (turn.metrics for turn in client.done)
    assert 1 <= starved.underruns <= 3
    assert fed.underruns == 0
