"""Cuts streaming text into clauses worth speaking: early for the first, whole sentences after it.

Pure. Knows Latin and CJK punctuation, abbreviations and numbers. What a clause sounds like is `spoken.py`'s affair.
"""

import re
from dataclasses import dataclass, field

from avatar.core.spoken import to_spoken

STRONG_CJK = "。！？；…"
STRONG_LATIN = ".!?;"
WEAK_CJK = "，、：—"
WEAK_LATIN = ",:"
CLOSERS = "\"'”’）)]」』》】*_`"

# Lengths are weights: a Latin letter counts 1, a CJK character 3 (it takes about three times as long to say).
FIRST_MIN_WEIGHT = 12
"""The first clause may end at a comma from here on: two or three words, about a second of speech."""
LONG_WEIGHT = 120
"""Later clauses may end at a comma from here on: about eight seconds of speech."""
MAX_WEIGHT = 240
"""No clause is longer: the speech engine must not wait for a sentence that never ends."""

_NEVER_ENDS = frozenset(
    "mr mrs ms dr prof st vs e.g i.e cf fig no vol gen col sgt capt rev hon mt approx ca pp".split()
)
_SELDOM_ENDS = frozenset(
    "etc a.m p.m inc ltd co corp jr sr u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_LAST_WORD = re.compile(r"[A-Za-z]+(?:\.[A-Za-z]+)*$")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*\d{1,3}$")


@dataclass(frozen=True)
class Clause:
    """A piece of the answer: `raw[start:end]` of the whole text, and how it is spoken (``""``: nothing to say).

    `offsets[i]` is the place in the whole text of the i-th spoken character.
    """

    spoken: str
    start: int
    end: int
    offsets: tuple[int, ...] = field(repr=False, default=())


class ClauseCutter:
    """Feed it deltas; it gives clauses as soon as each is complete. Every character ends up in one clause."""

    def __init__(self) -> None:
        self._buffer = ""
        self._start = 0
        self._first = True

    def push(self, delta: str) -> list[Clause]:
        """Take the next piece of text; return the clauses it completes."""
        self._buffer += delta
        return self._cut_all(final=False)

    def flush(self) -> list[Clause]:
        """The text is complete: return what is left."""
        clauses = self._cut_all(final=True)
        return [*clauses, self._take(len(self._buffer))] if self._buffer else clauses

    def _cut_all(self, *, final: bool) -> list[Clause]:
        clauses: list[Clause] = []
        while cut := self._find_cut(final=final):
            clauses.append(self._take(cut))
        return clauses

    def _take(self, length: int) -> Clause:
        raw, self._buffer = self._buffer[:length], self._buffer[length:]
        start, self._start = self._start, self._start + length
        spoken, offsets = to_spoken(raw)
        self._first = self._first and not spoken
        return Clause(spoken, start, self._start, tuple(start + offset for offset in offsets))

    def _find_cut(self, *, final: bool) -> int:
        """Length of the first complete clause in the buffer; 0 if there is none yet."""
        weight = 0
        for place, char in enumerate(self._buffer):
            weight += 3 if is_cjk(char) else 1
            cut = self._cut_at(place, char, weight, final=final)
            if cut:
                return cut
            if weight >= MAX_WEIGHT:
                space = self._buffer.rfind(" ", 0, place)
                return space + 1 if space > 0 else place + 1
        return 0

    def _cut_at(self, place: int, char: str, weight: int, *, final: bool) -> int:
        text = self._buffer
        weak_is_enough = weight >= (FIRST_MIN_WEIGHT if self._first else LONG_WEIGHT)
        if char in STRONG_CJK or (char in WEAK_CJK and weak_is_enough):
            return _past_closers(text, place + 1)
        if char == "\n":
            return place + 1 if text[:place].strip() else 0
        if char in STRONG_LATIN or (char in WEAK_LATIN and weak_is_enough):
            end = _past_closers(text, place + 1)
            if end == len(text):
                return end if final and char in STRONG_LATIN and not _is_abbreviation(text, place, final) else 0
            if not (text[end].isspace() or is_cjk(text[end])):
                return 0
            return 0 if char == "." and _is_abbreviation(text, place, final) else end
        return 0


def is_cjk(char: str) -> bool:
    """Whether `char` is written without spaces and spoken as a syllable or two: Han, kana, hangul."""
    return "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7af"


def _past_closers(text: str, place: int) -> int:
    while place < len(text) and text[place] in CLOSERS + STRONG_CJK + STRONG_LATIN:
        place += 1
    return place


def _is_abbreviation(text: str, dot: int, final: bool) -> bool:
    """Whether the full stop at `dot` belongs to its word. With too little text to tell it answers yes: wait."""
    before = text[:dot]
    if _LIST_NUMBER.search(before):
        return True
    match = _LAST_WORD.search(before)
    word = match.group().lower() if match else ""
    if word in _NEVER_ENDS or (len(word) == 1 and word != "i"):
        return True
    if word in _SELDOM_ENDS:
        following = text[dot + 1 :].lstrip()
        return not final if not following else not following[0].isupper()
    return False
