"""A caller over WebRTC: aiortc at both ends, with real ICE, DTLS and Opus; every stream is held to the grammar."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from avatar.core.audio import Pcm
from avatar.server.realtime.loudspeaker import Loudspeaker
from avatar.server.realtime.webrtc_media import VoiceTrack, mono
from tests import realtime_grammar
from tests.integration.realtime_events import Noted

SDP = {"Content-Type": "application/sdp"}


class Caller(Noted):
    """Has a microphone, hears what comes, and notes every event."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel = self.peer.createDataChannel("oai-events")
        self.events = []
        self.heard: list[Pcm] = []
        self.location = ""
        self._mouth = Loudspeaker()
        self._said = 0
        self._more = asyncio.Event()
        self._opened = asyncio.Event()
        self._hearing: asyncio.Task[None] | None = None
        self.peer.addTrack(VoiceTrack(self._mouth))
        self.channel.on("open", self._opened.set)
        self.channel.on("message", self._note)
        self.peer.on("track", self._hear)

    async def offer(self) -> str:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        sdp: str = self.peer.localDescription.sdp
        return sdp

    async def connect(self, answer: str) -> None:
        await self.peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        async with asyncio.timeout(10):
            await self._opened.wait()

    async def vanish(self) -> None:
        """Lose the network: nothing more goes out or comes in, a goodbye neither."""
        assert self.peer.sctp is not None
        await self.peer.sctp.transport.transport._connection.close()

    async def aclose(self) -> None:
        await self.peer.close()
        if self._hearing is not None:
            await self._hearing

    # --- what is said -----------------------------------------------------------------------------

    def send(self, type_: str, **fields: Any) -> None:
        self.channel.send(json.dumps({"type": type_, **fields}))

    async def speak(self, pcm: Pcm) -> None:
        """Say it (16 kHz), in real time."""
        self._said += 1
        said = asyncio.Event()
        self._mouth.on_change = lambda change, _: said.set() if change == "stopped" else None
        self._mouth.play(f"{self._said}", "", pcm, 16_000)
        self._mouth.end(f"{self._said}")
        await said.wait()

    async def update(self, **session: Any) -> dict[str, Any]:
        self.send("session.update", session={"type": "realtime", **session})
        told: dict[str, Any] = (await self.until("session.updated"))["session"]
        return told

    # --- what is heard ----------------------------------------------------------------------------

    async def until(self, type_: str, count: int = 1) -> dict[str, Any]:
        """Wait until there have been so many of that type in all."""
        async with asyncio.timeout(10):
            while len(self.of(type_)) < count:
                self._more.clear()
                await self._more.wait()
        return self.of(type_)[count - 1]

    @property
    def sound(self) -> Pcm:
        """All that came (48 kHz)."""
        return np.concatenate(self.heard) if self.heard else np.zeros(0, np.float32)

    @property
    def sounding_s(self) -> float:
        """For how long it was no silence."""
        frames = self.sound[: self.sound.size // 480 * 480].reshape(-1, 480)
        return float((np.abs(frames).max(axis=1) > 0.01).sum() / 100) if frames.size else 0.0

    def _note(self, text: str) -> None:
        self.events.append(json.loads(text))
        self._more.set()

    def _hear(self, track: MediaStreamTrack) -> None:
        async def hear() -> None:
            while True:
                try:
                    frame = await track.recv()
                except MediaStreamError:
                    return
                self.heard.append(mono(frame))

        self._hearing = asyncio.create_task(hear())


async def post(url: str, offer: str | None = None, **headers: str) -> tuple[int, str, str]:
    """Send an offer as it is; returns status, body and location."""
    async with aiohttp.ClientSession() as http, http.post(url, data=offer, headers=SDP | headers) as answer:
        return answer.status, await answer.text(), answer.headers.get("Location", "")


@asynccontextmanager
async def calling(url: str, path: str = "/v1/realtime/calls", **headers: str) -> AsyncIterator[Caller]:
    """Call the server at `url`, and check in the end all that came."""
    caller = Caller()
    try:
        status, answer, caller.location = await post(url + path, await caller.offer(), **headers)
        assert status == 201, answer
        await caller.connect(answer)
        await caller.until("session.created")
        yield caller
    finally:
        await caller.aclose()
    realtime_grammar.check(caller.events, ended=False)
