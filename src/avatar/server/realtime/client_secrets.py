"""`POST /v1/realtime/client_secrets`: a short-lived key for a browser, and the session that begins with it.

Also by its earlier names, `/v1/realtime/sessions` and `/v1/realtime/transcription_sessions`. Knows how sessions are
described, not how they are held.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from avatar.conversation.opening import House
from avatar.server.ephemeral import EphemeralKeys
from avatar.server.openai.errors import WrongField
from avatar.server.realtime import beta, tool_servers
from avatar.server.realtime import session as sessions
from avatar.server.realtime.connection import mint
from avatar.server.realtime.errors import BadEvent, check_depth
from avatar.server.realtime.planning import check
from avatar.server.realtime.session import RealtimeSession, Session

DEFAULT_S = 600
LEAST_S, MOST_S = 10, 7200
"""OpenAI's own bounds."""
MAX_SESSION_CHARS = 1 << 18
"""Of a session that is kept with a key, as JSON: a thousand of them are to fit into memory."""
BETA_S = 60
"""How long the keys of `/v1/realtime/sessions` were good for."""


class ExpiresAfter(BaseModel):
    """How long the key is good for."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=LEAST_S, le=MOST_S)] = DEFAULT_S


class SecretRequest(BaseModel):
    """What is asked for; `session` is read as `session.update` reads it."""

    model_config = ConfigDict(extra="forbid")

    expires_after: ExpiresAfter = ExpiresAfter()
    session: dict[str, Any] = Field(default_factory=dict)


def router(house: Callable[[], House], keys: EphemeralKeys[Session]) -> APIRouter:
    """The routes, to be mounted below `/v1`. `house` raises while engines load."""
    routes = APIRouter(prefix="/realtime")

    @routes.post("/client_secrets")
    async def client_secrets(asked: SecretRequest | None = None) -> dict[str, Any]:
        """A key that opens `/v1/realtime` and `/v1/realtime/calls`, as often as is wanted, until it expires."""
        asked = asked or SecretRequest()
        session = beginning(house(), asked.session)
        key, expires_at_s = _make(session, asked.expires_after.seconds)
        return {"value": key, "expires_at": expires_at_s, "session": _told(session)}

    @routes.post("/sessions")
    async def beta_sessions(asked: dict[str, Any] | None = None) -> dict[str, Any]:
        """The same, as the beta had it: a flat session in, and out with the key in it."""
        return _beta(beta.from_client({"session": asked or {}})["session"])

    @routes.post("/transcription_sessions")
    async def beta_transcription_sessions(asked: dict[str, Any] | None = None) -> dict[str, Any]:
        """The same for a session that only writes down."""
        return _beta(beta.transcription(asked or {}))

    def _beta(asked: dict[str, Any]) -> dict[str, Any]:
        session = beginning(house(), asked)
        key, expires_at_s = _make(session, BETA_S)
        told = beta.from_server({"type": "session.created", "session": _told(session)})
        assert told is not None
        return {**told["session"], "client_secret": {"value": key, "expires_at": expires_at_s}}

    def _make(session: Session, lifetime_s: int) -> tuple[str, int]:
        if len(session.model_dump_json()) > MAX_SESSION_CHARS:
            raise WrongField("session", f"A key's session may have {MAX_SESSION_CHARS:,} characters as JSON.")
        return keys.make(session, lifetime_s)

    return routes


def beginning(house: House, asked: dict[str, Any], *, base: Session | None = None, model: str | None = None) -> Session:
    """The session that a connection begins with: `base`, or the server's own, changed by what was `asked` for.

    Raises `WrongField` for what cannot be, `Overloaded` without engines.
    """
    name = asked.get("model") or model
    session = base or RealtimeSession(
        type="realtime", model=str(name or "avatar")[:256], instructions=house.instructions
    )
    try:
        check_depth(asked)
        if asked:
            session = sessions.update(session, {"type": session.type} | asked, spoken=False)
        check(session, house, house.engines)
        if isinstance(session, RealtimeSession):
            tool_servers.check(session.tools, house, "session.tools")
    except BadEvent as error:
        raise WrongField(error.param or "session", str(error), error.openai_code or "invalid_value") from None
    return session


def _told(session: Session) -> dict[str, Any]:
    return sessions.wire(session, mint("sess"), 0)
