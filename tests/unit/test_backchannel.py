"""Listening noises and words that want the floor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.backchannel import MAX_WORDS, is_backchannel

NOISES = ["mm-hmm", "uh-huh", "yeah", "okay", "I see", "got it", "hmmm", "oh", "好的", "对对对", "嗯", "原来如此", "OK"]


@pytest.mark.parametrize(
    "text",
    [
        *("Mm-hmm.", "uh-huh", "Yeah.", "yeah, yeah", "Okay.", "Right, right.", "I see.", "Got it!", "Oh, wow.", "hm"),
        *("Mmmm", "Hmmmm...", "Ohhh, I see.", "yeahhh", "Really?", "oh yeah?", "Mhm", "ＯＫ", "That makes sense."),
        *(
            "嗯",
            "嗯嗯。",
            "对对对",
            "对对对对对对",
            "好的",
            "好，好的。",
            "是啊",
            "原来如此！",
            "哦，这样啊",
            "明白了",
            "真的吗？",
        ),
        *("對", "是嗎？", "沒錯", "原來如此", "OK，好的", "嗯OK", "哈哈哈哈"),
    ],
)
def test_a_listener_listens(text: str) -> None:
    assert is_backchannel(text)


@pytest.mark.parametrize(
    "text",
    [
        *("Stop.", "Wait!", "No.", "Hold on", "Yeah but what about Paris", "Okay, next question", "Why?", "right turn"),
        *("yeah yeah yeah yeah yeah", "I see a dog", "What", "", "...", "1", "Uh-uh.", "mm-mm", "Huh?", "hmm?", "-"),
        *(
            "停",
            "等等",
            "不对",
            "不是",
            "好了",
            "行了",
            "可以了",
            "好了别说了",
            "对了，我想问",
            "为什么",
            "那个",
            "好的，下一个问题",
        ),
        *("嗯？", "啊？", "是不是", "对不起", "OK停", "yesterday", "はい"),
    ],
)
def test_words_that_want_the_floor(text: str) -> None:
    assert not is_backchannel(text)


@given(st.lists(st.sampled_from(NOISES), min_size=1, max_size=MAX_WORDS + 2), st.sampled_from([" ", ", ", "。", "! "]))
def test_a_few_noises_are_a_noise_and_many_are_a_sentence(noises: list[str], joint: str) -> None:
    written = joint.join(noise if i % 2 else noise.upper() for i, noise in enumerate(noises))
    assert is_backchannel(written) == (len(noises) <= MAX_WORDS)


@given(st.text(max_size=40))
def test_one_word_that_wants_the_floor_is_enough(text: str) -> None:
    assert not is_backchannel(text + " stop")
    assert not is_backchannel("停" + text)


@pytest.mark.parametrize(
    "text", ["हाँ।", "हाँ, हाँ", "अच्छा", "okay हाँ", "Haan haan.", "はい、はい", "嗯，咩话", "yeah", "好的"]
)
def test_a_house_may_add_words(text: str) -> None:
    assert is_backchannel(text, ("हाँ", "अच्छा", "haan", "はい", "咩话"))


@pytest.mark.parametrize("text", ["हो", "हाँ लेकिन रुको", "haan stop", "", "!"])
def test_and_only_those(text: str) -> None:
    assert not is_backchannel(text, ("हाँ", "haan", "", " ", "!"))
