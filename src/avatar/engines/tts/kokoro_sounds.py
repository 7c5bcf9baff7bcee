"""Text to the sounds Kokoro was trained on, in any of its languages. Knows the language, not the model or the voice.

espeak-ng finds the sounds; what Kokoro writes otherwise is replaced, as `misaki` (Apache-2.0) does for it. Mandarin has
a table of its own. Punctuation stays: the model makes its pauses and its melody from it.
"""

import re

from avatar.engines.tts.espeak_library import TIE, library
from avatar.engines.tts.kokoro_mandarin import HAN, sounds, spell_numbers

ENGLISH = frozenset({"en-us", "en"})
MANDARIN = "cmn"

# A mark between two digits belongs to the number.
_MARKS = re.compile(r"\s*(?:(?<!\d)[;:,.!?—…]|[;:,.!?—…](?!\d)|[¡¿\"“”()«»、，。！？；：「」『』（）《》\n])+\s*")
_WRITTEN = str.maketrans("、，。！？；：「」『』（）《》«»", ",,.!?;:“”“”()“”“”")
_LANGUAGE_SWITCH = re.compile(r"\([a-z-]+\)")

_DIPHTHONGS = (("a^ɪ", "I"), ("a^ʊ", "W"), ("e^ɪ", "A"), ("ɔ^ɪ", "Y"))
_AFFRICATES = (("d^ʒ", "ʤ"), ("t^ʃ", "ʧ"))
_ENGLISH = (
    *(("ʔˌn\u0329", "ʔn"), ("ʔn\u0329", "ʔn"), ("ə^l", "ᵊl"), ("ʲo", "jo"), ("ʲə", "jə"), ("ʲ", "")),
    *_DIPHTHONGS,
    *_AFFRICATES,
    *(("e", "A"), ("ɚ", "əɹ"), ("r", "ɹ"), ("x", "k"), ("ç", "k"), ("ɐ", "ə"), ("ɬ", "l"), ("\u0303", "")),
)
_BRITISH_FIRST = (("e^ə", "ɛː"),)  # before `e` alone
_BRITISH = (("iə", "ɪə"), ("ə^ʊ", "Q"))
_AMERICAN = (("o^ʊ", "O"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""))
_ENGLISH_LAST = (("o", "ɔ"), ("ɾ", "T"), ("ʔ", "t"), (TIE, ""), ("-", ""))
_OTHERS = (
    *_DIPHTHONGS,
    *_AFFRICATES,
    *(("d^z", "ʣ"), ("o^ʊ", "O"), ("ə^ʊ", "Q"), ("s^s", "S"), ("t^s", "ʦ"), (TIE, ""), ("-", "")),
)
_SYLLABIC = re.compile("(\\S)\u0329")


def to_sounds(text: str, language: str) -> str:
    """The sounds of `text`, which espeak-ng would read with its voice `language`; Han characters are Mandarin.

    Blocking; a millisecond a sentence. Raises `EngineFailed` for a language espeak-ng does not have.
    """
    if HAN.search(text):
        text = spell_numbers(text)
    out, end = "", 0
    for mark in _MARKS.finditer(text):
        out += _clause(text[end : mark.start()], language) + _written(mark.group())
        end = mark.end()
    return " ".join((out + _clause(text[end:], language)).split())


def _written(mark: str) -> str:
    """A mark as Kokoro's alphabet has it, with the space that belongs to it."""
    plain = "".join(mark.split()).translate(_WRITTEN)
    return f" {plain}" if plain[:1] in "“(" else f"{plain} "


def _clause(text: str, language: str) -> str:
    """Han characters by their table, all else by espeak-ng; it reads letters between them as English."""
    parts, end = [], 0
    latin = "en-us" if language == MANDARIN else language
    for han in HAN.finditer(text):
        parts += [_by_espeak(text[end : han.start()], latin), sounds(han.group())]
        end = han.end()
    return " ".join(filter(None, (*parts, _by_espeak(text[end:], latin))))


def _by_espeak(text: str, language: str) -> str:
    if not any(char.isalnum() for char in text):
        return ""
    found = _LANGUAGE_SWITCH.sub("", " ".join(library().phonemes(text, language)))
    if language not in ENGLISH:
        return _replace(found, _OTHERS)
    first, then = ((), _AMERICAN) if language == "en-us" else (_BRITISH_FIRST, _BRITISH)
    found = _SYLLABIC.sub(r"ᵊ\1", _replace(found, (*first, *_ENGLISH))).replace("\u0329", "")
    return _replace(found, (*then, *_ENGLISH_LAST))


def _replace(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text
