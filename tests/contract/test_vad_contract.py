"""What every voice activity engine, and its fake, must do."""

import statistics
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from avatar.core.audio import Framer, Pcm, silence
from avatar.engines.base import VoiceActivity
from avatar.engines.vad.silero import SileroVad
from tests.fakes.vad import FakeVoiceActivity
from tests.speech import spoken


@pytest.fixture(params=[SileroVad, FakeVoiceActivity])
async def vad(request: pytest.FixtureRequest) -> AsyncIterator[VoiceActivity]:
    make: Callable[[], VoiceActivity] = request.param
    engine = make()
    await engine.warm_up()
    yield engine
    await engine.aclose()


@pytest.fixture
async def sentence(vad: VoiceActivity) -> list[Pcm]:
    """Frames of half a second of silence, a sentence, and half a second of silence."""
    pcm = np.concatenate((silence(8000), await spoken("What is the capital of France?"), silence(8000)))
    return list(Framer(vad.frame_samples).push(pcm))


def listen(vad: VoiceActivity, frames: list[Pcm]) -> list[float]:
    stream = vad.open()
    return [probability for frame in frames for probability in stream.probabilities(frame)]


def test_it_is_what_the_protocol_says(vad: VoiceActivity) -> None:
    assert isinstance(vad, VoiceActivity)
    assert vad.name
    assert vad.frame_samples > 0


def test_probabilities_are_floats_between_0_and_1(vad: VoiceActivity) -> None:
    random = np.random.default_rng(1)
    frames = [level * random.standard_normal(vad.frame_samples, dtype=np.float32) for level in (0, 1e-4, 0.03, 1, 10)]
    for probability in listen(vad, frames):
        assert type(probability) is float
        assert 0.0 <= probability <= 1.0


def test_speech_is_told_from_silence(vad: VoiceActivity, sentence: list[Pcm]) -> None:
    probabilities = listen(vad, sentence)
    assert max(probabilities[:12]) < 0.5
    assert max(probabilities[-8:]) < 0.5
    spoken_part = probabilities[18:-18]
    assert statistics.mean(probability > 0.5 for probability in spoken_part) > 0.6


def test_streams_do_not_mix(vad: VoiceActivity, sentence: list[Pcm]) -> None:
    alone = listen(vad, sentence)
    one, other = vad.open(), vad.open()
    together = []
    for frame in sentence:
        together += one.probabilities(frame)
        other.probabilities(frame[::-1].copy())
    assert together == alone


def test_reset_forgets(vad: VoiceActivity, sentence: list[Pcm]) -> None:
    stream = vad.open()
    first = stream.probabilities(np.concatenate(sentence))
    stream.reset()
    assert stream.probabilities(np.concatenate(sentence)) == first


def test_frames_may_come_one_by_one_or_several_at_once(vad: VoiceActivity, sentence: list[Pcm]) -> None:
    stream = vad.open()
    in_threes = [
        probability
        for first in range(0, len(sentence), 3)
        for probability in stream.probabilities(np.concatenate(sentence[first : first + 3]))
    ]
    assert in_threes == pytest.approx(listen(vad, sentence), abs=1e-5)


def test_the_frame_is_left_as_it_was(vad: VoiceActivity, sentence: list[Pcm]) -> None:
    frame = sentence[20].copy()
    vad.open().probabilities(frame)
    assert np.array_equal(frame, sentence[20])


@pytest.mark.parametrize("wrong", [0, 1, 511, 513, 1023])
def test_a_frame_of_another_length_is_refused(vad: VoiceActivity, wrong: int) -> None:
    with pytest.raises(ValueError, match="512"):
        vad.open().probabilities(silence(wrong))


def test_it_is_quick_enough_for_the_event_loop(vad: VoiceActivity, sentence: list[Pcm]) -> None:
    """By the processor time that a frame takes, of all threads: others who want the processor do not count."""
    stream = vad.open()
    times_s = []
    for frame in sentence * 3:
        start_s = time.process_time()
        stream.probabilities(frame)
        times_s.append(time.process_time() - start_s)
    assert statistics.median(times_s) < 0.0005


async def test_warming_and_closing_may_be_repeated(vad: VoiceActivity) -> None:
    await vad.warm_up()
    vad.open().probabilities(silence(vad.frame_samples))
    await vad.aclose()
    await vad.aclose()


@pytest.mark.parametrize("make", [SileroVad, FakeVoiceActivity])
async def test_closing_before_warming_is_fine(make: Callable[[], VoiceActivity]) -> None:
    await make().aclose()
