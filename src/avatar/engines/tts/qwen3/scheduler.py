"""Who speaks in the next tick, and how much of what is spoken becomes audio now: pure policy, on numbers alone.

Knows no tensors, no clock and no threads: a session is what it has ready and what it waits for.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
"""Batch sizes that are run: a batch is filled up to the next one."""
FRAME_S = 0.08
CHUNKS = (1, 2, 4, 8)
"""Frames that may be decoded at once."""
RAMP = (1, 1, 2, 4, 8)
"""Frames of an utterance's first packets, the last one for all others: sound at once, then little work a frame."""
MAX_LEAD_S = 1.5
"""More than this is not spoken ahead: it frees the device for others, and an interruption wastes little."""
NEAR_UNDERRUN_S = 2 * FRAME_S
"""With less than this ready, what there is is decoded at once."""


@dataclass(frozen=True)
class Standing:
    """A session, when a tick is planned."""

    lead_s: float
    """Audio that is made but not played."""
    has_spoken: bool
    """Its first packet is made."""
    has_text: bool
    """The next frame's text is there, or no more will come."""


def choose(standings: Sequence[Standing], limit: int, max_lead_s: float = MAX_LEAD_S) -> list[int]:
    """Indices of at most `limit` sessions that get a frame, the most urgent first.

    Those without a first packet come before all others, then the one that runs out of audio first; among equals, the
    one given first. Who waits for text or is far ahead gets none.
    """
    able = [n for n, one in enumerate(standings) if one.has_text and not (one.has_spoken and one.lead_s > max_lead_s)]
    able.sort(key=lambda n: (standings[n].has_spoken, standings[n].lead_s if standings[n].has_spoken else 0.0))
    return able[:limit]


def due_frames(pending: int, packets: int, lead_s: float, stands_still: bool = False) -> int:
    """How many of `pending` frames to decode now, one of `CHUNKS` or 0, in a session that has had `packets`.

    `stands_still`: no more frames will join them soon, so nothing is gained by waiting.
    """
    wanted = RAMP[min(packets, len(RAMP) - 1)]
    if pending >= wanted:
        return wanted
    if pending > 0 and (stands_still or lead_s < NEAR_UNDERRUN_S):
        return max(chunk for chunk in CHUNKS if chunk <= pending)
    return 0


def bucket(rows: int, buckets: Sequence[int] = BUCKETS) -> int:
    """The smallest of the ascending `buckets` that holds `rows`. Raises `ValueError` if none does."""
    place = bisect_left(buckets, rows)
    if place == len(buckets):
        raise ValueError(f"{rows} rows do not fit into a batch of {buckets[-1]}.")
    return buckets[place]
