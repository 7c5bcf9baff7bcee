"""One call over WebRTC: a data channel for the events, a track of Opus each way, and the session behind them.

The end of any of them is the end of all, and so is a peer that is heard of no more (ICE consent: 30 s, RFC 7675).
Needs the extra `webrtc`. Knows no HTTP.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from aiortc import RTCConfiguration, RTCDataChannel, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy

from avatar.conversation.opening import House
from avatar.conversation.outbox import OutboxOverflow
from avatar.core.errors import BadMessage
from avatar.server.realtime.connection import Connection, connected
from avatar.server.realtime.ice import IceServer
from avatar.server.realtime.loudspeaker import Loudspeaker
from avatar.server.realtime.session import Session
from avatar.server.realtime.waiting import Waiting
from avatar.server.realtime.webrtc_media import VoiceTrack, hear_at_once, listen

logger = logging.getLogger(__name__)

CONNECT_S = 20.0
"""From our answer to an open data channel: time for a slow network to try every pair of addresses."""
CLOSE_S = 5.0
MAX_BUFFERED_BYTES = 1 << 20
"""What may wait in the data channel before more is given to it."""
MAX_CAME = 256
"""A client that sends so many before there is a session to read them is hung up on; each has at most 256 KiB."""


class _Gone(Exception):
    """The other side is."""


class Call:
    """One client's. `answer` first, then `hold`; `aclose` in any case."""

    def __init__(
        self,
        house: House,
        settings: Session,
        servers: Sequence[IceServer],
        send_timeout_s: float,
        began: Callable[[Connection], None],
        *,
        is_beta: bool = False,
    ) -> None:
        """`began` is given the connection, once there is one."""
        self._began = began
        self._house = house
        self._settings = settings
        self._send_timeout_s = send_timeout_s
        self._is_beta = is_beta
        self._loudspeaker = Loudspeaker()
        ice = [RTCIceServer(one.url, one.username or None, one.credential or None) for one in servers]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=ice, bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self._channel: RTCDataChannel | None = None
        self._microphone: MediaStreamTrack | None = None
        self._opened, self._gone = asyncio.Event(), asyncio.Event()
        self._came: asyncio.Queue[str | bytes] = asyncio.Queue(MAX_CAME)
        self._waiting = Waiting()
        self._less = asyncio.Event()
        self._peer.on("connectionstatechange", self._state_changed)
        self._peer.on("datachannel", self._channel_opened)
        self._peer.on("track", self._track_came)

    async def answer(self, offer: str) -> str:
        """Our SDP for theirs, with our addresses in it. Raises `BadMessage`."""
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        except Exception as error:  # its parser raises whatever the text leads to
            logger.debug("an SDP offer that cannot be answered", exc_info=error)
            raise BadMessage("That SDP is no offer this server can answer: it takes a browser's, with Opus.") from None
        others = [transceiver for transceiver in self._peer.getTransceivers() if transceiver.kind != "audio"]
        if self._peer.sctp is None or len(others) == len(self._peer.getTransceivers()):
            raise BadMessage("The offer lacks audio, or a data channel (`oai-events`): add both before you make it.")
        for transceiver in self._peer.getTransceivers():
            if transceiver in others:
                transceiver.direction = "inactive"
            else:
                hear_at_once(transceiver.receiver)
        self._peer.addTrack(VoiceTrack(self._loudspeaker))
        await self._peer.setLocalDescription()
        sdp: str = self._peer.localDescription.sdp
        return sdp

    async def hold(self) -> None:
        """Talk, until either side hangs up, or does not come to talk at all."""
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._opened.wait()
        except TimeoutError:
            self._gone.set()
        if self._gone.is_set():
            logger.debug("a call never came to be: the client did not connect")
            return
        async with connected(
            self._house, self._settings, self._waiting.put, loudspeaker=self._loudspeaker, is_beta=self._is_beta
        ) as connection:
            self._began(connection)
            await self._serve(connection)

    async def aclose(self) -> None:
        """Hang up; leave nothing behind."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._peer.close()

    async def _serve(self, connection: Connection) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_gone())
                tasks.create_task(self._read(connection))
                tasks.create_task(self._listen(connection))
                tasks.create_task(connection.hear(_room))
                tasks.create_task(self._write())
        except* (_Gone, InvalidStateError, OutboxOverflow, TimeoutError) as ends:
            logger.debug("a call ended: %s", ends.exceptions)
        except* Exception as broken:
            logger.error("a call broke", exc_info=broken)

    # --- what aiortc tells ----------------------------------------------------------------------

    def _state_changed(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self._hung_up()

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        """The first is the one for events, whatever its name."""
        if self._channel is not None:
            return
        self._channel = channel
        channel.bufferedAmountLowThreshold = MAX_BUFFERED_BYTES // 2
        channel.on("message", self._message_came)
        channel.on("bufferedamountlow", self._less.set)
        channel.on("close", self._hung_up)
        self._opened.set()

    def _message_came(self, message: str | bytes) -> None:
        try:
            self._came.put_nowait(message)
        except asyncio.QueueFull:
            logger.debug("a client sends more than can be read")
            self._hung_up()

    def _track_came(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio" and self._microphone is None:
            self._microphone = track

    def _hung_up(self) -> None:
        self._gone.set()
        self._opened.set()

    # --- the tasks ------------------------------------------------------------------------------

    async def _until_gone(self) -> None:
        await self._gone.wait()
        raise _Gone

    async def _read(self, connection: Connection) -> None:
        while True:
            await self._waiting.room()
            connection.take(await self._came.get())

    async def _listen(self, connection: Connection) -> None:
        if self._microphone is not None:
            await listen(self._microphone, lambda: connection.talk.input_rate_hz, connection.talk.audio)

    async def _write(self) -> None:
        """Send what there is. Raises `TimeoutError` when the client has not read for too long."""
        assert self._channel is not None
        while True:
            event = await self._waiting.get()
            await self._until_less(self._channel)
            self._channel.send(event)

    async def _until_less(self, channel: RTCDataChannel) -> None:
        if channel.bufferedAmount > MAX_BUFFERED_BYTES:
            self._less.clear()
            async with asyncio.timeout(self._send_timeout_s):
                await self._less.wait()


async def _room() -> None:
    """The loudspeaker has room for a whole reply."""
