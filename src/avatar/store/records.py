"""What goes into the store and what comes out: ids and frozen records.

Knows nothing of tables, files or sessions. No `repr` shows what was said: it would end up in a log.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from avatar.core.audio import Pcm
from avatar.core.errors import BadMessage
from avatar.core.history import CalledTool

IdKind = Literal["conv", "turn"]
InputKind = Literal["speech", "text"]
TurnStatus = Literal["completed", "interrupted", "failed"]
Side = Literal["user", "reply"]

Recording = tuple[Pcm, int]
"""float32[n], mono, -1…1, and its sample rate in Hz."""

_ID_BYTES = 16  # 128 random bits: cannot be guessed, never collides
_ID = re.compile(r"(conv|turn)_[A-Za-z0-9_-]{22}", re.ASCII)


def new_id(kind: IdKind) -> str:
    """A fresh id, safe in URLs and file names: `conv_…` or `turn_…`, 27 characters."""
    return f"{kind}_{secrets.token_urlsafe(_ID_BYTES)}"


def is_id(text: str, kind: IdKind) -> bool:
    """Whether `text` has the form of an id that `new_id` makes."""
    match = _ID.fullmatch(text)
    return match is not None and match[1] == kind


@dataclass(frozen=True)
class Conversation:
    """A conversation without its turns. Times are UTC."""

    id: str
    created_at: datetime
    updated_at: datetime
    language: str | None
    title: str = field(repr=False)
    """The first thing the user said, until somebody renames it; empty before that."""
    instructions: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TurnRecord:
    """A turn to save. Raises `BadMessage` if an id is not one that `new_id` made.

    `timings` holds milliseconds by name, `engines` the engine's name by stage.
    """

    conversation_id: str
    id: str = field(default_factory=lambda: new_id("turn"))
    input_kind: InputKind
    status: TurnStatus
    user_text: str = field(default="", repr=False)
    user_language: str | None = None
    generated_text: str = field(default="", repr=False)
    heard_text: str = field(default="", repr=False)
    error_code: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    engines: Mapping[str, str] = field(default_factory=dict)
    calls: tuple[CalledTool, ...] = ()
    superseded: bool = False
    """Whether the user went on before anything of the reply was heard: the next turn says it all again."""
    user_audio: Recording | None = field(default=None, repr=False, compare=False)
    reply_audio: Recording | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (is_id(self.conversation_id, "conv") and is_id(self.id, "turn")):
            raise BadMessage("This is not the id of a conversation and a turn; begin a new conversation.")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A saved turn; `position` counts from 0 in its conversation, `created_at` is when it was saved (UTC)."""

    id: str
    conversation_id: str
    position: int
    created_at: datetime
    input_kind: InputKind
    status: TurnStatus
    user_text: str = field(repr=False)
    user_language: str | None
    generated_text: str = field(repr=False)
    heard_text: str = field(repr=False)
    error_code: str | None
    timings: dict[str, float]
    engines: dict[str, str]
    has_user_audio: bool
    has_reply_audio: bool
    calls: tuple[CalledTool, ...] = ()
    """Tools that were called for the reply."""
    superseded: bool = False
    """Whether the next turn says it all again, so that this one counts for nothing."""


@dataclass(frozen=True)
class Page:
    """Conversations, the last used first; `next_cursor` asks for those after them, None when there are none."""

    items: tuple[Conversation, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """What a search found: a turn or, where none fits but the conversation's title does, that (`turn_id` None)."""

    conversation_id: str
    turn_id: str | None
    at: datetime
    """When the turn was saved, or the conversation last used."""
    title: str = field(repr=False)
    excerpt: str = field(repr=False)
