"""Stop sequences: where a client wants an answer to end. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from avatar.engines.base import Delta


class StopFilter:
    """Lets an answer's deltas through up to the first of `sequences`, which is not let through itself.

    What may yet turn out to be the beginning of one is held back until the next delta.
    """

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = sequences
        self._held = ""
        self.stopped = False

    def push(self, delta: Delta) -> Delta:
        """What of `delta` may be passed on; once `stopped`, nothing that follows is wanted."""
        if not self._sequences:
            return delta
        text = self._held + delta.text
        found = [place for sequence in self._sequences if (place := text.find(sequence)) >= 0]
        if found:
            self.stopped = True
            return Delta(text[: min(found)], finish_reason="stop")
        keep = 0 if delta.finish_reason else self._doubtful(text)
        self._held = text[len(text) - keep :]
        return replace(delta, text=text[: len(text) - keep])

    def _doubtful(self, text: str) -> int:
        """Length of the longest end of `text` that begins a sequence."""
        longest = max(map(len, self._sequences)) - 1
        sizes = range(min(longest, len(text)), 0, -1)
        return next((n for n in sizes if any(s.startswith(text[-n:]) for s in self._sequences)), 0)
