"""Words that stop where no sentence ends."""

import pytest

from avatar.core.unfinished import sounds_unfinished


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
        "我想要",
        "如果",
        "明天的话",
        "一三八零",
        "那个，",
    ],
)
def test_it_wants_to_go_on(text: str) -> None:
    assert sounds_unfinished(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the capital of France?",
        "Yes.",
        "I",
        "Turn it on.",
        "What is two plus two?",
        "Twenty five.",
        "Five.",
        "Call Peter.",
        "你好",
        "今天天气怎么样？",
        "好。",
    ],
)
def test_it_may_well_be_done(text: str) -> None:
    assert not sounds_unfinished(text)
