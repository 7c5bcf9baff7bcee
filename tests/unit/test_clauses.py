"""Clause cutting: early, at the right places, whatever the token boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.clauses import MAX_WEIGHT, Clause, ClauseCutter


def cut(text: str, size: int = 3) -> list[Clause]:
    cutter = ClauseCutter()
    clauses = [clause for i in range(0, len(text), size) for clause in cutter.push(text[i : i + size])]
    return [*clauses, *cutter.flush()]


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("The capital of France is Paris. It is big.", ["The capital of France is Paris.", "It is big."]),
        ("Well, Dr. Smith paid $3.50, i.e. not much.", ["Well, Dr. Smith paid $3.50,", "i.e. not much."]),
        ("Come at 5 p.m. tomorrow. Or at 6 p.m. He waits.", ["Come at 5 p.m. tomorrow.", "Or at 6 p.m.", "He waits."]),
        ("J. R. R. Tolkien wrote it etc. Then he slept...", ["J. R. R. Tolkien wrote it etc.", "Then he slept..."]),
        ('Really?! "Yes." OK', ["Really?!", '"Yes."', "OK"]),
        ("1. Apples\n2. Pears\n", ["1. Apples", "2. Pears"]),
        ("At 10:30, or 1,000 times v1.2.3, and on.", ["At 10:30, or 1,000 times v1.2.3,", "and on."]),
        ("你好！法国的首都是巴黎，它很大。对吗？", ["你好！", "法国的首都是巴黎，它很大。", "对吗？"]),
        ("法国的首都是巴黎，它很大。", ["法国的首都是巴黎，", "它很大。"]),
        ("价格是3.14元。OK.好的", ["价格是3.14元。", "OK.", "好的"]),
    ],
)
def test_cuts(text: str, spoken: list[str]) -> None:
    assert [clause.spoken for clause in cut(text)] == spoken


def test_a_full_stop_at_the_end_of_what_is_known_is_not_yet_an_end() -> None:
    cutter = ClauseCutter()
    assert cutter.push("It costs 3.") == []
    assert [clause.spoken for clause in cutter.push("50 dollars. ")] == ["It costs 3.50 dollars."]


def test_the_first_clause_comes_at_a_comma_and_later_ones_do_not() -> None:
    spoken = [clause.spoken for clause in cut("Yes of course, I can do that. But first, sit down, please.")]
    assert spoken == ["Yes of course,", "I can do that.", "But first, sit down, please."]


def test_a_sentence_without_end_is_cut_at_a_space() -> None:
    clauses = cut("word " * 200)
    assert all(clause.end - clause.start <= MAX_WEIGHT for clause in clauses)
    assert all(clause.spoken.endswith("word") for clause in clauses)


texts = st.text(alphabet=st.sampled_from(list("aB1 .,!?;:\n*_`[]()。，！…“”好é😀#-|<>/")), max_size=80)


@given(texts, st.integers(1, 9))
def test_every_character_is_in_exactly_one_clause(text: str, size: int) -> None:
    clauses = cut(text, size)
    assert "".join(text[clause.start : clause.end] for clause in clauses) == text


@given(texts)
def test_offsets_point_at_what_is_spoken(text: str) -> None:
    for clause in cut(text, 4):
        assert len(clause.offsets) == len(clause.spoken)
        for char, offset in zip(clause.spoken, clause.offsets, strict=True):
            assert clause.start <= offset < clause.end
            assert char == text[offset] or (char == " " and text[offset].isspace())
