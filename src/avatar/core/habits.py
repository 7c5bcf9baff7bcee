"""How long this speaker pauses in the middle of a turn: what silence it takes to be sure that they are done.

Pure. Learns from turns; knows neither engines nor time but in milliseconds of input audio.
"""

GROWTH = 1.4
"""The ceiling stands this far above the longest recent pause: pauses scatter."""
MARGIN_MS = 200
DECAY = 0.9
"""After a turn without long pauses the ceiling comes this far down, so one long thought does not slow a whole talk."""


class PauseHabit:
    """`ceiling_ms`: silence that ends a turn whatever end-of-turn detection says, within `least_ms`…`most_ms`."""

    def __init__(self, start_ms: float, least_ms: float, most_ms: float) -> None:
        self._least_ms = least_ms
        self._most_ms = most_ms
        self.ceiling_ms = min(max(start_ms, least_ms), most_ms)

    def went_on_after(self, pause_ms: float) -> None:
        """The speaker went on with the same turn after so much silence."""
        wanted_ms = GROWTH * pause_ms + MARGIN_MS
        self.ceiling_ms = min(max(self.ceiling_ms, wanted_ms), self._most_ms)

    def ended(self) -> None:
        """A turn is over."""
        self.ceiling_ms = max(self.ceiling_ms * DECAY, self._least_ms)
