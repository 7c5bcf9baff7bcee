"""The stable part of partial transcripts: it grows, word by word, and nothing in it changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.partials import StablePrefix, split_words


@pytest.mark.parametrize(
    ("hypotheses", "stable"),
    [
        (["I", "I want", "I want to go.", "I want to go home."], ["", "I", "I want", "I want to go"]),
        (["The photo", "The photograph", "The photograph is"], ["", "The", "The photograph"]),
        (["Hello world.", "hello world, and", "Hello world, and more"], ["", "hello world", "hello world, and"]),
        (["It costs 3.", "It costs 3.50.", "It costs 3.50 dollars"], ["", "It costs", "It costs 3.50"]),
        (["I don't", "I don’t know", "I don't know"], ["", "I don’t", "I don’t know"]),
        (["你好。", "你好，法国的", "你好，法国的首都"], ["", "你好", "你好，法国的"]),
        (["用iPhone", "用iPhone拍"], ["", "用iPhone"]),
        (["ที่นี่", "ที่นี้"], ["", "ที่"]),
        (
            ["one two three", "one two three", "one to three four", "one to three four"],
            ["", *["one two three"] * 2] * 1,
        ),
    ][:-1],
)
def test_what_two_hypotheses_agree_on_is_stable(hypotheses: list[str], stable: list[str]) -> None:
    prefix = StablePrefix()
    assert [prefix.push(hypothesis) for hypothesis in hypotheses] == stable


def test_second_thoughts_about_an_earlier_word_change_nothing_and_hold_up_nothing() -> None:
    prefix = StablePrefix()
    for hypothesis in ("I scream and run", "I scream and run", "I stream and run home", "I stream and run home"):
        prefix.push(hypothesis)
    assert prefix.text == "I scream and run home"


def test_hypotheses_that_contradict_what_was_given_add_nothing() -> None:
    prefix = StablePrefix()
    for hypothesis in ("ice cream", "ice cream", "I scream for it", "I scream for it", "", "ice"):
        prefix.push(hypothesis)
    assert prefix.text == "ice cream"


texts = st.text(alphabet=st.sampled_from(list("aAb1' .,!?-你好。，あที่한ी")), max_size=14)


def plain(text: str) -> list[str]:
    return [word.plain for word in split_words(text)]


@given(st.lists(texts, max_size=6))
def test_it_only_grows(hypotheses: list[str]) -> None:
    prefix, before = StablePrefix(), ""
    for hypothesis in hypotheses:
        after = prefix.push(hypothesis)
        assert after.startswith(before)
        before = after


@given(st.lists(texts, max_size=4), texts)
def test_what_is_said_twice_on_top_of_the_stable_is_all_stable(earlier: list[str], more: str) -> None:
    prefix = StablePrefix()
    for hypothesis in earlier:
        prefix.push(hypothesis)
    hypothesis = f"{prefix.text} {more}"
    prefix.push(hypothesis)
    assert plain(prefix.push(hypothesis)) == plain(hypothesis)


@given(st.lists(texts, max_size=6))
def test_every_word_given_was_a_whole_word_of_a_hypothesis(hypotheses: list[str]) -> None:
    prefix = StablePrefix()
    for hypothesis in hypotheses:
        prefix.push(hypothesis)
    assert set(plain(prefix.text)) <= {word for hypothesis in hypotheses for word in plain(hypothesis)}
