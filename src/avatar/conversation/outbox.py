"""What a session has to say to its client: two lanes, so that control never waits behind audio.

The media lane holds `ReplyAudioStarted` and `ReplyAudioFrame` in order and is bounded: who puts waits. The control
lane holds all else; it is small by nature, and a client that lets it grow past its bound is cut off. Knows no socket.
"""

import asyncio
from collections import deque

from avatar.core.events import ReplyAudioFrame, ReplyAudioStarted, SessionEvent

MAX_MEDIA = 64
"""Audio frames waiting for a slow socket: 64 x 40 ms. Playout stands still when they are full."""
MAX_CONTROL = 2048
"""Control events waiting for a client that does not read: several long answers' text deltas."""


class OutboxOverflow(Exception):
    """The client reads nothing; the session must end."""


class Outbox:
    """One reader (the codec), many writers (the session's tasks), all on one loop."""

    def __init__(self) -> None:
        self._control: deque[SessionEvent] = deque()
        self._media: deque[ReplyAudioStarted | ReplyAudioFrame] = deque()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._overflown = False

    def put(self, event: SessionEvent) -> None:
        """Queue a control event; it overtakes audio."""
        self._overflown = self._overflown or len(self._control) >= MAX_CONTROL
        self._control.append(event)
        self._ready.set()

    async def put_media(self, event: ReplyAudioStarted | ReplyAudioFrame) -> None:
        """Queue audio, waiting for room. Cancelling leaves the lane as it was."""
        while len(self._media) >= MAX_MEDIA:
            self._room.clear()
            await self._room.wait()
        self._media.append(event)
        self._ready.set()

    async def media_sent(self) -> None:
        """Wait until the codec has taken all audio that was queued."""
        while self._media:
            self._room.clear()
            await self._room.wait()

    def drop_media(self, turn_id: str) -> int:
        """Forget the audio of `turn_id` that was not sent yet; return how many samples that was."""
        kept = [event for event in self._media if event.turn_id != turn_id]
        dropped = sum(
            event.pcm.size for event in self._media if event.turn_id == turn_id and isinstance(event, ReplyAudioFrame)
        )
        self._media = deque(kept)
        self._room.set()
        return dropped

    async def get(self) -> SessionEvent:
        """The next event: control first. Raises `OutboxOverflow` when the client stopped reading long ago."""
        while True:
            if self._overflown:
                raise OutboxOverflow
            if self._control:
                return self._control.popleft()
            if self._media:
                event = self._media.popleft()
                self._room.set()
                return event
            self._ready.clear()
            await self._ready.wait()
