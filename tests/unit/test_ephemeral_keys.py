"""Ephemeral keys: good for their time, for what was agreed, and never too many of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.errors import RateLimited
from avatar.server.ephemeral import PREFIX, EphemeralKeys


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.9

    def __call__(self) -> float:
        return self.now_s


def test_a_key_stands_for_what_was_agreed_until_it_expires() -> None:
    clock = Clock()
    keys = EphemeralKeys[str](clock)
    key, expires_at_s = keys.make("agreed", 10)
    assert key.startswith(PREFIX)
    assert expires_at_s == 1_000_010
    assert keys.find(key) == "agreed"
    clock.now_s = 1_000_009.99
    assert keys.find(key) == "agreed"
    clock.now_s = 1_000_010
    assert keys.find(key) is None


@pytest.mark.parametrize("other", ["", "ek_", "ek_0123", "密钥", "\ud800"])
def test_what_was_not_made_stands_for_nothing(other: str) -> None:
    keys = EphemeralKeys[str]()
    key, _ = keys.make("agreed", 10)
    assert keys.find(other) is keys.find(key + "x") is keys.find(key.upper()) is None


def test_there_are_never_too_many() -> None:
    clock = Clock()
    keys = EphemeralKeys[int](clock, most=2)
    keys.make(1, 10)
    lasting, _ = keys.make(2, 100)
    with pytest.raises(RateLimited):
        keys.make(3, 10)
    clock.now_s += 10
    newer, _ = keys.make(3, 10)
    assert (keys.find(lasting), keys.find(newer)) == (2, 3)


@given(st.lists(st.tuples(st.integers(10, 7200), st.floats(0, 5000)), max_size=30))
def test_any_course_of_time(steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    keys = EphemeralKeys[int](clock)
    made: list[tuple[str, int]] = []
    for lifetime_s, passing_s in steps:
        made.append(keys.make(len(made), lifetime_s))
        clock.now_s += passing_s
        for place, (key, expires_at_s) in enumerate(made):
            assert keys.find(key) == (place if expires_at_s > clock.now_s else None)
