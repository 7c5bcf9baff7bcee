"""Do these words stop where no sentence ends? A second cue for the end of a turn, beside its sound.

Pure. Knows English and Chinese; says no for words of other languages.
"""

import re

# English: words few sentences end with. Left out are those that often do: "on", "in", "that", "so".
_OPEN_WORDS = frozenset(
    "a an the my your our their every and or but because although if than of from with into for to at by "
    "is are was were am i'm it's that's i we they he she uh um er erm hmm".split()
)
_OPEN_ENDS = tuple(
    "， 、 那个 这个 就是 就是说 然后 嗯 呃 的话 因为 所以 如果 但是 还有 或者 和 跟 想要 我 在".split(" ")
)
_DIGIT = r"(?:zero|one|two|three|four|five|six|seven|eight|nine|oh|double|\d+|[b-hj-z])"
# Digits and spelled letters come in groups, and nothing in a group says that it is the last.
_IN_GROUPS = re.compile(
    rf"\b{_DIGIT}[ ,.!-]+{_DIGIT}$|\b(?:number|code|pin|dial|spelled)\b.*\b{_DIGIT}$|[零一二三四五六七八九幺]{{2}}$"
)
_LAST_WORD = re.compile(r"[a-z']+$")


def sounds_unfinished(text: str) -> bool:
    """Does `text`, as transcribed, want to go on? Of its last mark only a comma, a dash or an ellipsis counts:
    transcribers put a full stop after anything."""
    said = text.strip().lower()
    if said.endswith((",", "，", "、", "...", "…", "-", "—")):
        return True
    said = said.rstrip(".!?。！？ ")
    if _IN_GROUPS.search(said) or said.endswith(_OPEN_ENDS):
        return True
    last = _LAST_WORD.search(said)
    return last is not None and last[0] in _OPEN_WORDS and last[0] != said
