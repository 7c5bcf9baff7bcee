"""Text spoken part by part: for engines that speak a sentence or two at once and whole.

Owns how a text is cut, the silence around and the pauses between parts, the marks of the whole stream, and the cutting
into chunks. So one part is made ahead, sessions take turns part by part, and closing the generator stops within a part.
Knows no engine.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import numpy as np

from avatar.core.audio import Pcm, ms_to_samples, silence
from avatar.engines.base import Mark, SpeechChunk

CHUNK_MS = 250

_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SENTENCE_END = ".!?…。！？"
_CLAUSE_END = ",;:—、，；："
_CLOSERS = " \t\n\"'”’)]»」』）"
_CUTS = (
    re.compile(rf"[{_SENTENCE_END}\n](?=[\s{_HAN}])"),
    re.compile(rf"[{_CLAUSE_END}](?=[\s{_HAN}])"),
    re.compile(r"\s"),
)

_IS_HAN = re.compile(f"[{_HAN}]")
LETTERS_PER_S = 14.0
"""Of English read at 175 words a minute."""

# Pauses as espeak-ng itself makes them inside a text, at 175 words a minute.
_SENTENCE_PAUSE_MS = 270
_CLAUSE_PAUSE_MS = 130

_AUDIBLE = 0.003  # -50 dB
_LEAD_MS, _TAIL_MS = 2, 40


@dataclass(frozen=True)
class Part:
    """`pcm` of one part, and its marks counted from the part's own start; the last one covers all of it."""

    pcm: Pcm
    marks: tuple[Mark, ...]


def estimated_part(text: str, pcm: Pcm, rate_hz: int) -> Part:
    """`text` spoken by a model that tells no word times: without the silence around it, the pauses being ours, and with
    a mark at the end of each word, as if every letter took the same time."""
    pcm = _trim(pcm, rate_hz)
    spoken = letters(text)
    share = pcm.size / max(int(spoken[-1]), 1)
    words = (Mark(end, int(spoken[end - 1] * share)) for end in word_ends(text))
    return Part(pcm, (*words, Mark(len(text), pcm.size)))


def _trim(pcm: Pcm, rate_hz: int) -> Pcm:
    loud = np.flatnonzero(np.abs(pcm) > _AUDIBLE)
    if not loud.size:
        return pcm
    start = max(int(loud[0]) - ms_to_samples(_LEAD_MS, rate_hz), 0)
    return pcm[start : int(loud[-1]) + ms_to_samples(_TAIL_MS, rate_hz)]


class LeadingSilence:
    """Drops the silence before the first sound of an utterance that comes in pieces."""

    def __init__(self, rate_hz: int) -> None:
        self._kept_samples = ms_to_samples(_LEAD_MS, rate_hz)
        self._heard = False

    def strip(self, pcm: Pcm) -> Pcm:
        """The next piece (float32[n]) without that silence; it may be empty."""
        if self._heard:
            return pcm
        loud = np.flatnonzero(np.abs(pcm) > _AUDIBLE)
        if not loud.size:
            return silence(0)
        self._heard = True
        return pcm[max(int(loud[0]) - self._kept_samples, 0) :]


async def speak_parts(
    text: AsyncIterator[str],
    synthesize: Callable[[str], Awaitable[Part]],
    rate_hz: int,
    *,
    max_chars: int,
    pace: float = 1.0,
) -> AsyncGenerator[SpeechChunk, None]:
    """What `TextToSpeech.speak` owes, from `synthesize`, which is given parts of at most `max_chars` that hold a letter
    or a digit. `pace`: pauses are so many times as short."""
    chars = samples = pause = 0
    try:
        async for piece in text:
            for words in split(piece, max_chars):
                if any(char.isalnum() for char in words):
                    part = await synthesize(words)
                    if pause:
                        yield SpeechChunk(silence(pause))
                        samples += pause
                    for chunk in _chunks(part, chars, samples, ms_to_samples(CHUNK_MS, rate_hz)):
                        yield chunk
                    samples += part.pcm.size
                    pause = ms_to_samples(_pause_ms(words) / pace, rate_hz)
                else:
                    yield SpeechChunk(silence(0), (Mark(chars + len(words), samples),))
                chars += len(words)
    finally:
        if isinstance(text, AsyncGenerator):
            await text.aclose()


def split(text: str, max_chars: int) -> Iterator[str]:
    """Cut `text` into parts of at most `max_chars`, best after a sentence, else a clause, else a word."""
    while len(text) > max_chars:
        ends = ([match.end() for match in cut.finditer(text, 0, max_chars)] for cut in _CUTS)
        end = next((found[-1] for found in ends if found), max_chars)
        yield text[:end]
        text = text[end:]
    if text:
        yield text


def _pause_ms(text: str) -> float:
    """Silence due after `text`, were something to follow."""
    last = text.rstrip(_CLOSERS)[-1:] or " "
    return _SENTENCE_PAUSE_MS if last in _SENTENCE_END else _CLAUSE_PAUSE_MS if last in _CLAUSE_END else 0


def _chunks(part: Part, chars: int, samples: int, chunk_samples: int) -> Iterator[SpeechChunk]:
    """Cut a part into chunks; its marks move by the `chars` and `samples` before it."""
    for start in range(0, max(part.pcm.size, 1), chunk_samples):
        end = min(start + chunk_samples, part.pcm.size)
        inside = (mark for mark in part.marks if start < mark.sample <= end or mark.sample == start == 0)
        yield SpeechChunk(
            part.pcm[start:end], tuple(Mark(chars + mark.text_end, samples + mark.sample) for mark in inside)
        )


def word_ends(text: str) -> list[int]:
    """Where each word of `text` ends but the last; Han characters are words."""
    return [
        at + 1
        for at, char in enumerate(text[:-1])
        if not char.isspace() and (text[at + 1].isspace() or _IS_HAN.match(char) or _IS_HAN.match(text[at + 1]))
    ]


def letters(text: str) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Letters spoken once each character of `text` has been; Han characters take as long as three."""
    return np.cumsum([3 if _IS_HAN.match(char) else 1 if char.isalnum() else 0 for char in text])


class Marker:
    """The marks of a stream of which nobody tells word times: an estimate until a piece has ended, then the truth."""

    def __init__(self, rate_hz: int) -> None:
        self._per_letter = rate_hz / LETTERS_PER_S
        self._chars = self._samples = self._began = 0
        self._piece = ""
        self._due: list[Mark] = []

    def begin(self, piece: str) -> None:
        """`piece` is spoken next."""
        self._piece, self._began = piece, self._samples
        spoken = letters(piece)
        self._due = [
            Mark(self._chars + end, self._began + int(spoken[end - 1] * self._per_letter)) for end in word_ends(piece)
        ]

    def chunk(self, pcm: Pcm) -> SpeechChunk:
        """The next of its audio, with the marks that fall in it."""
        self._samples += pcm.size
        reached = [mark for mark in self._due if mark.sample <= self._samples]
        self._due = self._due[len(reached) :]
        return SpeechChunk(pcm, tuple(reached))

    def end(self) -> SpeechChunk:
        """The piece has been spoken: a mark for all of it."""
        self._chars += len(self._piece)
        return SpeechChunk(silence(0), (Mark(self._chars, self._samples),))
