"""Text to Kokoro's sounds: nothing outside its alphabet, punctuation kept, numbers read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.tts.kokoro_mandarin import sounds, spell_numbers
from avatar.engines.tts.kokoro_sounds import to_sounds
from tests.tiny_kokoro import ALPHABET

EVERY_SYLLABLE_KIND = (
    "八 擦 吃 大 发 个 好 家 看 来 妈 那 怕 去 人 三 是 他 小 在 中 二 哦 翁 女 绿 月 圆 云 兄 五 牙 外 我 优 应"
)


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        ("Hello there, my friend.", "en-us", "həlˈO ðˈɛɹ, mI fɹˈɛnd."),
        ("Hello there!", "en", "həlˈQ ðˈɛː!"),
        ("How are you (now)?", "en-us", "hˈW ɑɹ ju (nˈW)?"),
        ("你好，世界。", "cmn", "ni↓xau↓, ʂɨ↘ ʨje↘."),
        ("说“好”！", "cmn", "ʂwo→ “xau↓”!"),
        ("Bonjour, mes amis.", "fr", "bɔ̃ʒˈuʁ, mez amˈi."),
        ("", "en-us", ""),
        ("...", "en-us", "..."),
    ],
)
def test_sounds(text: str, language: str, said: str) -> None:
    assert to_sounds(text, language) == said


def test_a_number_keeps_its_marks() -> None:
    assert to_sounds("It costs $1,234.56!", "en-us").count(",") == 0


@pytest.mark.parametrize("language", ["en-us", "en", "es", "fr", "hi", "it", "pt-br", "cmn"])
def test_every_sound_is_one_the_model_knows(language: str) -> None:
    text = "The quick brown fox judges a church vision; bottle, button, boy. El niño, llama. Ça va? Gli amici. नमस्ते। "
    assert set(to_sounds(text + EVERY_SYLLABLE_KIND, language)) <= set(ALPHABET)


def test_every_kind_of_syllable_has_sounds_of_its_own() -> None:
    syllables = [sounds(character) for character in EVERY_SYLLABLE_KIND.split()]
    assert all(syllables)
    assert len(set(syllables)) == len(syllables)


@given(st.text(max_size=60))
def test_any_text_is_survived(text: str) -> None:
    to_sounds(text, "en-us")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026年", "二零二六年"),
        ("10", "十"),
        ("15", "十五"),
        ("110", "一百一十"),
        ("1005", "一千零五"),
        ("10500", "一万零五百"),
        ("20001", "二万零一"),
        ("120000000", "一亿二千万"),
        ("0", "零"),
        ("007", "零零七"),
        ("1.05", "一点零五"),
        ("50%", "百分之五十"),
    ],
)
def test_numbers(written: str, read: str) -> None:
    assert spell_numbers(written) == read
