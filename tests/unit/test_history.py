"""What the language model is told."""

import itertools
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.errors import BadMessage
from avatar.core.history import MESSAGE_OVERHEAD_TOKENS, History, PastTurn


def words(text: str) -> int:
    return len(text.split())


def test_turns_come_oldest_first_with_what_was_heard() -> None:
    history = History(words)
    history.add(PastTurn("hi", "hello you", interrupted=False))
    history.add(PastTurn("tell me", "once upon", interrupted=True))
    lines = [(line.role, line.content) for line in history.prompt("be kind", "and then", 1000)]
    assert lines == [
        ("system", "be kind"),
        ("user", "hi"),
        ("assistant", "hello you"),
        ("user", "tell me"),
        ("assistant", "once upon"),
        ("user", "(I interrupted you there.)\nand then"),
    ]


def test_an_unheard_reply_joins_its_question_to_the_next() -> None:
    history = History(words)
    history.add(PastTurn("what is", "", interrupted=True))
    lines = [(line.role, line.content) for line in history.prompt("", "the time", 1000)]
    assert lines == [("user", "what is\nthe time")]


def test_a_turn_in_which_nothing_was_said_leaves_no_trace() -> None:
    history = History(words)
    history.add(PastTurn("", ""))
    assert len(history.prompt("", "hello", 1000)) == 1


def test_a_message_that_cannot_fit_is_refused() -> None:
    with pytest.raises(BadMessage, match="smaller parts"):
        History(words).prompt("x", "word " * 100, 50)


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(60, 400))
def test_the_prompt_fits_and_keeps_the_newest(lengths: list[int], room: int) -> None:
    history = History(words)
    for number, length in enumerate(lengths):
        history.add(PastTurn(f"t{number} " * length, f"r{number} " * length))
        lines = history.prompt("system text", "now", room)
        cost = sum(words(line.content) + MESSAGE_OVERHEAD_TOKENS for line in lines)
        assert cost <= room
        kept = [line.content.split()[0] for line in lines if line.role == "user"][:-1]
        assert kept == [f"t{index}" for index in range(number + 1 - len(kept), number + 1)]


def test_trimming_keeps_the_beginning_stable_for_some_turns() -> None:
    history = History(words)
    firsts = []
    for number in range(40):
        history.add(PastTurn(f"t{number}", "reply of four words"))
        firsts.append(history.prompt("", "now", 200)[0].content)
    changes = sum(one != other for one, other in itertools.pairwise(firsts))
    assert changes <= 10


def test_what_no_prompt_will_hold_again_is_let_go() -> None:
    history = History(lambda text: len(text.split()))
    first = PastTurn("word " * 50, "word " * 50)
    watched = weakref.ref(first)
    history.add(first)
    del first
    for _ in range(3):
        history.add(PastTurn("word " * 50, "word " * 50))
    history.prompt("", "hello", 300)
    assert watched() is None
