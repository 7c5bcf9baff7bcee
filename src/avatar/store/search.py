"""Search: a query as people type it, to SQL over the full-text indexes, and excerpts of what was found.

Each word must occur, in any order, anywhere in a turn (or in a title). A word of three characters or more is looked up
in the trigram index; a shorter one, as many Chinese words are, is not in it, and is compared text by text.
"""

import re
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Table, and_, column, or_, select, table, text

from avatar.store.tables import storable

_MAX_QUERY_CHARS = 200
_TRIGRAM_CHARS = 3
_EXCERPT_CHARS = 40  # on either side of what was found


def words_of(query: str) -> list[str]:
    """The words to look for; what is past the first 200 characters is ignored."""
    return storable(query)[:_MAX_QUERY_CHARS].split()


def containing(source: Table, columns: Iterable[str], words: list[str]) -> ColumnElement[bool]:
    """The condition that a row of `source`, whose index is `<source>_fts`, has every one of `words` in `columns`."""
    conditions: list[ColumnElement[bool]] = [
        or_(*(source.c[name].contains(word, autoescape=True) for name in columns))
        for word in words
        if len(word) < _TRIGRAM_CHARS
    ]
    indexed = [word.replace('"', '""') for word in words if len(word) >= _TRIGRAM_CHARS]
    if indexed:
        index = f"{source.name}_fts"
        phrases = " AND ".join(f'"{word}"' for word in indexed)
        match = text(f"{index} MATCH :phrases").bindparams(phrases=phrases)
        conditions.append(source.c.number.in_(select(column("rowid")).select_from(table(index)).where(match)))
    return and_(*conditions)


def excerpt(texts: Iterable[str], words: list[str]) -> str:
    """The surroundings of the first word found in the first of `texts` that has one, on one line."""
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    texts = list(texts)
    found = next(((text_, hit) for text_ in texts if (hit := pattern.search(text_))), None)
    whole, start, end = (texts[0], 0, 0) if found is None else (found[0], *found[1].span())
    start, end = max(0, start - _EXCERPT_CHARS), end + _EXCERPT_CHARS
    shown = " ".join(whole[start:end].split())
    return ("…" if start else "") + shown + ("…" if end < len(whole) else "")
