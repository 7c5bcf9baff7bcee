"""Mandarin to the sounds Kokoro was trained on: pinyin in IPA, tones as arrows, a space between words.

The sounds of initials and finals are those of `pinyin-to-ipa` (MIT), first variant each, with the tones as `misaki`
(Apache-2.0) writes them for Kokoro 1.0. Words and readings come from pypinyin. Pure but for its dictionaries.
"""

import re
from functools import cache

HAN = re.compile("[\u3400-\u9fff]+")

_INITIALS = dict(
    zip(
        "b c ch d f g h j k l m n p q r s sh t x z zh".split(),
        "p ʦʰ ꭧʰ t f k x ʨ kʰ l m n pʰ ʨʰ ɻ s ʂ tʰ ɕ ʦ ꭧ".split(),
        strict=True,
    )
)
# `0` is where the tone goes.
_FINALS = dict(
    part.split(":")
    for part in (
        "a:a0 ai:ai0 an:a0n ang:a0ŋ ao:au0 e:ɤ0 ei:ei0 en:ə0n eng:ə0ŋ i:i0 ia:ja0 ian:jɛ0n iang:ja0ŋ iao:jau0 ie:je0 "
        "in:i0n iou:jou0 ing:i0ŋ iong:jʊ0ŋ ong:ʊ0ŋ ou:ou0 u:u0 uei:wei0 ua:wa0 uai:wai0 uan:wa0n uen:wə0n uang:wa0ŋ "
        "ueng:wə0ŋ uo:wo0 o:wo0 ü:y0 üe:ɥe0 üan:ɥɛ0n ün:y0n"
    ).split()
)
_WHOLE = {"hm": "hm0", "hng": "hŋ0", "m": "m0", "n": "n0", "ng": "ŋ0", "io": "jɔ0", "ê": "ɛ0", "er": "ɚ0", "o": "ɔ0"}
_BUZZING = frozenset({"zh", "ch", "sh", "r", "z", "c", "s"})  # before them `i` is their own sound drawn out
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}

_NUMBER = re.compile(r"(\d{4})(?=年)|(\d+(?:\.\d+)?)(%?)")
_DIGITS = "零一二三四五六七八九"


def sounds(text: str) -> str:
    """The sounds of Han characters: `你好` is `ni↓xau↓`. Words that pypinyin does not list are cut into syllables."""
    from pypinyin import Style, lazy_pinyin
    from pypinyin.contrib.mmseg import seg

    words = []
    for word in seg.cut(text):
        syllables = lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True, errors="ignore")
        words.append("".join(map(_syllable, syllables)))
    return " ".join(filter(None, words))


@cache
def _syllable(pinyin: str) -> str:
    from pypinyin.contrib.tone_convert import to_finals, to_initials

    plain, tone = (pinyin[:-1], pinyin[-1]) if pinyin[-1:].isdigit() else (pinyin, "5")
    plain = plain.replace("v", "ü")
    if plain in _WHOLE:
        return _WHOLE[plain].replace("0", _TONES[tone])
    initial, final = to_initials(plain, strict=True), to_finals(plain, strict=True, v_to_u=True)
    vowel = "ɨ0" if final == "i" and initial in _BUZZING else _FINALS.get(final, "")
    return _INITIALS.get(initial, "") + vowel.replace("0", _TONES.get(tone, ""))


def spell_numbers(text: str) -> str:
    """Digits as they are read: `2026年` one by one, `1234` as a number, `50%` as 百分之五十."""

    def read(found: re.Match[str]) -> str:
        year, number, percent = found.groups()
        if year:
            return _one_by_one(year)
        whole, _, decimals = number.partition(".")
        said = _number(whole) + ("点" + _one_by_one(decimals) if decimals else "")
        return "百分之" + said if percent else said

    return _NUMBER.sub(read, text)


def _one_by_one(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _number(digits: str) -> str:
    """Up to twelve digits as a number; more, or with a zero in front, one by one."""
    if len(digits) > 12 or (digits[0] == "0" and len(digits) > 1):
        return _one_by_one(digits)
    groups = [digits[max(end - 4, 0) : end] for end in range(len(digits), 0, -4)]
    said = ""
    for group, unit in reversed(list(zip(groups, ("", "万", "亿"), strict=False))):
        if int(group):
            gap = "零" if said and not said.endswith("零") and int(group) < 1000 else ""
            said += gap + _thousands(group) + unit
    said = said or "零"
    return said[1:] if said.startswith("一十") else said


def _thousands(group: str) -> str:
    said, gap = "", ""
    for digit, unit in zip(group, ("千", "百", "十", "")[-len(group) :], strict=True):
        if digit == "0":
            gap = "零" if said else ""
        else:
            said, gap = said + gap + _DIGITS[int(digit)] + unit, ""
    return said
