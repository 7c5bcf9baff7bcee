"""Past conversations over HTTP: list, read, search, rename, delete, export, listen.

Thin: the store does the work, `problems.py` the errors, and whoever includes the router the access control.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, StringConstraints

from avatar.server import problems
from avatar.store import Conversation, InputKind, Side, Store, Turn, TurnStatus

_PRIVATE = {"Cache-Control": "private, no-store"}  # what is deleted must not live on in a browser

Id = Annotated[str, Path(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=100)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class _FromStore(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ConversationOut(_FromStore):
    """A conversation in a list."""

    id: str
    title: str
    created_at: datetime
    updated_at: datetime
    language: str | None
    instructions: str | None


class CallOut(_FromStore):
    """A tool that was called for a reply, and what the model was told of it."""

    id: str
    name: str
    arguments: str
    result: str


class TurnOut(_FromStore):
    """A turn. Its recordings, where it has them, are at `…/turns/{id}/audio/{user,reply}`.

    One that is `superseded` was not over: the next turn says it all again.
    """

    id: str
    position: int
    created_at: datetime
    input_kind: InputKind
    status: TurnStatus
    user_text: str
    user_language: str | None
    generated_text: str
    heard_text: str
    error_code: str | None
    timings: dict[str, float]
    engines: dict[str, str]
    has_user_audio: bool
    has_reply_audio: bool
    calls: list[CallOut]
    superseded: bool


class ConversationWithTurns(ConversationOut):
    """A conversation as it went."""

    turns: list[TurnOut]


class ConversationPage(_FromStore):
    """Conversations, the last used first; `next_cursor`, if any, asks for those after them."""

    items: list[ConversationOut]
    next_cursor: str | None


class HitOut(_FromStore):
    """A turn that was found, or (`turn_id` null) a conversation by its title."""

    conversation_id: str
    turn_id: str | None
    at: datetime
    title: str
    excerpt: str


class SearchResult(_FromStore):
    """What was found, the newest first."""

    items: list[HitOut]


class Rename(BaseModel):
    """A new title."""

    model_config = ConfigDict(extra="forbid")

    title: Title


def router(store: Callable[[], Store]) -> APIRouter:
    """The routes below `/api/conversations`; `store` is asked at each request, so it may be opened later."""
    routes = APIRouter(prefix="/api/conversations", tags=["conversations"], responses=problems.RESPONSES)

    @routes.get("", response_model=ConversationPage)
    async def list_conversations(limit: Limit = 50, cursor: str | None = None) -> object:
        return await store().conversations(limit, cursor)

    @routes.get("/search", response_model=SearchResult)
    async def search(q: Annotated[str, Query(min_length=1, max_length=200)], limit: Limit = 20) -> object:
        return {"items": await store().search(q, limit)}

    @routes.get("/{conversation_id}")
    async def read(conversation_id: Id) -> ConversationWithTurns:
        return await _read(store(), conversation_id)

    @routes.patch("/{conversation_id}", response_model=ConversationOut)
    async def rename(conversation_id: Id, change: Rename) -> object:
        return await store().rename(conversation_id, change.title)

    @routes.delete("/{conversation_id}", status_code=204)
    async def delete(conversation_id: Id) -> None:
        await store().delete(conversation_id)

    @routes.get("/{conversation_id}/export", response_class=Response)
    async def export(conversation_id: Id, format: Literal["json", "markdown"] = "json") -> Response:
        conversation = await _read(store(), conversation_id)
        if format == "json":
            return _download(conversation, conversation.model_dump_json(indent=2), "application/json", "json")
        return _download(conversation, _markdown(conversation), "text/markdown; charset=utf-8", "md")

    @routes.get("/{conversation_id}/turns/{turn_id}/audio/{side}", response_class=FileResponse)
    async def audio(conversation_id: Id, turn_id: Id, side: Side) -> FileResponse:
        path = await store().audio_path(conversation_id, turn_id, side)
        return FileResponse(path, media_type="audio/ogg", headers=_PRIVATE)

    return routes


async def _read(store: Store, conversation_id: str) -> ConversationWithTurns:
    conversation: Conversation = await store.conversation(conversation_id)
    turns: list[Turn] = await store.turns(conversation_id)
    return ConversationWithTurns(**vars(conversation), turns=[TurnOut.model_validate(turn) for turn in turns])


def _markdown(conversation: ConversationWithTurns) -> str:
    """The conversation as it was heard, to read or print."""
    parts = [
        f"# {' '.join(conversation.title.split()) or 'Conversation'}",
        f"{conversation.created_at:%Y-%m-%d %H:%M} UTC",
    ]
    for turn in conversation.turns:
        if turn.superseded:
            continue
        note = "" if turn.status == "completed" else f" *({turn.status})*"
        called = [f"**{call.name}** `{call.arguments}`: {call.result}" for call in turn.calls]
        parts += [f"**You:** {turn.user_text}", *called, f"**AVATAR:** {turn.heard_text}{note}"]
    return "\n\n".join(parts) + "\n"


def _download(conversation: ConversationOut, text: str, media_type: str, extension: str) -> Response:
    """`text` as a file named for the title: in full (RFC 8187), and by its id for clients that read only ASCII."""
    full = quote(f"{conversation.title or conversation.id}.{extension}".replace("/", "-"), safe="")
    disposition = f"attachment; filename=\"{conversation.id}.{extension}\"; filename*=UTF-8''{full}"
    return Response(text, media_type=media_type, headers=_PRIVATE | {"Content-Disposition": disposition})
