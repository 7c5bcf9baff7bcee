"""How alike speech is to a voice, as numbers: words that came out wrong, and what is spoken to find out. Pure."""

import unicodedata
from collections.abc import Sequence

ALIKE = 0.75
"""GE2E cosine from which two recordings are taken for the same speaker."""

SENTENCES = {
    "en": (
        "The weather is nice today, and we are going for a walk in the park.",
        "She had put the letters in the drawer of the old table.",
        "How many people do you think will come to the meeting on Friday?",
    ),
    "zh": ("今天天气很好，我们去公园散步。", "她把信放进了旧桌子的抽屉里。", "你觉得星期五会有多少人来开会？"),
}


def sentences(language: str | None) -> tuple[str, ...]:
    """What to say in a voice of that language; English for those without sentences of their own."""
    return SENTENCES.get((language or "en").partition("-")[0].lower(), SENTENCES["en"])


def words(text: str) -> list[str]:
    """Words without case and marks; characters where words are not told apart by spaces."""
    out, word = [], ""
    for char in unicodedata.normalize("NFKC", text).lower():
        if unicodedata.category(char)[0] in "LMN" and not _is_ideograph(char):
            word += char
            continue
        if word and char not in "'’":
            out.append(word)
            word = ""
        if _is_ideograph(char):
            out.append(char)
    return [*out, word] if word else out


def word_error_rate(said: str, heard: str) -> float:
    """Words to insert, delete or replace, over those that were said (Levenshtein 1966); 0 when nothing was said."""
    wanted, got = words(said), words(heard)
    return _distance(wanted, got) / len(wanted) if wanted else 0.0


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    row = list(range(len(other) + 1))
    for at, item in enumerate(one, 1):
        before, row[0] = row[0], at
        for column, against in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (item != against))
    return row[-1]


def _is_ideograph(char: str) -> bool:
    return "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff"
