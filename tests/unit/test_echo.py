"""Our own voice from the loudspeaker is told from the user's, alone and at once, in simulated rooms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample, silence
from avatar.core.echo import ECHO_LIKENESS, LEAST_MS, EchoReference, said_by_us
from avatar.engines.tts.espeak import SAMPLE_RATE_HZ
from avatar.engines.tts.espeak_library import library

REPLIES = (
    ("en-us", "The capital of France is Paris, and it has been so for more than a thousand years."),
    ("en-us+f2", "You could start by boiling the potatoes for twenty minutes with a little salt."),
    ("en-us+m3", "There are three trains this evening, and the last one leaves at half past ten."),
    ("cmn", "法国的首都是巴黎，它是一座非常古老的城市，有两千多年的历史。"),
)
QUESTIONS = (
    ("en-us", "Stop, I wanted to ask you something else."),
    ("en-us+f4", "What about the weather in Berlin tomorrow?"),
    ("en+m3", "No no, wait a moment please, that is wrong."),
    ("cmn+f2", "等一下，我想问你另外一个问题。"),
)


def say(voice: str, text: str) -> Pcm:
    """`text` in espeak-ng's `voice`, float32, 16 kHz."""
    pcm = library().synthesize(text, voice, 175).pcm.astype(np.float32) / np.float32(32768)
    return resample(pcm, SAMPLE_RATE_HZ, INPUT_RATE_HZ)


def through_speaker(pcm: Pcm) -> Pcm:
    """A small loudspeaker: little below 350 Hz or above 6 kHz, and a phase of its own."""
    hz = np.fft.rfftfreq(pcm.size, 1 / INPUT_RATE_HZ)
    gain = 1 / np.sqrt((1 + (350 / np.maximum(hz, 1)) ** 4) * (1 + (hz / 6000) ** 4))
    turned = np.fft.irfft(np.fft.rfft(pcm) * gain * np.exp(-2j * np.arctan(hz / 700)), pcm.size)
    return turned.astype(np.float32)


def room(rng: np.random.Generator, direct_db: float, decay_s: float) -> Pcm:
    """An impulse response: the direct sound, `direct_db` above noise that falls by 60 dB in `decay_s`."""
    time_s = np.arange(int(decay_s * INPUT_RATE_HZ)) / INPUT_RATE_HZ
    tail = rng.standard_normal(time_s.size) * 10 ** (-3 * time_s / decay_s)
    tail *= 10 ** (-direct_db / 20) / np.linalg.norm(tail)
    tail[0] = 1
    return tail.astype(np.float32)


def convolve(pcm: Pcm, response: Pcm) -> Pcm:
    size = pcm.size + response.size - 1
    out: Pcm = np.fft.irfft(np.fft.rfft(pcm, size) * np.fft.rfft(response, size), size).astype(np.float32)
    return out


def loudness(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(pcm**2)))


@dataclass(frozen=True)
class Moment:
    """A reply that was played, and as long pieces of its echo, of a user and of noise, of loudness 1 each."""

    played: Pcm
    echo: Pcm
    user: Pcm
    noise: Pcm

    def likeness(self, mic: Pcm) -> float:
        reference = EchoReference()
        for start in range(0, self.played.size, 320):
            reference.push(self.played[start : start + 320])
        return reference.likeness(mic.astype(np.float32))


@cache
def moments(piece_ms: int, count: int, seed: int = 1) -> list[Moment]:
    """`count` moments with other voices, sentences and rooms in each."""
    return list(_moments(piece_ms, count, np.random.default_rng(seed)))


def _moments(piece_ms: int, count: int, rng: np.random.Generator) -> Iterator[Moment]:
    replies, questions = [say(*reply) for reply in REPLIES], [say(*question) for question in QUESTIONS]

    def piece(pcm: Pcm) -> Pcm:
        while True:
            start = rng.integers(0, pcm.size - piece_ms * 16)
            cut = pcm[start : start + piece_ms * 16]
            if loudness(cut) > 0.3 * loudness(pcm):
                return cut / np.float32(loudness(cut))

    for index in range(count):
        played = replies[index % len(replies)][-3 * INPUT_RATE_HZ :]
        echo = convolve(through_speaker(played), room(rng, rng.uniform(0, 9), rng.uniform(0.15, 0.4)))
        user = convolve(questions[index // 2 % len(questions)], room(rng, 6, 0.2))
        noise = rng.standard_normal(piece_ms * 16).astype(np.float32)
        yield Moment(played, piece(echo[: played.size]), piece(user), noise)


def share_called_echo(mic: Callable[[Moment], Pcm], piece_ms: int, count: int = 40) -> float:
    return sum(moment.likeness(mic(moment)) >= ECHO_LIKENESS for moment in moments(piece_ms, count)) / count


QUIET = np.float32(10 ** (-6 / 20))
NOISE_10_DB = np.float32(10 ** (-10 / 20))


@pytest.mark.parametrize(("piece_ms", "least"), [(300, 0.85), (500, 0.9)])
def test_an_echo_is_found_at_any_gain_in_noise(piece_ms: int, least: float) -> None:
    quiet = np.float32(0.01)
    assert share_called_echo(lambda moment: quiet * (moment.echo + NOISE_10_DB * moment.noise), piece_ms) >= least


@pytest.mark.parametrize("piece_ms", [300, 500])
def test_a_user_is_not_an_echo_even_over_one(piece_ms: int) -> None:
    assert share_called_echo(lambda moment: moment.user, piece_ms) <= 0.05
    assert share_called_echo(lambda moment: moment.user + QUIET * moment.echo, piece_ms) <= 0.05


def test_noise_is_not_an_echo() -> None:
    assert share_called_echo(lambda moment: moment.noise, 300) == 0


def test_the_reply_itself_is_its_echo_whatever_the_delay() -> None:
    played = say(*REPLIES[0])[: 3 * INPUT_RATE_HZ]
    reference = EchoReference()
    reference.push(played)
    for start in (0, 16_001, 3 * INPUT_RATE_HZ - 6_400):
        assert reference.likeness(-0.1 * played[start : start + 6_400]) > 0.95


def test_without_a_reply_or_without_sound_there_is_no_echo() -> None:
    speech = say(*REPLIES[0])[:8_000]
    reference = EchoReference()
    assert reference.likeness(speech) == 0
    reference.push(speech)
    assert reference.likeness(silence(8_000)) == 0
    assert reference.likeness(speech[: LEAST_MS * 16 - 1]) == 0


@given(st.lists(st.integers(0, 700), max_size=20))
def test_how_the_reply_was_chunked_makes_no_difference(sizes: list[int]) -> None:
    noise = np.random.default_rng(3).standard_normal(sum(sizes)).astype(np.float32)
    mic = np.random.default_rng(4).standard_normal(2_000).astype(np.float32)
    whole, chunked, start = EchoReference(), EchoReference(), 0
    whole.push(noise)
    for size in sizes:
        chunked.push(noise[start : start + size])
        start += size
    assert chunked.likeness(mic) == pytest.approx(whole.likeness(mic), abs=1e-4)
    assert 0 <= whole.likeness(mic) <= 1


REPLY = "Well, the capital of France is Paris, and it has about two million people. 法国的首都是巴黎，它很大。"


@pytest.mark.parametrize(
    "words",
    [
        *(
            "the capital",
            "Capital of France is.",
            "of france is perish and",
            "of France Paris and it",
            "is Paris, um, and it",
        ),
        *("法国的首都", "的首都是巴里它", "巴黎它很大"),
    ],
)
def test_words_of_the_reply_are_ours(words: str) -> None:
    assert said_by_us(words, REPLY)


@pytest.mark.parametrize(
    "words",
    [
        *("", "Paris", "France the", "is London", "what is Paris", "the capital of Germany is", "stop it please"),
        *("what's the capital of France", "德国的首都是哪"),
        *("首都是", "法国在哪里", "等一下", "法国的城市很多"),
    ],
)
def test_words_of_the_user_are_not_ours(words: str) -> None:
    assert not said_by_us(words, REPLY)
    assert not said_by_us(words, "")


@given(st.lists(st.sampled_from("red blue 红 green sun".split()), max_size=12), st.data())
def test_any_long_enough_part_of_the_reply_is_ours_one_slip_or_not(reply: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(reply)))
    part = reply[start : data.draw(st.integers(start, len(reply)))]
    weight = sum(1 if word == "红" else 2 for word in part)
    assert said_by_us(" ".join(part), " ".join(reply)) == (weight >= 4)
    if weight >= 6:
        slip = data.draw(st.integers(1, len(part) - 1))
        assert said_by_us(" ".join([*part[:slip], "moon", *part[slip:]]), " ".join(reply))
