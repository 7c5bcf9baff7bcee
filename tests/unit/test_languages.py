"""Names of languages: every one that Whisper knows has one."""

from faster_whisper.tokenizer import _LANGUAGE_CODES

from avatar.core.languages import name_of, space_in


def test_every_language_of_whisper_has_a_name() -> None:
    names = [name_of(code) for code in _LANGUAGE_CODES]
    assert all(name != code for name, code in zip(names, _LANGUAGE_CODES, strict=True))
    assert len(set(names)) == len(names)
    assert (name_of("de"), name_of("ht"), name_of("xx")) == ("german", "haitian creole", "xx")


def test_chinese_has_no_spaces() -> None:
    assert (space_in("zh"), space_in("en"), space_in(None)) == ("", " ", " ")
