"""What of a written text is said aloud: markdown, emoji, tags and addresses are stripped.

Pure. Each spoken character remembers where in the written text it stands, so that what was heard can be told exactly.
"""

import re

# Each pattern is removed from speech; a group, where there is one, is what stays.
_SILENT = re.compile(
    r"""
      !?\[(?P<label>[^\]]*)\]\([^)\s]*\)          # link or image: its label is said
    | https?://(?:www\.)?(?P<host>[\w.-]+[\w])\S*  # bare address: its host is said
    | ```\w*                                       # code fence
    | ^\s{0,3}\#{1,6}\s+                           # heading
    | ^\s*>\s?                                     # quote
    | ^\s*[-*+•]\s+                                # bullet
    | ^[\s|:*_-]{3,}$                              # rule, table border
    | </?[A-Za-z][^<>]*>                           # HTML tag
    | \*+(?=\S) | (?<=\S)\*+                       # emphasis; `3 * 4` stays
    | (?<!\w)_+(?=\S) | (?<=\S)_+(?!\w)            # emphasis; snake_case stays
    | ~~ | ` | \|
    | [\U0001F000-\U0001FAFF\u2600-\u27BF\u2B00-\u2BFF\u2190-\u21FF\u2300-\u23FF]  # emoji, dingbats, arrows
    | [\uFE0E\uFE0F\u200B-\u200D\u20E3\U000E0020-\U000E007F]                       # joiners and variants of emoji
    """,
    re.VERBOSE | re.MULTILINE,
)


def to_spoken(raw: str) -> tuple[str, list[int]]:
    """The spoken form of `raw`, and for each of its characters the offset in `raw`. ``("", [])``: nothing to say."""
    kept: list[int] = []
    place = 0
    for match in _SILENT.finditer(raw):
        kept.extend(range(place, match.start()))
        name = match.lastgroup
        if name:
            kept.extend(range(*match.span(name)))
        place = match.end()
    kept.extend(range(place, len(raw)))
    offsets = _collapse_spaces(raw, kept)
    spoken = "".join(" " if raw[offset].isspace() else raw[offset] for offset in offsets)
    return (spoken, offsets) if any(char.isalnum() for char in spoken) else ("", [])


def _collapse_spaces(raw: str, kept: list[int]) -> list[int]:
    offsets: list[int] = []
    for offset in kept:
        if raw[offset].isspace() and (not offsets or raw[offsets[-1]].isspace()):
            continue
        offsets.append(offset)
    while offsets and raw[offsets[-1]].isspace():
        offsets.pop()
    return offsets
