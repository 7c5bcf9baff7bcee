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
CHARACTERS_PER_WORD = 1.5
"""So many characters of Chinese or Japanese say as much as one English word."""
# A piece that ends in one of these hangs in the air: the phrase goes on.
_DANGLING = frozenset(
    "a an the this that these those my your his her its our their of to in on at by for with from as into onto about "
    "over under between than and or but nor so if when while because which who whose is are was were be been am will "
    "would can could should may might must do does did has have had not no very too i you he she it we they there "
    "在 是 把 被 从 向 给 和 与 或 跟 比 很 最 太 更 不 没 也 都 就 还 又 再 每 这 那 第".split()
)
_NUMBERS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand point "
    "一 二 三 四 五 六 七 八 九 十 百 千 万 亿 零 两 点".split()
)
_CLINGING = frozenset("的了着过地得吗呢吧啊们个はがをにでとのもへやねよか")  # never begin a piece
_MARKUP = re.compile(r"[\[\]<>|`#]")  # where it ends is not known yet
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
        self._seams: set[int] = set()

    def push(self, delta: str) -> list[Clause]:
        """Take the next piece of text; return the clauses it completes."""
        if self._first:
            self._seams.add(self._start + len(self._buffer))
        self._buffer += delta
        return self._cut_all(final=False)

    def flush(self) -> list[Clause]:
        """The text is complete: return what is left."""
        clauses = self._cut_all(final=True)
        return [*clauses, self._take(len(self._buffer))] if self._buffer else clauses

    def cut_short(self, least_words: int = 4) -> Clause | None:
        """What is pending as the first clause, up to its last whole word; None once there was a clause to say, or if
        fewer than `least_words` words (1.5 characters count as one) are pending.

        It never ends in a number or an abbreviation, and in an article, a preposition or the like only if that would
        leave less than half of `least_words`. Chinese and Japanese are cut only where two deltas met: tokens end
        where words do. Text with markup in it is left alone.
        """
        if not self._first or _MARKUP.search(self._buffer):
            return None
        cuts = [cut for cut in range(1, len(self._buffer)) if self._may_end_at(cut)]
        if not cuts or _words_in(self._buffer[: cuts[-1]]) < least_words:
            return None
        for cut in reversed(cuts):
            if _words_in(self._buffer[:cut]) < least_words / 2:
                break
            if _last_word(self._buffer[:cut]) not in _DANGLING:
                return self._take(cut)
        return self._take(cuts[-1])

    def _may_end_at(self, cut: int) -> bool:
        before, after = self._buffer[cut - 1], self._buffer[cut]
        seam = self._start + cut in self._seams if _is_unspaced(before) else _is_unspaced(after)
        if not (seam or after.isspace()) or before.isspace() or before in STRONG_LATIN:
            return False
        following = self._buffer[cut:].lstrip()[:1]
        word = _last_word(self._buffer[:cut])
        return (
            following.isalnum()
            and following not in _CLINGING
            and word not in _NUMBERS
            and not any(char.isdigit() for char in word)
        )

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


def spoken_weight(text: str) -> int:
    """How long `text` takes to say, in Latin letters."""
    return sum(3 if is_cjk(char) else 1 for char in text)


def is_cjk(char: str) -> bool:
    """Whether `char` is written without spaces and spoken as a syllable or two: Han, kana, hangul."""
    return "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7af"


def _is_unspaced(char: str) -> bool:
    return is_cjk(char) and not "\uac00" <= char <= "\ud7af"


def _last_word(text: str) -> str:
    """The last character of Chinese or Japanese, or the last word in lower case, with its inner punctuation."""
    if _is_unspaced(text[-1]):
        return text[-1]
    return re.split(r"[\s\u3040-\u30ff\u3400-\u9fff]", text)[-1].lower().strip(WEAK_LATIN + CLOSERS)


def _words_in(text: str) -> float:
    characters = sum(map(_is_unspaced, text))
    spaced = "".join(" " if _is_unspaced(char) else char for char in text)
    return characters / CHARACTERS_PER_WORD + sum(any(map(str.isalnum, word)) for word in spaced.split())


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
