"""Counting words that came out wrong."""

import pytest

from avatar.voices.similarity import SENTENCES, sentences, word_error_rate, words


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("One two three.", "one, two three", 0),
        ("One two three four", "one three four", 0.25),
        ("One two", "one two three", 0.5),
        ("One two", "", 1),
        ("", "anything", 0),
        ("It's fine", "its fine", 0),
        ("今天天气很好。", "今天天汽很好", 1 / 6),
        ("Ａ B", "a b", 0),
    ],
)
def test_word_error_rate(said: str, heard: str, rate: float) -> None:
    assert word_error_rate(said, heard) == pytest.approx(rate)


def test_every_language_has_something_to_say() -> None:
    assert sentences("zh-CN") == SENTENCES["zh"]
    assert sentences(None) == sentences("sw") == SENTENCES["en"]
    assert all(len(words(sentence)) >= 8 for group in SENTENCES.values() for sentence in group)
