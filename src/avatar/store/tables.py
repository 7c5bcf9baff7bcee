"""The tables as SQLAlchemy sees them. The migrations make them; a test compares the two.

Full-text indexes (`turns_fts`, `conversations_fts`) and their triggers exist only in the migrations. Also the one place
where rows become records.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from avatar.core.history import CalledTool
from avatar.store.audio import SIDES
from avatar.store.records import Conversation, Turn

Row = Mapping[str, Any]


class UtcText(TypeDecorator[datetime]):
    """An aware datetime as ISO 8601 text of fixed width in UTC, so that text order is time order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return datetime.fromisoformat(value) if value else None


class Calls(TypeDecorator[tuple[CalledTool, ...]]):
    """Called tools as a JSON list of objects."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[CalledTool, ...] | None, dialect: Dialect) -> list[dict[str, str]]:
        return [vars(call) for call in value or ()]

    def process_result_value(self, value: list[dict[str, str]] | None, dialect: Dialect) -> tuple[CalledTool, ...]:
        return tuple(CalledTool(**call) for call in value or ())


metadata = MetaData()

# `number` is the rowid: full-text indexes point at it, and only a declared one survives VACUUM.
conversations = Table(
    "conversations",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("created_at", UtcText, nullable=False),
    Column("updated_at", UtcText, nullable=False),
    Column("language", Text),
    Column("instructions", Text),
    Index("conversations_by_use", "updated_at", "id"),
)

turns = Table(
    "turns",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("conversation_id", Text, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("created_at", UtcText, nullable=False),
    Column("input_kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("user_text", Text, nullable=False),
    Column("user_language", Text),
    Column("generated_text", Text, nullable=False),
    Column("heard_text", Text, nullable=False),
    Column("error_code", Text),
    Column("timings", JSON, nullable=False),
    Column("engines", JSON, nullable=False),
    Column("user_audio", Text),  # path below the audio folder
    Column("reply_audio", Text),
    Column("calls", Calls, nullable=False, server_default="[]"),
    Column("superseded", Boolean, nullable=False, server_default="0"),
    UniqueConstraint("conversation_id", "position"),
)

voice_profiles = Table(
    "voice_profiles",
    metadata,
    Column("id", Text, primary_key=True, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", UtcText, nullable=False),
    Column("updated_at", UtcText, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("language", Text),
    Column("reference_text", Text),
    Column("consent_statement", Text, nullable=False),
    Column("consent_date", Date, nullable=False),
    Column("owner", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("problem_code", Text),
    Column("problem", Text),
    Column("quality", JSON(none_as_null=True)),
    Column("is_default", Boolean, nullable=False),
)
Index("voice_profiles_default", voice_profiles.c.is_default, unique=True, sqlite_where=voice_profiles.c.is_default)


def conversation_of(row: Row) -> Conversation:
    return Conversation(**{field.name: row[field.name] for field in fields(Conversation)})


def turn_of(row: Row) -> Turn:
    values: dict[str, Any] = {f"has_{side}_audio": row[f"{side}_audio"] is not None for side in SIDES}
    return Turn(**{field.name: row[field.name] for field in fields(Turn) if field.name not in values}, **values)


def storable(text: str) -> str:
    """`text` without what SQLite cannot hold: lone surrogates, and NUL, where its text functions stop."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")
