"""Is what the microphone hears our own reply, coming back through the room? By its sound, and by its words.

Pure. Without headphones, a browser's echo canceller leaves some of the reply in the microphone; it must not be taken
for the user. Knows what was played, not when: any delay within `REFERENCE_MS` is found.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from avatar.core.audio import Pcm, silence
from avatar.core.partials import Word, split_words

ECHO_LIKENESS = 0.75
"""What is this much like what was played, by amplitude, is its echo.

Measured with espeak-ng in simulated rooms (direct sound 0 to 9 dB above 0.15 to 0.4 s of reverberation, a small
loudspeaker, noise 10 dB below), 200 pieces each of 100, 200, 300 and 500 ms. Called an echo were: of echoes 82, 93,
97.5 and 99 %; of users 2.5, 1.5, 0 and 0 %; of users 6 dB above an echo 4, 0.5, 0.5 and 0.5 %, 3 dB above it 10, 8, 6
and 4.5 %, as loud as it 26, 23, 17 and 13 %; of noise none.
"""
REFERENCE_MS = 3000
"""How much of what was played is kept: an echo comes back within this time."""
LEAST_MS, MOST_MS = 100, 600
"""Less of the microphone is too little to tell; of more, the last part is looked at."""

_RATE_HZ = 16_000
_STEP = 4
_BAND_HZ = _RATE_HZ // _STEP
_LOW_HZ, _HIGH_HZ = 300, 1900
_TAPS = 63
_REFERENCE = REFERENCE_MS * _BAND_HZ // 1000
_SMOOTH_BINS = 100 * _REFERENCE // _BAND_HZ
_ROOM_TAPS = 32  # 8 ms; more explains more of any voice, not only of its own echo
_EARLY_TAPS = 4  # the best lag may be a reflection louder than the direct sound
_EPSILON = 1e-9


def _band_pass() -> Pcm:
    """The 300 to 1900 Hz of 16 kHz, a windowed sinc: loudspeakers and rooms change speech least there."""
    n = np.arange(_TAPS) - (_TAPS - 1) / 2
    high, low = (2 * hz / _RATE_HZ * np.sinc(2 * hz / _RATE_HZ * n) for hz in (_HIGH_HZ, _LOW_HZ))
    taps: Pcm = ((high - low) * np.hamming(_TAPS)).astype(np.float32)
    return taps


_FILTER = _band_pass()


def _to_band(pcm: Pcm) -> Pcm:
    """Speech band of 16 kHz audio at 4 kHz; `_TAPS` samples or more."""
    band: Pcm = sliding_window_view(pcm, _TAPS)[::_STEP] @ _FILTER
    return band


class EchoReference:
    """The last seconds of what the client plays, to hold the microphone against."""

    def __init__(self) -> None:
        self._rest = silence(0)
        self._band = silence(_REFERENCE)

    def push(self, played: Pcm) -> None:
        """Take what is played next, float32, 16 kHz, in pieces of any size."""
        pcm = np.concatenate((self._rest, played))
        whole = max(0, (pcm.size - _TAPS) // _STEP + 1)
        self._rest = pcm[whole * _STEP :].copy()
        if whole:
            self._band = np.concatenate((self._band, _to_band(pcm)))[-_REFERENCE:]

    def likeness(self, mic: Pcm) -> float:
        """How much of `mic` is what was played, 0…1, by amplitude: `ECHO_LIKENESS` and more is an echo.

        `mic`: the newest 100 to 600 ms of the microphone, float32, 16 kHz, louder or softer as may be; less gives 0.
        The delay is where both, whitened by the spectrum of `mic`, correlate best. There the first 8 ms of the room's
        response are fitted by least squares, and the share of `mic` which they explain is the answer.
        """
        if mic.size * 1000 < LEAST_MS * _RATE_HZ:
            return 0.0
        heard = _to_band(mic[-MOST_MS * _RATE_HZ // 1000 :])
        if float(heard @ heard) < _EPSILON:
            return 0.0
        lag = _best_lag(heard, self._band)
        start, end = lag + _EARLY_TAPS - _ROOM_TAPS, lag + _EARLY_TAPS + heard.size - 1
        played = np.pad(self._band[max(0, start) : end], (max(0, -start), max(0, end - self._band.size)))
        return _explained(heard, played)


def _best_lag(heard: Pcm, played: Pcm) -> int:
    """Where in `played` is `heard` most likely from: whitened, a voice's own pitch makes no false peaks."""
    spectrum, reference = np.fft.rfft(heard, played.size), np.fft.rfft(played)
    power = np.cumsum(np.pad(np.abs(spectrum) ** 2, (_SMOOTH_BINS // 2, _SMOOTH_BINS - _SMOOTH_BINS // 2)))
    smooth = power[_SMOOTH_BINS:] - power[:-_SMOOTH_BINS]
    weight = 1 / (smooth + 1e-3 * smooth.max() + _EPSILON)
    weight[: _LOW_HZ * _REFERENCE // _BAND_HZ] = 0
    weight[_HIGH_HZ * _REFERENCE // _BAND_HZ :] = 0
    correlation = np.fft.irfft(np.conj(spectrum) * reference * weight, played.size)[: played.size - heard.size + 1]
    energies = np.cumsum(np.fft.irfft(reference * np.sqrt(weight), played.size) ** 2, dtype=np.float64)
    energies = energies[heard.size - 1 :] - np.concatenate(([0.0], energies[: -heard.size]))
    return int((np.abs(correlation) / np.sqrt(energies + 1e-3 * energies.max() + _EPSILON)).argmax())


def _explained(heard: Pcm, played: Pcm) -> float:
    """Share of the amplitude of `heard` that a filter of `_ROOM_TAPS` makes of `played`, longer by that filter."""
    gram = _products(played, heard.size)
    loaded = gram + np.eye(_ROOM_TAPS) * (0.02 * gram.diagonal().max() + _EPSILON)
    room = np.linalg.solve(loaded, np.correlate(played, heard, "valid"))
    fitted = np.correlate(played, room.astype(np.float32), "valid")
    share = float((2 * heard - fitted) @ fitted / (heard @ heard))
    return float(np.sqrt(min(1.0, max(0.0, share))))


def _products(played: Pcm, size: int) -> NDArray[np.float64]:
    """Inner products of all pieces of `size` samples of `played`. A product of matrices would start the threads of the
    BLAS library, which is slow on a busy machine; each row follows from the one above."""
    first, last = played[: _ROOM_TAPS - 1].astype(np.float64), played[size:].astype(np.float64)
    change = np.outer(last, last) - np.outer(first, first)
    gram = np.empty((_ROOM_TAPS, _ROOM_TAPS))
    gram[0] = gram[:, 0] = np.correlate(played, played[:size], "valid")
    for row in range(1, _ROOM_TAPS):
        gram[row, 1:] = gram[row - 1, :-1] + change[row - 1]
    return gram


_LEAST_WEIGHT = 4
"""Two words, or four characters: less is said by everybody."""
_ALIKE = 0.5
"""A word with this share of another's letters may be the other one misheard; "Italy" is not "France" misheard."""


def said_by_us(words: str, reply: str) -> bool:
    """Whether `words`, a transcript of the microphone, are words of `reply` in their order and next to each other.

    Two words or more, or four characters of Chinese, must be the same. One more may be misheard, or, not at an end,
    missing or too many: "what's the capital of France" asks, even if the reply says "the capital of France".
    """
    heard, said = split_words(words), split_words(reply)
    weights = [1 if word.is_character else 2 for word in heard]
    if sum(weights) < _LEAST_WEIGHT:
        return False
    slips = _slips(heard, said)
    return slips == 0 or (slips == 1 and sum(weights) - max(weights) >= _LEAST_WEIGHT)


def _slips(heard: Sequence[Word], said: Sequence[Word]) -> int:
    """Fewest slips with which `heard` stands somewhere in `said` (Sellers 1980); what is no slip counts two."""
    row = [0] * (len(said) + 1)
    for index, word in enumerate(heard):
        inside = 0 < index < len(heard) - 1
        extra = 1 if inside else 2
        above, row = row, [row[0] + extra]
        for place, other in enumerate(said):
            # Only where it would be the first slip is it worth comparing letters.
            changed = 0 if word.plain == other.plain else 1 if above[place] == 0 and _may_be(word, other, inside) else 2
            row.append(min(above[place] + changed, above[place + 1] + extra, row[place] + 1))
    return min(row)


def _may_be(word: Word, other: Word, inside: bool) -> bool:
    if word.is_character:
        return inside and other.is_character
    letters = SequenceMatcher(None, word.plain, other.plain)
    return letters.real_quick_ratio() >= _ALIKE and letters.quick_ratio() >= _ALIKE and letters.ratio() >= _ALIKE
