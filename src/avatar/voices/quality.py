"""Whether a recording is good enough to speak like: pure measures, their thresholds, and reasons in plain words.

Takes samples, speech probabilities and speaker vectors; knows no file and no engine. What tells one speaker from two
was set on people and synthetic voices: `benchmarks/results/2026-11-26-one-speaker.md`.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avatar.core.audio import INPUT_RATE_HZ, Pcm, ms_to_samples
from avatar.core.errors import BadAudio
from avatar.voices.embedding import SLICE_S, SLICE_STEP_S, SPAN_S, SPAN_STEP_S, Vectors, cosine, mean_vector

FRAME_SAMPLES = 512
"""At 16 kHz: what one speech probability is about."""

MIN_S, MAX_S = 3.0, 60.0
ONE_SPEAKER_COSINE = 0.82
"""Below it two people speak: 1 % of single people were found there, and 9 of 10 pairs."""
ONE_RECORDING_COSINE = 0.80
"""Below it what comes before a moment and what comes after it are of two people, or two recordings put together."""
_MARGIN_FRAMES = 3  # 96 ms kept at both ends: a plosive begins before the voice does
_SPEECH, _NO_SPEECH = 0.5, 0.1
_MIN_SPEECH_S = 2.0
_MIN_SPEECH_SHARE = 0.25
_FULL_SCALE = 0.99
_MAX_CLIPPED = 0.005
_MIN_SNR_DB = 12.0
_MIN_LEVEL_DB = -50.0
_MIN_NOISE_FRAMES = 5
_MIN_SPOKEN_SHARE = 0.6  # of a slice: pauses sound alike, whoever makes them
_MIN_SPAN_SHARE, _MIN_SIDE_SPANS = 0.5, 8  # of a span; on either side of a moment, 3.2 s
_MIN_SECOND_SHARE, _MIN_SECOND_SLICES = 0.12, 4  # a few slices of one syllable are no second person


Flaw = Literal["too_short", "too_little_speech", "too_quiet", "overdriven", "noisy", "many_voices"]
"""Why a recording cannot be used, for programs."""


@dataclass(frozen=True)
class Quality:
    """What was measured. `flaws`: why it cannot be used; empty when it can."""

    duration_s: float
    speech_s: float
    level_db: float
    snr_db: float
    clipped: float
    """Share of samples at full scale."""
    speakers_cosine: float
    """How alike the recording's two most different voices sound; 1 where it is too short to tell."""
    sides_cosine: float = 1.0
    """How alike it sounds before and after the moment that parts it most; 1 where it is too short to tell."""
    flaws: tuple[Flaw, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """The flaws in plain words, each with what to do about it."""
        return tuple(words for flaw, _, words in _judged(self) if flaw in self.flaws)


class Unfit(BadAudio):
    """A recording that somebody's voice cannot be taken from; `quality` says what was measured."""

    def __init__(self, quality: Quality) -> None:
        super().__init__("This recording cannot be used. " + " ".join(quality.reasons))
        self.quality = quality


def speech_bounds(probabilities: list[float]) -> tuple[float, float] | None:
    """Seconds from where to where somebody speaks, with a small margin; None when nobody does."""
    spoken = np.flatnonzero(np.array(probabilities) > _SPEECH)
    if not spoken.size:
        return None
    first = max(int(spoken[0]) - _MARGIN_FRAMES, 0)
    last = min(int(spoken[-1]) + 1 + _MARGIN_FRAMES, len(probabilities))
    return first * FRAME_SAMPLES / INPUT_RATE_HZ, last * FRAME_SAMPLES / INPUT_RATE_HZ


def judge(pcm: Pcm, probabilities: list[float], slices: Vectors, spans: Vectors) -> Quality:
    """Measure a trimmed recording: float32[n] at 16 kHz, the speech probability of each of its frames, and the speaker
    vectors of its slices and spans (`SpeakerEncoder`)."""
    frames = pcm[: pcm.size // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    speech = np.array(probabilities[: len(frames)])
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    voiced = power[speech > _SPEECH]
    level = float(voiced.mean()) if voiced.size else 0.0
    noise = _noise_power(power, speech)
    measured = Quality(
        duration_s=round(pcm.size / INPUT_RATE_HZ, 2),
        speech_s=round(voiced.size * FRAME_SAMPLES / INPUT_RATE_HZ, 2),
        level_db=round(_db(level), 1),
        snr_db=round(_db(max(level - noise, 1e-12) / max(noise, 1e-9)), 1),
        clipped=round(float(_clipped(pcm)), 4),
        speakers_cosine=round(speakers_cosine(spoken(slices, probabilities)), 3),
        sides_cosine=round(sides_cosine(spoken_spans(spans, probabilities)), 3),
    )
    return replace(measured, flaws=tuple(flaw for flaw, is_so, _ in _judged(measured) if is_so))


def spoken(slices: Vectors, probabilities: list[float]) -> Vectors:
    """The slices that are mostly speech; each begins `SLICE_STEP_S` after the one before it."""
    found: Vectors = slices[_spoken_shares(len(slices), probabilities, SLICE_S, SLICE_STEP_S) > _MIN_SPOKEN_SHARE]
    return found


def spoken_spans(spans: Vectors, probabilities: list[float]) -> Vectors:
    """The spans that are mostly speech; each begins `SPAN_STEP_S` after the one before it."""
    found: Vectors = spans[_spoken_shares(len(spans), probabilities, SPAN_S, SPAN_STEP_S) > _MIN_SPAN_SHARE]
    return found


def _spoken_shares(count: int, probabilities: list[float], length_s: float, step_s: float) -> NDArray[np.float64]:
    says = np.array(probabilities) > _SPEECH
    starts = (np.arange(count) * step_s * INPUT_RATE_HZ / FRAME_SAMPLES).astype(int)
    length = round(length_s * INPUT_RATE_HZ / FRAME_SAMPLES)
    return np.array([says[start : start + length].mean() if start < says.size else 0.0 for start in starts])


def speakers_cosine(slices: Vectors) -> float:
    """How alike the two groups of slices sound that differ most.

    1.0 for too few slices, and for a second group too small to be a person rather than a cough.
    """
    side = parted(slices) if len(slices) >= 2 * _MIN_SECOND_SLICES else None
    if side is None:
        return 1.0
    second = min(int(side.sum()), int((~side).sum()))
    is_person = second >= max(_MIN_SECOND_SLICES, _MIN_SECOND_SHARE * len(slices))
    return cosine(mean_vector(slices[side]), mean_vector(slices[~side])) if is_person else 1.0


def sides_cosine(spans: Vectors) -> float:
    """Compares what comes before a moment with what comes after it, at the moment where they differ most.

    Tells people apart who speak one after the other and sound alike in slices: spans hear the room, too. 1.0 where too
    little is on either side of any moment.
    """
    sums = np.cumsum(spans, axis=0)
    before = sums[_MIN_SIDE_SPANS - 1 : -_MIN_SIDE_SPANS]
    if not len(before):
        return 1.0
    after = sums[-1] - before
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    return float(np.min((before * after).sum(axis=1) / np.maximum(lengths, 1e-9)))


def parted(vectors: Vectors) -> NDArray[np.bool_] | None:
    """bool[n], which of `vectors` are in one of the two groups that differ most (2-means on the sphere); None where all
    are alike."""
    spread = vectors - vectors.mean(axis=0)
    side: NDArray[np.bool_] = spread @ np.linalg.svd(spread, full_matrices=False)[2][0] > 0
    for _ in range(20):
        if side.all() or not side.any():
            return None
        nearer = vectors @ mean_vector(vectors[side]) > vectors @ mean_vector(vectors[~side])
        if (nearer == side).all():
            break
        side = nearer
    return None if side.all() or not side.any() else side


def _noise_power(power: "np.ndarray[tuple[int], np.dtype[np.float64]]", speech: Vectors) -> float:
    pauses = power[speech < _NO_SPEECH]
    if pauses.size >= _MIN_NOISE_FRAMES:
        return float(np.median(pauses))
    return float(np.percentile(power, 5)) if power.size else 0.0


def _clipped(pcm: Pcm) -> float:
    """Samples at full scale beside another: a single one is a peak."""
    full = np.abs(pcm) >= _FULL_SCALE
    return float(np.mean(full[1:] & full[:-1])) if pcm.size > 1 else 0.0


def _db(power: float) -> float:
    return 10 * float(np.log10(max(power, 1e-12)))


def _judged(measured: Quality) -> tuple[tuple[Flaw, bool, str], ...]:
    share = measured.speech_s / max(measured.duration_s, 0.01)
    return (
        (
            "too_short",
            measured.duration_s < MIN_S,
            f"It is too short: {measured.duration_s:.1f} s are left without the silence around it, "
            f"at least {MIN_S:g} s are needed. Ten to twenty seconds are best.",
        ),
        (
            "too_little_speech",
            measured.speech_s < _MIN_SPEECH_S or share < _MIN_SPEECH_SHARE,
            f"There is too little speech in it: {measured.speech_s:.1f} s. "
            "Music, noise and long pauses do not count; read a few sentences aloud.",
        ),
        ("too_quiet", measured.level_db < _MIN_LEVEL_DB, "It is too quiet. Come closer to the microphone."),
        (
            "overdriven",
            measured.clipped > _MAX_CLIPPED,
            f"It is overdriven: {100 * measured.clipped:.1f} % of it is cut off at the top. "
            "Record it again with less gain.",
        ),
        (
            "noisy",
            measured.snr_db < _MIN_SNR_DB,
            f"There is too much noise behind the voice ({measured.snr_db:.0f} dB, {_MIN_SNR_DB:.0f} are needed). "
            "Record it in a quieter room, without music.",
        ),
        (
            "many_voices",
            measured.speakers_cosine < ONE_SPEAKER_COSINE or measured.sides_cosine < ONE_RECORDING_COSINE,
            "More than one voice seems to speak in it, or it is put together of two recordings. "
            "Record one person alone, in one go.",
        ),
    )


def trimmed(pcm: Pcm, rate_hz: int, bounds: tuple[float, float]) -> Pcm:
    """The part of `pcm` between `bounds` in seconds."""
    start_s, end_s = bounds
    return pcm[ms_to_samples(start_s * 1000, rate_hz) : ms_to_samples(end_s * 1000, rate_hz)]
