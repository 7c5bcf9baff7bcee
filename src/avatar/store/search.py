"""Search: a query as people type it, to SQL over the full-text indexes, and excerpts of what was found.

Each word must occur, in any order, anywhere in a turn (or in a title). A word of three characters or more is looked up
in the trigram index; a shorter one, as many Chinese words are, is not in it, and is compared text by text.
"""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, column, or_, select, table, text

from avatar.store.records import Hit
from avatar.store.tables import Row, conversations, storable, turns

_MAX_QUERY_CHARS = 200
_TRIGRAM_CHARS = 3
_EXCERPT_CHARS = 40  # on either side of what was found
_SPOKEN = ("user_text", "heard_text", "generated_text")


def words_of(query: str) -> list[str]:
    """The words to look for; what is past the first 200 characters is ignored."""
    return storable(query)[:_MAX_QUERY_CHARS].split()


def turns_with(words: list[str]) -> Select[Any]:
    """Turns in which every word was said, typed, heard or generated; the newest first."""
    found = select(turns, conversations.c.title).join(conversations, conversations.c.id == turns.c.conversation_id)
    return found.where(~turns.c.superseded, containing(turns, _SPOKEN, words)).order_by(turns.c.created_at.desc())


def titles_with(words: list[str]) -> Select[Any]:
    """Conversations with every word in the title; the last used first."""
    found = select(conversations).where(containing(conversations, ("title",), words))
    return found.order_by(conversations.c.updated_at.desc())


def turn_hit(row: Row, words: list[str]) -> Hit:
    return Hit(
        conversation_id=row["conversation_id"],
        turn_id=row["id"],
        at=row["created_at"],
        title=row["title"],
        excerpt=excerpt([row[name] for name in _SPOKEN], words),
    )


def title_hit(row: Row, words: list[str]) -> Hit:
    title = row["title"]
    return Hit(
        conversation_id=row["id"], turn_id=None, at=row["updated_at"], title=title, excerpt=excerpt([title], words)
    )


def containing(source: Table, columns: Sequence[str], words: list[str]) -> ColumnElement[bool]:
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


def excerpt(texts: Sequence[str], words: list[str]) -> str:
    """The surroundings of the first word found in the first of `texts` that has one, on one line."""
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    matches = ((whole, match.start(), match.end()) for whole in texts if (match := pattern.search(whole)))
    whole, start, end = next(matches, (texts[0], 0, 0))  # the index may fold more letters into one than `re` does
    start, end = max(0, start - _EXCERPT_CHARS), end + _EXCERPT_CHARS
    shown = " ".join(whole[start:end].split())
    return ("…" if start else "") + shown + ("…" if end < len(whole) else "")
