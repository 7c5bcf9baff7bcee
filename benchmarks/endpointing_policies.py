"""Policies for the end of turn, tried on what `endpointing.py dump` wrote: milliseconds for the whole corpus.

    python benchmarks/endpointing_policies.py           the trade-off: policies no other beats, and a few by name

A pause is decided as turn-taking would: asked after `first_ms` of silence and again every `again_ms`, over when Smart
Turn's probability reaches the threshold of that silence, or at a ceiling; words that sound unfinished raise both. It is
assumed that no turn was taken before: later questions then hear more of the utterance than they would.
"""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from avatar.core.completeness import Completeness, completeness
from avatar.core.turns import WAIT_BY_SOUND, WAIT_BY_WORDS
from endpointing import CACHE, FRAME_MS, SILENCES_MS

Pause = dict[str, Any]
PLAIN = ("question", "command", "short", "dialogue", "sentence")
PEOPLE = ("reading", "slow reading", "dialogue", "sentence")
SOON_MS = 300
NEVER = 2.0
"""A threshold no probability reaches."""


@dataclass(frozen=True)
class Policy:
    """Thresholds go from `threshold`, at `first_ms`, to `last_threshold`, at the ceiling. `again_ms` 0: asked once."""

    first_ms: float = 224
    again_ms: float = 0
    threshold: float = 0.5
    last_threshold: float = 0.5
    ceiling_ms: float = 1500
    unfinished_ceiling_ms: float = 1500
    words: bool = False
    witnesses: bool = False
    """Sound and words must both say so, as turn-taking does it now."""


# --- decisions ----------------------------------------------------------------------------------


def load() -> list[list[Pause]]:
    """The dump, a list of pauses for each turn. `probabilities` is made to have one for every frame, `words` says
    whether they sound unfinished, and the last pause lasts for ever."""
    turns: list[list[Pause]] = json.loads((CACHE / "pauses.json").read_text())
    for pause in (pause for pauses in turns for pause in pauses):
        frames = np.arange(0, SILENCES_MS[-1] + 1, FRAME_MS)
        nearest = np.clip(np.searchsorted(SILENCES_MS, frames, side="right") - 1, 0, len(pause["probabilities"]) - 1)
        pause["probabilities"] = [pause["probabilities"][at] for at in nearest]
        pause["words"] = completeness(pause["text"])
        if pause["truth"] == "end":
            pause["lasted_ms"] = np.inf
    return [pauses for pauses in turns if pauses]


def _part(over: bool, words: Completeness) -> float:
    """Of the ceiling that is waited, as `core/turns.py` has it."""
    if over and words in (Completeness.FINISHED, Completeness.UNKNOWN):
        return 0.0
    if words is Completeness.FINISHED:
        return WAIT_BY_WORDS
    return WAIT_BY_SOUND if over and words is Completeness.UNCLEAR else 1.0


def decided_ms(pause: Pause, policy: Policy) -> float | None:
    """After how much silence the turn is taken; None: the speaker goes on first."""
    words = pause["words"] if policy.words else Completeness.UNKNOWN
    open_words = words is Completeness.UNFINISHED
    if policy.witnesses:
        over = pause["probabilities"][int(policy.first_ms) // FRAME_MS] >= policy.threshold
        decided = policy.ceiling_ms * _part(over, words)
        decided = max(decided, policy.first_ms)
        return decided if pause["lasted_ms"] >= decided else None
    ceiling_ms = policy.unfinished_ceiling_ms if open_words else policy.ceiling_ms
    lasted_ms: float = pause["lasted_ms"]
    silence_ms, step_ms = policy.first_ms, policy.again_ms or ceiling_ms
    while not open_words and silence_ms < min(ceiling_ms, lasted_ms + 1):
        part = (silence_ms - policy.first_ms) / (policy.ceiling_ms - policy.first_ms)
        needed = policy.threshold + part * (policy.last_threshold - policy.threshold)
        if pause["probabilities"][int(silence_ms) // FRAME_MS] >= needed:
            return silence_ms
        silence_ms += step_ms
    return ceiling_ms if lasted_ms >= ceiling_ms else None


@dataclass(frozen=True)
class Score:
    """`cut_off`: share of turns taken too early; `cut_pauses`: of pauses that are no end. `soon`: of the turns cut
    off, those whose speaker always went on within `SOON_MS`, before a reply is heard. Delays: from the true end."""

    turns: int
    cut_off: float
    cut_pauses: float
    soon: float
    p50_ms: float
    p95_ms: float


def score(turns: list[list[Pause]], policy: Policy) -> Score:
    cut_off = cut_pauses = inner = soon = 0
    delays_ms = []
    for pauses in turns:
        middle = [(pause["lasted_ms"], decided_ms(pause, policy)) for pause in pauses if pause["truth"] == "mid"]
        left_ms = [lasted_ms - at_ms for lasted_ms, at_ms in middle if at_ms is not None]
        cut_off, cut_pauses, inner = cut_off + bool(left_ms), cut_pauses + len(left_ms), inner + len(middle)
        soon += bool(left_ms) and max(left_ms) <= SOON_MS
        ends = ((pause, decided_ms(pause, policy)) for pause in pauses if pause["truth"] == "end")
        late = [pause["vad_ms"] + at_ms - pause["true_ms"] for pause, at_ms in ends if at_ms is not None]
        delays_ms += late[:1]
    p50_ms, p95_ms = np.percentile(delays_ms, [50, 95])
    return Score(len(turns), cut_off / len(turns), cut_pauses / max(inner, 1), soon / max(cut_off, 1), p50_ms, p95_ms)


# --- reports ------------------------------------------------------------------------------------

NAMED = {
    "two witnesses, 224 ms": Policy(ceiling_ms=1200, words=True, witnesses=True),
    "one question at 224 ms, 0.5": Policy(),
    "again every 96 ms": Policy(again_ms=96),
    "again every 192 ms": Policy(again_ms=192),
    "again every 96 ms, 0.8": Policy(again_ms=96, threshold=0.8, last_threshold=0.8),
    "one question at 160 ms, words, ceiling 992": Policy(160, 0, 0.5, 0.5, 992, 992, True),
    "one question at 224 ms, words, ceiling 992": Policy(224, 0, 0.5, 0.5, 992, 992, True),
    "one question at 224 ms, 0.8, words, ceiling 992": Policy(224, 0, 0.8, 0.8, 992, 992, True),
    "one question at 448 ms, 0.8, words, ceiling 896/992": Policy(448, 0, 0.8, 0.8, 896, 992, True),
    "every 96 ms from 704, 0.9 to 0.3, words, 992": Policy(704, 96, 0.9, 0.3, 992, 992, True),
    "silence alone, 800 ms": Policy(threshold=NEVER, last_threshold=NEVER, ceiling_ms=800),
    "silence alone, 896 ms": Policy(threshold=NEVER, last_threshold=NEVER, ceiling_ms=896),
    "silence alone, 992 ms": Policy(threshold=NEVER, last_threshold=NEVER, ceiling_ms=992),
}


def sets(turns: list[list[Pause]]) -> dict[str, list[list[Pause]]]:
    """All; turns without a pause; those with one; and people, for espeak-ng's intonation is a machine's."""
    return {
        "all": turns,
        "plain": [pauses for pauses in turns if pauses[0]["kind"] in PLAIN],
        "with pauses": [pauses for pauses in turns if pauses[0]["kind"] not in PLAIN],
        "people": [pauses for pauses in turns if pauses[0]["kind"] in PEOPLE],
    }


def row(name: str, policy: Policy, groups: dict[str, list[list[Pause]]]) -> str:
    cells = []
    for turns in groups.values():
        found = score(turns, policy)
        cells.append(
            f"{found.cut_off:.0%} / {found.cut_pauses:.0%} ({found.soon:.0%}) | {found.p50_ms:.0f} | {found.p95_ms:.0f}"
        )
    return f"| {name} | {' | '.join(cells)} |"


def header(groups: dict[str, list[list[Pause]]]) -> str:
    titles = " | ".join(f"{name}: cut off, turns / pauses (soon) | p50 | p95" for name in groups)
    return f"| policy | {titles} |\n|---|{'---|' * 3 * len(groups)}"


def grid() -> list[Policy]:
    return [
        Policy(first_ms, again_ms, threshold, last, ceiling_ms, unfinished_ms or ceiling_ms, bool(unfinished_ms))
        for first_ms, again_ms, threshold, last, ceiling_ms, unfinished_ms in product(
            (160, 192, 224, 256, 320, 448, 576, 704),
            (0, 96, 128, 192),
            (0.5, 0.8, 0.9, 0.95, 0.97, NEVER),
            (0.3, 0.5, 0.8, 0.95, NEVER),
            (608, 704, 800, 896, 992, 1504),
            (0, 992, 1504),
        )
    ]


def best(turns: list[list[Pause]]) -> list[tuple[Policy, Score]]:
    """Policies no other beats in cut-offs, median and p95 at once, from few cut-offs to many."""
    tried = [(policy, score(turns, policy)) for policy in grid()]
    kept: list[tuple[Policy, Score]] = []
    for policy, found in sorted(tried, key=lambda each: (each[1].cut_off, each[1].p50_ms, each[1].p95_ms)):
        if all(found.p50_ms < other.p50_ms or found.p95_ms < other.p95_ms for _, other in kept):
            kept.append((policy, found))
    return kept


def knowledge(turns: list[list[Pause]]) -> str:
    """What Smart Turn knows after so much silence, in pauses that last as long: share of answers of 0.5 and more where
    the speaker goes on and where not, and how often an end has the higher answer of the two (0.5: by chance)."""
    rows = ["| silence | whose | goes on | is done | end above pause |", "|---|---|---|---|---|"]
    for silence_ms in (128, 160, 224, 320, 448, 640):
        for whose in ("en", "zh", "people"):
            found: dict[str, list[float]] = {"mid": [], "end": [], "may_end": []}
            for pause in (pause for pauses in turns for pause in pauses if pause["lasted_ms"] >= silence_ms):
                if whose == ("people" if pause["kind"] in PEOPLE else pause["language"]):
                    found[pause["truth"]].append(pause["probabilities"][silence_ms // FRAME_MS])
            mid, end = np.array(found["mid"]), np.array(found["end"])
            above = np.mean(end[:, np.newaxis] > mid)
            shares = " | ".join(f"{np.mean(known >= 0.5):.0%} of {known.size}" for known in (mid, end))
            rows.append(f"| {silence_ms} | {whose} | {shares} | {above:.2f} |")
    return "\n".join(rows)


def main() -> None:
    turns = load()
    groups = sets(turns)
    print(knowledge(turns), "\n")
    print(header(groups))
    for name, policy in NAMED.items():
        print(row(name, policy, groups))
    print("\nTrade-off on everything:\n")
    for policy, found in best(turns):
        print(f"{found.cut_off:.1%} p50 {found.p50_ms:.0f} p95 {found.p95_ms:.0f} {policy}")


if __name__ == "__main__":
    main()
