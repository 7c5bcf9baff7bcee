"""Which voice speaks a text, and where a long one is cut: pure functions, the library is not asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.tts.espeak import choose_voice
from avatar.engines.tts.parts import split

KNOWN = ("cmn", "de", "en", "en-us", "fr", "ja", "ko", "nb", "yue")


@pytest.mark.parametrize(
    ("text", "voice", "language", "default", "chosen"),
    [
        ("Hello", None, None, "en-us", "en-us"),
        ("Hello", None, "en", "en-us", "en-us"),
        ("Hello", None, "en", "en", "en"),  # a configured British voice is English enough
        ("Hello", "en", None, "en-us", "en"),
        ("Hello", None, "en", "de", "en-us"),
        ("Hallo", None, "de", "en-us", "de"),
        ("你好", None, "zh", "en-us", "cmn"),
        ("你好", None, "en", "en-us", "cmn"),
        ("Hello 你好", None, None, "en-us", "cmn"),
        ("你好", None, "ja", "en-us", "ja"),
        ("こんにちは、世界", None, "en", "en-us", "ja"),
        ("안녕하세요", None, "en", "en-us", "ko"),
        ("你好", "yue", "zh", "en-us", "yue"),
        ("Hello", "fr", "en", "en-us", "fr"),  # asked for by name
        ("Hello", "en-us+f3", None, "en-us", "en-us+f3"),
        ("你好", "en-us+f3", None, "en-us", "cmn+f3"),
        ("Hallo", None, "de", "en-us+f3", "de+f3"),
        ("Hello", "EN-GB", None, "en-us", "en"),
        ("Hello", "nobody", None, "en-us", "en-us"),
        ("Hello", None, "xx", "en-us", "en-us"),
        ("Hello", None, None, "nobody", "en-us"),
        ("你好", None, "zh-CN", "en-us", "cmn"),
    ],
)
def test_the_voice_fits_the_wish_the_language_and_the_script(
    text: str, voice: str | None, language: str | None, default: str, chosen: str
) -> None:
    assert choose_voice(text, voice, language, default, KNOWN) == chosen


@given(st.text(alphabet="ab .,，。\n", max_size=1500))
def test_parts_are_bounded_and_join_to_the_text(text: str) -> None:
    parts = list(split(text, 200))
    assert "".join(parts) == text
    assert all(0 < len(part) <= 200 for part in parts)


def test_a_long_text_is_cut_after_sentences_then_clauses_then_words() -> None:
    sentence = "This is a sentence of some length. "
    assert all(part.rstrip().endswith(".") for part in split(sentence * 20, 200))
    assert all(part.rstrip().endswith(",") for part in split("this is but a clause, " * 20, 200))
    assert all(part.endswith(" ") for part in split("word " * 100, 200))
    assert {len(part) for part in split("今天天气很好。" * 84, 200)} == {196}
