"""How much of a conversation the model is still told when all of it is too long. Pure: counts by what it is given."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal

from avatar.core.history import SHRINK_TO
from avatar.server.realtime.items import Item
from avatar.server.realtime.session import RetentionRatio

Truncation = Literal["auto", "disabled"] | RetentionRatio


def kept(
    items: Sequence[Item], truncation: Truncation, room_tokens: int, cost: Callable[[Sequence[Item]], int]
) -> Sequence[Item]:
    """The newest of `items`, at least one: all while they cost no more than `room_tokens` and the client's own limit,
    else as many as fit in the part of it that is to be kept. `cost` (tokens) must not rise as the oldest are dropped;
    it is asked about log2 of the items times, since each asking reads them all.
    """
    if truncation == "disabled":
        return items
    keep, most = SHRINK_TO, room_tokens
    if isinstance(truncation, RetentionRatio):
        keep = truncation.retention_ratio
        if truncation.token_limits and truncation.token_limits.post_instructions is not None:
            most = min(most, truncation.token_limits.post_instructions)
    if cost(items) <= most:
        return items
    return items[bisect_left(range(len(items) - 1), True, key=lambda first: cost(items[first:]) <= most * keep) :]
