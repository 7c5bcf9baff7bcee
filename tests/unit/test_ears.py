"""The microphone: the same audio gives the same turns, however it is chunked; the utterance holds all of the speech."""

import asyncio
import gc
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.conversation.ears import FRAMES_AT_ONCE, QUIET_FRAMES, Ears
from avatar.conversation.overlap import Overlap
from avatar.conversation.utterance import Utterance
from avatar.core.audio import Pcm, float_to_pcm16, ms_to_samples, resample
from avatar.core.errors import BufferLimit
from avatar.core.turn_events import Action, BeginTurn, CommitTurn
from avatar.core.turns import TurnPolicy
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.fakes.stt import FakeSpeechToText
from tests.fakes.vad import FakeVoiceActivity, FakeVoiceStream
from tests.unit.conversation import tone
from tests.virtual_clock import VirtualClockLoop

NO_REPLY = Overlap(lambda: None)
# Speaks, hesitates, goes on, ends; then a short word.
PARTS = [(0.0, 400), (0.3, 900), (0.0, 300), (0.3, 700), (0.0, 900), (0.3, 250), (0.0, 2000)]
AUDIO: Pcm = np.concatenate([tone(amplitude, ms) for amplitude, ms in PARTS])


async def listen(chunks: list[Pcm], verdict_s: float) -> tuple[list[Action], list[int]]:
    stt = FakeSpeechToText()
    actions: list[Action] = []
    lengths: list[int] = []

    def act(action: Action) -> None:
        actions.append(action)
        if isinstance(action, CommitTurn):
            lengths.append(ears.take().pcm.size)

    end = FakeEndOfTurn(lambda pcm: 0.9 if pcm.size > 30_000 else 0.1, verdict_s)
    ears = Ears(FakeVoiceActivity(), end, lambda: Utterance(stt, None, 5), NO_REPLY, TurnPolicy(), 16_000, act)
    try:
        for chunk in chunks:
            ears.hear(float_to_pcm16(chunk))
            await asyncio.sleep(chunk.size / 16_000)
        await asyncio.sleep(1)
    finally:
        await ears.aclose()
    return actions, lengths


def run(chunks: list[Pcm], verdict_s: float = 0.03) -> tuple[list[Action], list[int]]:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(listen(chunks, verdict_s))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=40), st.sampled_from([0.0, 0.02, 0.2]))
def test_any_chunking_gives_the_same_turns(sizes: list[int], verdict_s: float) -> None:
    edges = np.cumsum(sizes)
    chunks = [chunk for chunk in np.split(AUDIO, edges[edges < AUDIO.size]) if chunk.size]
    assert run(chunks, verdict_s) == run([AUDIO[i : i + 320] for i in range(0, AUDIO.size, 320)])


def test_the_utterance_begins_before_the_first_sound() -> None:
    actions, lengths = run([AUDIO[i : i + 320] for i in range(0, AUDIO.size, 320)])
    begin, commit = actions[0], next(action for action in actions if isinstance(action, CommitTurn))
    assert isinstance(begin, BeginTurn)
    assert begin.at_ms == pytest.approx(400, abs=32)
    assert lengths[0] == pytest.approx(ms_to_samples(commit.at_ms - begin.at_ms + 300, 16_000), abs=1024)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 44_100, 47_999])
async def test_any_rate_is_heard_and_is_soon_ready(rate_hz: int) -> None:
    stt, actions = FakeSpeechToText(), list[Action]()
    began_s = time.thread_time()  # others who want the processor do not count
    for _ in range(5):
        ears = Ears(
            FakeVoiceActivity(), FakeEndOfTurn(0.1), lambda: Utterance(stt, None, 5), NO_REPLY, TurnPolicy(), rate_hz,
            actions.append,
        )  # fmt: skip
    assert time.thread_time() - began_s < 0.2  # a filter is made once
    ears.hear(float_to_pcm16(resample(tone(0.3, 640), 16_000, rate_hz)))
    await asyncio.sleep(0.05)
    assert [type(action) for action in actions] == [BeginTurn]
    await ears.aclose()


def test_a_flood_is_refused() -> None:
    with pytest.raises(BufferLimit, match="real time"):
        run([AUDIO, np.tile(AUDIO, 10)], verdict_s=0.4)


async def test_what_was_put_in_or_dropped_is_not_in_the_times_that_are_told() -> None:
    stt, starts = FakeSpeechToText(), list[float]()

    def act(action: Action) -> None:
        if isinstance(action, BeginTurn):
            starts.append(ears.sent_ms(action.at_ms))

    fakes = FakeVoiceActivity(), FakeEndOfTurn(0.9)
    ears = Ears(*fakes, lambda: Utterance(stt, None, 5), NO_REPLY, TurnPolicy(), 16_000, act, began_ms=1000)
    sent_ms, spoke_ms = 1000.0, list[float]()

    def hear(amplitude: float, ms: int) -> None:
        nonlocal sent_ms
        sent_ms += ms
        ears.hear(float_to_pcm16(tone(amplitude, ms)))

    async def speak_after_quiet() -> None:
        hear(0.0, 1600)
        await asyncio.sleep(1)
        spoke_ms.append(sent_ms)
        hear(0.3, 800)
        await asyncio.sleep(1)

    await speak_after_quiet()
    for _ in range(2):
        await asyncio.sleep(3)  # the microphone is cut off in the middle of a turn
        await speak_after_quiet()
    with pytest.raises(BufferLimit):
        hear(0.0, 60_000)
    await asyncio.sleep(1)
    await speak_after_quiet()
    assert starts == pytest.approx(spoke_ms, abs=40)
    await ears.aclose()


async def test_a_large_chunk_leaves_the_loop_free_and_loses_nothing() -> None:
    class Counting(FakeVoiceStream):
        def probabilities(self, pcm: Pcm) -> list[float]:
            frames.extend([512] * (pcm.size // 512))
            return super().probabilities(pcm)

    class Vad(FakeVoiceActivity):
        def open(self) -> FakeVoiceStream:
            return Counting()

    frames: list[int] = []
    actions: list[Action] = []
    stt = FakeSpeechToText()
    ears = Ears(
        Vad(), FakeEndOfTurn(0.1), lambda: Utterance(stt, None, 5), NO_REPLY, TurnPolicy(), 16_000, actions.append
    )
    ears.hear(float_to_pcm16(np.tile(AUDIO, 5)))
    assert len(frames) <= FRAMES_AT_ONCE + QUIET_FRAMES
    await asyncio.sleep(1)
    assert 0 <= 5 * AUDIO.size // 512 - len(frames) < QUIET_FRAMES  # in the quiet at its end, some wait for company
    assert len([action for action in actions if isinstance(action, BeginTurn)]) >= 5
    await ears.aclose()


async def test_a_verdict_that_is_called_off_before_it_began_leaves_nothing_behind() -> None:
    stt, end = FakeSpeechToText(), FakeEndOfTurn(0.1)
    ears = Ears(
        FakeVoiceActivity(), end, lambda: Utterance(stt, None, 5), NO_REPLY, TurnPolicy(), 16_000, lambda action: None
    )
    for frame in [tone(0.3, 32)] * 10 + [tone(0.0, 32)] * 10:
        if not ears.waits:
            ears.hear(float_to_pcm16(frame))
    assert ears.waits
    utterance = ears.clear()
    assert utterance is not None
    await utterance.aclose()
    await ears.aclose()
    gc.collect()  # a coroutine that nobody awaited would be complained of


async def test_looking_at_an_utterance_copies_nothing_and_what_was_seen_stays() -> None:
    stt = FakeSpeechToText()
    utterance = Utterance(stt, None, 5)
    seen: list[Pcm] = []
    for number in range(100):
        utterance.accept(np.full(5_000, number, dtype=np.float32))
        seen.append(utterance.pcm)
    assert np.shares_memory(utterance.pcm, utterance.pcm)
    for number, pcm in enumerate(seen):
        assert pcm.size == 5_000 * (number + 1)
        assert np.array_equal(pcm[::5_000], np.arange(number + 1))
    await utterance.aclose()
