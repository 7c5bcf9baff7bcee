"""Events that wait to be sent to a client, and how many may. Knows no transport."""

import asyncio
from collections import deque

from avatar.conversation.outbox import OutboxOverflow

MAX_EVENTS = 4096
"""A client that lets so many wait reads nothing."""
ENOUGH_CHARS = 8 << 20
"""While so much waits, no more is taken from the client: a hundred bytes may ask for a sound of 5.6 MB."""
MAX_CHARS = 32 << 20
"""As much as may ever wait, where others ask for what this client is told, too."""


class Waiting:
    """One client's, first in first out. More than `MAX_EVENTS` or `MAX_CHARS` are dropped, and with them the client."""

    def __init__(self) -> None:
        self._events: deque[str] = deque()
        self._chars = 0
        self._overflowed = False
        self._more, self._less = asyncio.Event(), asyncio.Event()

    def put(self, event: str) -> None:
        """One more; it does not wait."""
        self._events.append(event)
        self._chars += len(event)
        if len(self._events) > MAX_EVENTS or self._chars > MAX_CHARS:
            self._overflowed = True
            self._events.clear()
            self._chars = 0
        self._more.set()

    async def get(self) -> str:
        """The oldest. Raises `OutboxOverflow`; cancelled, it takes none."""
        while not self._events and not self._overflowed:
            self._more.clear()
            await self._more.wait()
        if self._overflowed:
            raise OutboxOverflow
        event = self._events.popleft()
        self._chars -= len(event)
        self._less.set()
        return event

    async def room(self, most_events: int = MAX_EVENTS) -> None:
        """Wait until fewer than `most_events` wait, and less than `ENOUGH_CHARS`."""
        while len(self._events) >= most_events or self._chars >= ENOUGH_CHARS:
            self._less.clear()
            await self._less.wait()
