"""What of a growing transcript is sure enough to show: it only ever grows.

Pure. LocalAgreement-2 (Macháček et al. 2023, "Turning Whisper into Real-Time Transcription System"): what two
successive hypotheses agree on stays. Knows words, and scripts written without spaces; does not know audio, or when to
transcribe.
"""

import re
from dataclasses import dataclass
from itertools import takewhile

# Han, kana, Thai and Lao have no spaces between words: each character, with the marks on it, stands for a word.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_MARKS = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u3099\u309a"
_PUNCTUATION = ".,!?;:…\"'“”‘’()[]«»。，！？；：、「」『』（）《》—–-"
_WORD = re.compile(rf"[{_UNSPACED}][{_MARKS}]*|[^\s{_UNSPACED}]*[^\s{_UNSPACED}{re.escape(_PUNCTUATION)}]")
_ANCHOR_WORDS = 2
"""A hypothesis goes on from what was given if these last words of it are in their places: an engine that has second
thoughts about an earlier word must not hold up the rest."""


@dataclass(frozen=True)
class Word:
    """A word of a text: `plain` is what it is compared by, `end` where it ends there, without punctuation after it."""

    plain: str
    end: int

    @property
    def is_character(self) -> bool:
        """Whether it is a single character of a script without spaces."""
        return re.match(f"[{_UNSPACED}]", self.plain) is not None


def split_words(text: str) -> list[Word]:
    """The words of `text`, in order; case and the punctuation around a word are no part of `plain`."""
    return [Word(_plain(match.group()), match.end()) for match in _WORD.finditer(text)]


def _plain(word: str) -> str:
    return word.casefold().strip(_PUNCTUATION).replace("’", "'")


class StablePrefix:
    """Feed it each hypothesis about the same growing utterance; `text` is what is stable so far."""

    def __init__(self) -> None:
        self.text = ""
        self._given: list[str] = []
        self._last: list[str] = []

    def push(self, hypothesis: str) -> str:
        """Take the next hypothesis; return the stable text: whole words, always a continuation of what it was.

        A word keeps the form it was first given in. Punctuation after the last word waits for the next one, as
        engines put a full stop wherever the audio ends.
        """
        words = split_words(hypothesis)
        plain = [word.plain for word in words]
        agreed = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(plain, self._last, strict=False)))
        given = len(self._given)
        anchor = slice(max(0, given - _ANCHOR_WORDS), given)
        if agreed > given and plain[anchor] == self._given[anchor]:
            start = words[given - 1].end if given else 0
            self.text = (self.text + hypothesis[start : words[agreed - 1].end]).lstrip()
            self._given += plain[given:agreed]
        self._last = plain
        return self.text
