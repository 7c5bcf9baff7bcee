"""Guesses make room for turns that are over."""

from contextlib import ExitStack

import pytest

from avatar.conversation.precedence import Precedence


@pytest.mark.parametrize(("slots", "guesses"), [(1, 1), (2, 1), (4, 2), (8, 4)])
def test_half_of_the_slots_are_for_guesses(slots: int, guesses: int) -> None:
    precedence = Precedence(slots)
    begun = 0
    with ExitStack() as working:
        while precedence.may_prepare():
            working.enter_context(precedence.working())
            begun += 1
    assert begun == guesses
    assert precedence.may_prepare()


def test_when_all_slots_are_taken_the_oldest_guess_goes() -> None:
    precedence = Precedence(2)
    dropped: list[str] = []
    precedence.prepared("a", lambda: dropped.append("a"))
    precedence.prepared("b", lambda: dropped.append("b"))
    with precedence.working():
        precedence.make_way()
        assert dropped == []
        with precedence.working():
            precedence.make_way()
            assert dropped == ["a"]
            precedence.settled("b")
            precedence.make_way()
    assert dropped == ["a"]
