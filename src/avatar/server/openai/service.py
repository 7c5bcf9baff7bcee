"""What the routes below `/v1` share. Knows no route."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from avatar.conversation.admission import SessionManager
from avatar.conversation.opening import House
from avatar.conversation.terms import Engines
from avatar.server.provenance import Provenance


@dataclass(frozen=True)
class Service:
    """`house` raises while engines load; `requests` bounds how many are at work at once."""

    house: Callable[[], House]
    requests: SessionManager
    send_timeout_s: float
    max_body_bytes: int
    max_upload_s: float
    provenance: Provenance

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Engines]:
        """A place for one request, and the engines that serve now, kept until its end whatever is loaded meanwhile.

        Raises `ServerFull`, `Overloaded`.
        """
        async with self.requests.slot():
            hold = self.house().lineup.hold()
            try:
                yield hold.engines
            finally:
                hold.release()
