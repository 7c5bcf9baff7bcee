"""One utterance on a model that transcribes whole pieces of audio and blocks while it does.

Owns the audio so far, what is already known of it, and the stopping of work nobody waits for. Knows no model: only
that it has `recognize`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from avatar.core.audio import Pcm
from avatar.core.errors import EngineFailed
from avatar.core.languages import space_in
from avatar.engines.base import Transcript
from avatar.engines.stt.cutting import cut_at_quiet, is_silent

T = TypeVar("T")


class Stopped(EngineFailed):
    """The work was told to stop: its result is wanted no more."""


class Recognizer(Protocol):
    """A loaded model, as worker threads use it."""

    longest_samples: int
    """Longest piece `recognize` takes, at 16 kHz."""
    drafts: bool
    """Partial results may be made with less effort than final ones."""

    def recognize(self, pcm: Pcm, language: str | None, *, thorough: bool, stop: threading.Event) -> Transcript:
        """Text of one piece. Looks at `stop` as often as it can, and raises `Stopped` when that is set."""
        ...


class RecognizerThreads(Protocol):
    """Where a loaded model is used: `ModelThreads`, or something before it."""

    async def run(self, work: Callable[[Recognizer], T]) -> T: ...

    async def run_aside(self, work: Callable[[Recognizer], T], stop: threading.Event) -> T | None: ...


@dataclass(frozen=True)
class _Result:
    """What is known of the first `samples`, and with what effort."""

    samples: int
    thorough: bool
    transcript: Transcript


class Utterance:
    """Fills `TranscriptStream`.

    Nothing is transcribed twice: not audio whose result is known, and, past `longest_samples`, not what lies before the
    last cut. `finish` stops a running `partial`, which then gives the best guess it had. `written_in`: the language of
    the text, if it is not the one that is spoken.
    """

    def __init__(self, threads: RecognizerThreads, language: str | None, written_in: str | None = None) -> None:
        self._threads = threads
        self._language = language
        self._written_in = written_in
        self._accepted: list[Pcm] = []
        self._samples = 0
        self._latest = _Result(0, True, Transcript("", language))
        self._known: dict[tuple[int, int, bool], Transcript] = {}
        self._partial_stop = threading.Event()
        self._stops: set[threading.Event] = set()
        self._closed = False

    def accept(self, pcm: Pcm) -> None:
        """As `TranscriptStream.accept`; copies. How long an utterance may get is the caller's business."""
        self._accepted.append(pcm.copy())
        self._samples += pcm.size

    async def partial(self) -> Transcript:
        """As `TranscriptStream.partial`: what is known already when the model is wanted by others."""
        self._partial_stop = threading.Event()
        try:
            return await self._transcribe(thorough=False, stop=self._partial_stop)
        except Stopped:
            if self._closed:
                raise
            return self._latest.transcript

    async def finish(self) -> Transcript:
        self._partial_stop.set()
        return await self._transcribe(thorough=True, stop=threading.Event())

    async def aclose(self) -> None:
        """As `TranscriptStream.aclose`; whoever still waits for a transcript gets `EngineFailed`."""
        self._closed = True
        self._accepted.clear()
        for stop in self._stops:
            stop.set()

    async def _transcribe(self, *, thorough: bool, stop: threading.Event) -> Transcript:
        if self._closed:
            raise EngineFailed("The utterance is closed: open another.")
        if self._latest.samples == self._samples and self._latest.thorough >= thorough:
            return self._latest.transcript
        accepted = tuple(self._accepted)
        self._stops.add(stop)

        def work(model: Recognizer) -> _Result:
            return self._recognize(model, accepted, thorough, stop)

        try:
            result = await (self._threads.run(work) if thorough else self._threads.run_aside(work, stop))
        finally:
            stop.set()
            self._stops.discard(stop)
        if result is None:
            return self._latest.transcript
        if result.samples >= self._latest.samples:
            self._latest = result
        return result.transcript

    def _recognize(
        self, model: Recognizer, accepted: tuple[Pcm, ...], thorough: bool, stop: threading.Event
    ) -> _Result:
        """In a worker thread."""
        thorough = thorough or not model.drafts
        pcm = np.concatenate(accepted)
        language, texts, start = self._language, [], 0
        for piece in cut_at_quiet(pcm, model.longest_samples):
            span = (start, start + piece.size, thorough)
            if span not in self._known and not is_silent(piece):
                self._known[span] = model.recognize(piece, language, thorough=thorough, stop=stop)
            heard = self._known.get(span)
            if heard is not None and heard.text:
                texts.append(heard.text)
                language = heard.language or language
            start += piece.size
        return _Result(pcm.size, thorough, Transcript(space_in(self._written_in or language).join(texts), language))
