"""The rows of voice profiles. The recordings' files are `avatar.voices`' own; this knows none of them."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from sqlalchemy import Select, delete, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from avatar.core.voices import VoiceProfile
from avatar.store.tables import Row, storable, voice_profiles

T = TypeVar("T")

Whole = Callable[[Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]


class Rows(Protocol):
    """Reads rows."""

    async def __call__(self, query: Select[Any], /) -> list[Row]: ...


class VoiceRows:
    """Saves and reads voice profiles, by the rules of the store that made it."""

    def __init__(
        self, whole: Whole, writing: Callable[[], AbstractAsyncContextManager[AsyncConnection]], rows: Rows
    ) -> None:
        self._whole = whole
        self._writing = writing
        self._rows = rows

    async def all(self) -> list[VoiceProfile]:
        """Every profile, the oldest first."""
        query = select(voice_profiles).order_by(voice_profiles.c.created_at, voice_profiles.c.id)
        return [VoiceProfile(**row) for row in await self._rows(query)]

    async def save(self, profile: VoiceProfile) -> None:
        """Insert or replace one; durable when this returns. If it is the default, no other is any more."""
        values = {column.name: getattr(profile, column.name) for column in fields(VoiceProfile)}
        values = {name: storable(value) if isinstance(value, str) else value for name, value in values.items()}
        await self._whole(self._save(values))

    async def delete(self, voice_id: str) -> None:
        """Remove one, if it is there."""
        await self._whole(self._delete(voice_id))

    async def _save(self, values: dict[str, Any]) -> None:
        async with self._writing() as db:
            if values["is_default"]:
                await db.execute(update(voice_profiles).values(is_default=False).where(voice_profiles.c.is_default))
            changed = {name: value for name, value in values.items() if name != "id"}
            await db.execute(insert(voice_profiles).values(values).on_conflict_do_update(["id"], set_=changed))

    async def _delete(self, voice_id: str) -> None:
        async with self._writing() as db:
            await db.execute(delete(voice_profiles).where(voice_profiles.c.id == voice_id))
