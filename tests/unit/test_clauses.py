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


@pytest.mark.parametrize(
    ("deltas", "first"),
    [
        ("The| capital| of| France| is| Par", "The capital of France"),
        ("The| capital| of| the| Kingdom", "The capital"),
        ("Of| the| and| to| which", "Of the and to"),
        ("Well I just| asked| Dr.| Smith", "Well I just asked"),
        ("He says it costs| 3.50| doll", "He says it costs"),
        ("It costs twenty| five| dollars| today", "It costs twenty five dollars"),
        ("The old car costs twenty| five", "The old car costs"),
        ("Come here on July| 20| at| 5| p.m.| and", "Come here on July"),
        ("**The capital city** of| France is", "The capital city of France"),
        ("法国|的|首都|是|巴黎|它", "法国的首都是巴黎"),
        ("法国|的|首都|城市|是|巴", "法国的首都城市"),
        ("苹果|公司|的|总部|在|加州|的", "苹果公司的总部"),
        ("价格|大概|是|三|百|五十|块", None),
        ("我喜欢的手机是iPhone|它很好", "我喜欢的手机是iPhone"),
        ("Yes| I| do", None),
        ("See [the| long label| of it| here", None),
        ("", None),
    ],
)
def test_the_first_piece_may_be_cut_short(deltas: str, first: str | None) -> None:
    cutter = ClauseCutter()
    for delta in deltas.split("|"):
        assert cutter.push(delta) == []
    clause = cutter.cut_short()
    assert (clause.spoken if clause else None) == first


def test_only_the_first_piece_is_cut_short() -> None:
    cutter = ClauseCutter()
    assert cutter.push("😀\n")  # nothing to say: the first piece is still to come
    cutter.push("one word and then another word and")
    assert cutter.cut_short() is not None
    cutter.push(" yet another word and no end of them")
    assert cutter.cut_short() is None


short_texts = st.text(alphabet=st.sampled_from(list("aofto13 .,!-\n*_好的是三，！…“”é😀한 ")), max_size=60)


@given(short_texts, st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1), st.integers(1, 5))
def test_a_short_cut_loses_nothing_and_ends_with_a_word(
    text: str, steps: list[tuple[int, bool]], least_words: int
) -> None:
    cutter, clauses, place = ClauseCutter(), list[Clause](), 0
    while place < len(text):
        size, shorten = steps[len(clauses) % len(steps)]
        clauses += cutter.push(text[place : place + size])
        place += size
        if shorten and (short := cutter.cut_short(least_words)):
            assert short.spoken
            assert not any(clause.spoken for clause in clauses)
            seam = short.spoken[-1] + text[short.end]
            assert not short.spoken[-1].isdigit()
            assert not (seam.isalpha() and seam.isascii())
            clauses.append(short)
    clauses += cutter.flush()
    assert "".join(text[clause.start : clause.end] for clause in clauses) == text
    for clause in clauses:
        assert [text[offset].split() for offset in clause.offsets] == [char.split() for char in clause.spoken]
