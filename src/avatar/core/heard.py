"""How much of a reply's text had been heard when so many samples of it had been played.

Pure. It joins the clauses that were given to the speech engine with the marks the engine gave back.
"""

from bisect import bisect_right
from collections.abc import Iterable

from avatar.core.clauses import Clause


class HeardText:
    """The map from played samples to written text, for one reply."""

    def __init__(self) -> None:
        self._raw = ""
        self._spoken_starts: list[int] = []
        self._clauses: list[Clause] = []
        self._spoken_chars = 0
        self._mark_samples: list[int] = []
        self._mark_ends: list[int] = []

    @property
    def text(self) -> str:
        """All that was generated so far."""
        return self._raw

    def add_text(self, delta: str) -> None:
        """The answer grew."""
        self._raw += delta

    def add_clause(self, clause: Clause) -> None:
        """`clause.spoken` was given to the speech engine, after all clauses added before."""
        self._spoken_starts.append(self._spoken_chars)
        self._clauses.append(clause)
        self._spoken_chars += len(clause.spoken)

    def add_marks(self, marks: Iterable[tuple[int, int]]) -> None:
        """Marks of the engine: (spoken characters so far, samples so far), never going backwards."""
        for text_end, sample in marks:
            self._mark_ends.append(text_end)
            self._mark_samples.append(sample)

    def until(self, played_samples: int) -> str:
        """The written text whose speech lies wholly within the first `played_samples`."""
        last = bisect_right(self._mark_samples, played_samples) - 1
        if last < 0 or played_samples <= 0:
            return ""
        return self._raw[: self._raw_end(self._mark_ends[last])].rstrip()

    def until_ms(self, played_ms: float, rate_hz: int) -> str:
        """The same by time; a client's whole milliseconds are up to one short."""
        return self.until(int((played_ms + 1) * rate_hz / 1000) if played_ms > 0 else 0)

    def _raw_end(self, spoken_end: int) -> int:
        index = bisect_right(self._spoken_starts, max(spoken_end - 1, 0)) - 1
        if index < 0 or spoken_end <= 0:
            return 0
        clause = self._clauses[index]
        inside = spoken_end - self._spoken_starts[index]
        if inside >= len(clause.spoken):
            return clause.end
        return clause.offsets[inside - 1] + 1
