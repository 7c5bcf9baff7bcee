"""A client's session, whatever carries it: texts of events go in and out, and the live session is listened to.

Knows neither sockets nor data channels. A transport makes a `Connection` with `connected`, gives it each text it gets
(`take`), runs `hear` beside that, and sends the texts it is given.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from avatar.conversation.opening import House, Request
from avatar.conversation.outbox import Outbox
from avatar.conversation.session import LiveSession
from avatar.core.audio import INPUT_RATE_HZ
from avatar.core.events import ReplyAudioFrame
from avatar.server.realtime import beta
from avatar.server.realtime.client_events import ClientEvent, parse, read
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.loudspeaker import Loudspeaker
from avatar.server.realtime.server_events import Event
from avatar.server.realtime.session import Session
from avatar.server.realtime.talk import Talk


def mint(kind: str) -> str:
    """An id that nobody can guess."""
    return f"{kind}_{secrets.token_hex(10)}"


@asynccontextmanager
async def connected(
    house: House,
    settings: Session,
    send: Callable[[str], None],
    *,
    loudspeaker: Loudspeaker | None = None,
    is_beta: bool = False,
) -> AsyncIterator["Connection"]:
    """Open a session for a client; on exit it is closed and has left nothing behind. `send` takes each text at once.

    `loudspeaker` gets the sound, which else travels in events. Raises `Overloaded` without engines.
    """
    outbox, listeners = Outbox(), [send]
    opened = await house.open(Request(mode="live", input_rate_hz=INPUT_RATE_HZ), outbox)

    def tell(event: Event) -> None:
        if (text := _text(event, is_beta=is_beta)) is not None:
            for listener in listeners:
                listener(text)

    talk = Talk(opened.session, house, settings, mint, tell, loudspeaker)
    connection = Connection(talk, opened.session, outbox, listeners, is_beta=is_beta)
    try:
        talk.begin()
        yield connection
    finally:
        connection.over.set()
        await talk.aclose()
        await opened.session.aclose()


def _text(event: Event, *, is_beta: bool) -> str | None:
    told = beta.from_server(event) if is_beta else event
    return json.dumps(told, ensure_ascii=False) if told is not None else None


class Connection:
    """One client's, which others may join; `over` is set at its end."""

    def __init__(
        self,
        talk: Talk,
        session: LiveSession,
        outbox: Outbox,
        listeners: list[Callable[[str], None]],
        *,
        is_beta: bool,
    ) -> None:
        self.talk = talk
        self.over = asyncio.Event()
        self._session = session
        self._outbox = outbox
        self._listeners = listeners
        self._is_beta = is_beta

    @contextmanager
    def joined(self, send: Callable[[str], None]) -> Iterator[None]:
        """Within, `send` is given the texts of all events as well, the session as it is now before them."""
        told = _text(self.talk.session_event("created"), is_beta=self._is_beta)
        assert told is not None
        send(told)
        self._listeners.append(send)
        try:
            yield
        finally:
            self._listeners.remove(send)

    def take(self, frame: str | bytes) -> None:
        """An event's text. What it comes to, and what was wrong with it, is sent before this returns."""
        try:
            event = self._event(frame)
        except BadEvent as error:
            self.talk.refuse(error)
        else:
            self.talk.take(event)

    def _event(self, frame: str | bytes) -> ClientEvent:
        if not self._is_beta:
            return parse(frame)
        try:
            loaded = json.loads(frame)
        except (ValueError, RecursionError):
            return parse(frame)
        return read(beta.from_client(loaded))

    async def hear(self, room: Callable[[], Awaitable[None]]) -> None:
        """Listen to the session for as long as it lasts; `room` waits until there is room for more sound.

        Raises `OutboxOverflow`: the client takes nothing.
        """
        while True:
            event = await self._outbox.get()
            self.talk.hear(event)
            if isinstance(event, ReplyAudioFrame):
                await room()
                self._session.audio_sent(event.turn_id)
