"""Which items of a long conversation the model is still told."""

from collections.abc import Sequence
from math import log2

from hypothesis import given
from hypothesis import strategies as st

from avatar.server.realtime.items import InputText, Item, UserMessage
from avatar.server.realtime.session import RetentionRatio, TokenLimits
from avatar.server.realtime.truncation import Truncation, kept


def items(tokens: Sequence[int]) -> list[Item]:
    """User messages of that many words."""
    return [
        UserMessage(type="message", role="user", content=[InputText(type="input_text", text="word " * n)])
        for n in tokens
    ]


def words(of: Sequence[Item]) -> int:
    parts = [part for item in of if isinstance(item, UserMessage) for part in item.content]
    return sum(len(part.text.split()) for part in parts if isinstance(part, InputText))


tokens = st.lists(st.integers(0, 60), min_size=1, max_size=80)
truncations = st.one_of(
    st.just("auto"),
    st.builds(
        RetentionRatio,
        type=st.just("retention_ratio"),
        retention_ratio=st.floats(0, 1),
        token_limits=st.none() | st.builds(TokenLimits, post_instructions=st.none() | st.integers(0, 2000)),
    ),
)


@given(tokens, truncations, st.integers(-10, 2000))
def test_the_newest_stay_as_many_as_fit(sizes: list[int], truncation: Truncation, room: int) -> None:
    ratio, most = 0.6, room
    if isinstance(truncation, RetentionRatio):
        ratio = truncation.retention_ratio
        limit = truncation.token_limits.post_instructions if truncation.token_limits else None
        most = room if limit is None else min(room, limit)
    said, asked = items(sizes), 0

    def cost(of: Sequence[Item]) -> int:
        nonlocal asked
        asked += 1
        return words(of)

    told = list(kept(said, truncation, room, cost))
    assert told
    assert told == said[-len(told) :]
    assert asked <= log2(len(said)) + 3
    if words(said) <= most:
        assert told == said
    else:
        assert len(told) == 1 or words(told) <= most * ratio
        assert len(told) == len(said) or words(said[-len(told) - 1 :]) > most * ratio


def test_nothing_is_dropped_where_that_is_turned_off() -> None:
    said = items([100, 100])
    assert kept(said, "disabled", 10, words) == said
