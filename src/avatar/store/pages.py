"""Conversations page by page, the last used first. A cursor is the place where a page ended, not a row number, so what
is used or deleted between two pages shifts nothing.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, Text, select, tuple_

from avatar.core.errors import BadMessage
from avatar.store.records import Page, is_id
from avatar.store.tables import Row, UtcText, conversation_of, conversations


def page_query(limit: int, cursor: str | None) -> Select[Any]:
    """One row more than the page has, to see whether another follows. Raises `BadMessage` on a wrong cursor."""
    use = (conversations.c.updated_at, conversations.c.id)
    query = select(conversations).order_by(*(column.desc() for column in use)).limit(limit + 1)
    if cursor is None:
        return query
    return query.where(tuple_(*use) < tuple_(*_parse(cursor), types=[UtcText, Text]))


def page_of(rows: Sequence[Row], limit: int) -> Page:
    """The page that the rows of `page_query` make."""
    items = tuple(map(conversation_of, rows[:limit]))
    more = len(rows) > limit
    return Page(items, f"{items[-1].updated_at:%Y-%m-%dT%H:%M:%S.%fZ}{items[-1].id}" if more else None)


def _parse(cursor: str) -> tuple[datetime, str]:
    time, _, last_id = cursor.partition("Z")
    with suppress(ValueError):
        if is_id(last_id, "conv"):
            return datetime.fromisoformat(time).replace(tzinfo=UTC), last_id
    raise BadMessage("The cursor is not one this server gave; start from the first page.")
