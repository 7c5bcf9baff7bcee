"""Where in a recording somebody speaks, from voice activity, in pieces that can be transcribed and shown one by one.

Pure. Knows neither what is said nor who says it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

SPEECH = 0.5
MIN_SPEECH_FRAMES = 3
"""A click is shorter: 96 ms, as in turn-taking."""
PAUSE_FRAMES = 16
"""Half a second without voice ends a segment: sentences lie that far apart."""
LONGEST_FRAMES = 468
"""15 s: two lines of subtitles are read in less, and every engine takes as much at once."""
PADDING_FRAMES = 6
"""0.2 s of what is before and after: voice activity rises late, and falls before the last consonant."""


@dataclass(frozen=True)
class Segment:
    """Frames `start` up to `end`, and how much of a voice there is in them, 0…1."""

    start: int
    end: int
    voice: float


def find_speech(probabilities: Sequence[float]) -> list[Segment]:
    """The segments of a recording, in order and apart, of at most `LONGEST_FRAMES` and their padding.

    `probabilities`: of speech, for each frame of 32 ms. Every voiced run of `MIN_SPEECH_FRAMES` or more is in one.
    """
    found = [piece for run in _joined(_runs(probabilities)) for piece in _cut(run, probabilities)]
    if not found:
        return []
    edges = [0, *((before[1] + after[0] + 1) // 2 for before, after in pairwise(found)), len(probabilities)]
    return [
        _segment(max(start - PADDING_FRAMES, least), min(end + PADDING_FRAMES, most), probabilities[start:end])
        for (start, end), (least, most) in zip(found, pairwise(edges), strict=True)
    ]


def _segment(start: int, end: int, voiced: Sequence[float]) -> Segment:
    return Segment(start, end, sum(voiced) / len(voiced))


def _runs(probabilities: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Runs of voiced frames that are no click."""
    start = None
    for place, probability in enumerate((*probabilities, 0.0)):
        if probability >= SPEECH:
            start = place if start is None else start
        elif start is not None:
            if place - start >= MIN_SPEECH_FRAMES:
                yield start, place
            start = None


def _joined(runs: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Runs with no pause between them as one."""
    begun: tuple[int, int] | None = None
    for start, end in runs:
        if begun is not None and start - begun[1] < PAUSE_FRAMES:
            begun = begun[0], end
            continue
        if begun is not None:
            yield begun
        begun = start, end
    if begun is not None:
        yield begun


def _cut(run: tuple[int, int], probabilities: Sequence[float]) -> Iterator[tuple[int, int]]:
    """Cut what is too long at the frame least like speech in its second half."""
    start, end = run
    while end - start > LONGEST_FRAMES:
        half = range(start + LONGEST_FRAMES // 2, start + LONGEST_FRAMES)
        cut = min(half, key=lambda place: probabilities[place])
        yield start, cut
        start = cut
    yield start, end
