"""A corpus for turn-taking: what is said, where its speaker pauses, and where the turn is really over.

`utterances.toml` holds the scripts; `sound` turns them, and a few recordings, into audio with its truth. This file
knows what a script is and nothing of sound.
"""

import re
import tomllib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

_PAUSE = re.compile(r"\s*<(\d+)(\??)>\s*")
_SPEAKERS = {
    "en": (("en-us", 175), ("en-us+f3", 150), ("en+m3", 190), ("en-us+f5", 205), ("en-us+m7", 140)),
    "zh": (("cmn", 175), ("cmn+f2", 150), ("cmn+m3", 200)),
}
_SPEAKERS_EACH = 2


@dataclass(frozen=True)
class Piece:
    """Words said in one go, and the pause after them. `may_end`: taking the turn in that pause is no mistake."""

    text: str
    pause_ms: int = 0
    may_end: bool = False


@dataclass(frozen=True)
class Utterance:
    """One turn by one speaker: `voice` and `speed_wpm` are espeak-ng's, `language` an ISO 639-1 code."""

    kind: str
    language: str
    voice: str
    speed_wpm: int
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """What is said and by whom: unique in the corpus."""
        return f"{' '.join(piece.text for piece in self.pieces)} [{self.voice} {self.speed_wpm}]"


def parse(script: str) -> tuple[Piece, ...]:
    """Cut a script at its pauses: `<600>`, or `<600?>` where the turn may end. Raises `ValueError` if it ends so."""
    *cuts, last = _PAUSE.split(script)
    if not last:
        raise ValueError(f"a script ends with words, not with a pause: {script!r}")
    paused = [Piece(text, int(ms), may_end == "?") for text, ms, may_end in zip(*[iter(cuts)] * 3, strict=True)]
    return (*paused, Piece(last))


def utterances() -> list[Utterance]:
    """Every script, by two speakers each: all speakers of a language get their share."""
    groups = tomllib.loads(Path(__file__).with_name("utterances.toml").read_text(encoding="utf-8"))["group"]
    scripts = [(group["kind"], group["language"], parse(script)) for group in groups for script in group["say"]]
    found = []
    for (number, (kind, language, pieces)), other in product(enumerate(scripts), range(_SPEAKERS_EACH)):
        speakers = _SPEAKERS[language]
        voice, speed_wpm = speakers[(number + other) % len(speakers)]
        found.append(Utterance(kind, language, voice, speed_wpm, pieces))
    return found
