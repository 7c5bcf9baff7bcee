"""A call that comes to nothing: what its client sends is bounded also while nobody reads it yet."""

from typing import Any

import pytest
from aiortc import RTCPeerConnection
from pyee.asyncio import AsyncIOEventEmitter

from avatar.conversation.opening import House
from avatar.server.realtime import webrtc_call
from avatar.server.realtime.session import RealtimeSession
from avatar.server.realtime.webrtc_call import MAX_CAME, Call


class Channel(AsyncIOEventEmitter):
    """A data channel, as far as its events go."""

    bufferedAmountLowThreshold = 0  # noqa: N815


class Opened(Exception):
    """There is a session."""


class Door(House):
    """A house with nothing behind it."""

    def __init__(self) -> None:
        pass

    async def open(self, *_: Any) -> Any:
        raise Opened


async def test_who_sends_more_than_can_be_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for messages in (MAX_CAME, MAX_CAME + 1):
        peer = RTCPeerConnection()
        monkeypatch.setattr(webrtc_call, "RTCPeerConnection", lambda _, peer=peer: peer)
        call, channel = Call(Door(), RealtimeSession(type="realtime"), [], 1.0, lambda _: None), Channel()
        peer.emit("datachannel", channel)
        for _ in range(messages):
            channel.emit("message", "{}")
        try:
            await call.hold()
            assert messages > MAX_CAME
        except Opened:
            assert messages == MAX_CAME
        finally:
            await call.aclose()
