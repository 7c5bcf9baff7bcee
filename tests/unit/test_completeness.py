"""The words of a turn as a witness of its end."""

import pytest

from avatar.core.completeness import Completeness, completeness


@pytest.mark.parametrize(
    "text",
    [
        "I would like to",
        "I went to the.",
        "Can you tell me the weather in Paris and",
        "Well, uh",
        "I think,",
        "My number is five",
        "five five five",
        "A, B, C.",
        "What is",
        "我想要",
        "如果",
        "明天的话",
        "一三八零",
        "那个，",
        "帮我订一张去",
        "I need to buy some. What do you call it?",
        "Well, let me think.",
        "Uh, what was I going to say?",
        "我要买那个叫什么来着？",
        "让我想想。",
        "这个嘛，怎么说呢",
    ],
)
def test_these_want_to_go_on(text: str) -> None:
    assert completeness(text) is Completeness.UNFINISHED


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "okay, what's the time",
        "Yes.",
        "Thank you.",
        "No, thank you.",
        "Can you hear me?",
        "What do you call it?",
        "Okay, what is the word for rain?",
        "How are you?",
        "What is two plus two?",
        "Tell me a joke.",
        "Set a timer for ten minutes.",
        "I live in Rome. What is the weather like today?",
        "今天天气怎么样？",
        "你好",
        "好。",
        "给我讲个故事。",
        "明天会不会下雨",
        "这个用英语怎么说？",
    ],
)
def test_these_call_for_an_answer(text: str) -> None:
    assert completeness(text) is Completeness.FINISHED


@pytest.mark.parametrize(
    "text", ["I live in Rome.", "Call Peter.", "What?", "Could you", "Can you tell me", "Do you know", "我住在北京"]
)
def test_these_may_go_on_or_not(text: str) -> None:
    assert completeness(text) is Completeness.UNCLEAR


@pytest.mark.parametrize(("text", "language"), [("", None), ("", "en"), ("Wie spät ist es?", "de"), ("今日は", "ja")])
def test_it_says_when_it_does_not_know(text: str, language: str | None) -> None:
    assert completeness(text, language) is Completeness.UNKNOWN


def test_it_takes_the_language_it_is_told() -> None:
    assert completeness("What is it?", "en") is Completeness.FINISHED
    assert completeness("今天天气怎么样？", "zh") is Completeness.FINISHED
