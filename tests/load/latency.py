"""What a caller hears and when, and the figures made of it. Pure: knows arrays and times, no socket and no clock."""

from collections.abc import Sequence

import numpy as np

from avatar.core.audio import Pcm

AUDIBLE = 0.01
"""A reply's sample above this (-40 dB of full scale) can be heard."""

SPEECH_FLOOR = 0.04
"""Share of a recording's peak (-28 dB) below which its end is room noise and no more speech. Setting it higher would
flatter nobody: an earlier end of speech makes every latency longer."""


def speech_end_samples(pcm: Pcm) -> int:
    """How many samples of `pcm` it takes to include the last one that is speech; 0 for silence."""
    loudness = np.abs(pcm)
    loud = np.flatnonzero(loudness > SPEECH_FLOOR * loudness.max(initial=0.0))
    return int(loud[-1]) + 1 if loud.size else 0


class Player:
    """A loudspeaker without delay of its own: plays each frame when it arrives, or after the one before it.

    Times are seconds of any one clock.
    """

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._ends_s = 0.0
        self.received_s = 0.0
        """Length of all that arrived."""
        self.first_audible_s: float | None = None
        """When the first sample that can be heard was played."""
        self.gaps_s = 0.0
        """Silence in the middle, because a frame came after the one before it had ended."""

    def push(self, pcm: Pcm, now_s: float) -> None:
        """A frame (float32[n], mono) arrives."""
        begins_s = max(now_s, self._ends_s)
        if self.received_s:
            self.gaps_s += begins_s - self._ends_s
        audible = np.flatnonzero(np.abs(pcm) > AUDIBLE)
        if self.first_audible_s is None and audible.size:
            self.first_audible_s = begins_s + float(audible[0]) / self._rate_hz
        self._ends_s = begins_s + pcm.size / self._rate_hz
        self.received_s += pcm.size / self._rate_hz

    def played_s(self, now_s: float) -> float:
        """How much has been played."""
        return self.received_s - max(self._ends_s - now_s, 0.0)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Count, median, 95th and 99th percentile (linear between ranks) and maximum; of nothing, a count of 0 alone."""
    if not values:
        return {"n": 0}
    p50, p95, p99 = (float(np.percentile(values, rank)) for rank in (50, 95, 99))
    return {"n": len(values), "p50": p50, "p95": p95, "p99": p99, "max": float(max(values))}
