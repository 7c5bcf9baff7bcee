"""Voice to voice over WebRTC beside WebSocket: the same questions, in turn, to one server with real models.

    python benchmarks/realtime_transports.py        about two minutes; prints what results/ has

From the last audible sample of the question being sent to the first audible one of the answer having come, the wait for
the end of the turn included. Neither client has a buffer before its loudspeaker; a browser adds one of its own.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.webrtc_client import Caller, post  # noqa: E402
from tests.load.latency import AUDIBLE, Player, summary  # noqa: E402
from tests.load.questions import Question, spoken_questions  # noqa: E402
from tests.load.server import running_server  # noqa: E402

from avatar.core.audio import Pcm, float_to_pcm16, pcm16_to_float, resample  # noqa: E402
from avatar.server.realtime.webrtc_media import hear_at_once, mono  # noqa: E402

ROUNDS = 2
RATE_HZ = 24_000
FRAME = RATE_HZ // 50
ANSWER_S = 15.0
SESSION = {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}


class Client(Protocol):
    """Asks by voice."""

    async def ask(self, pcm: Pcm) -> float:
        """Voice to voice in milliseconds; `pcm` (16 kHz) ends with its last audible sample."""
        ...


class WebSocketClient:
    """A microphone and a loudspeaker at a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._speech = np.zeros(0, np.float32)
        self._said_s = 0.0
        self._player = Player(RATE_HZ)
        self._done = asyncio.Event()

    async def ask(self, pcm: Pcm) -> float:
        self._player, self._said_s = Player(RATE_HZ), 0.0
        self._done.clear()
        short = np.zeros(-pcm.size * 3 // 2 % FRAME, np.float32)
        self._speech = np.concatenate((short, resample(pcm, 16_000, RATE_HZ)))
        async with asyncio.timeout(ANSWER_S):
            await self._done.wait()
        assert self._player.first_audible_s is not None, "there was no answer"
        return (self._player.first_audible_s - self._said_s) * 1000

    async def speak(self) -> None:
        """For as long as the call lasts."""
        now_s = asyncio.get_running_loop().time
        due_s = now_s()
        while True:
            frame, self._speech = self._speech[:FRAME], self._speech[FRAME:]
            ends = frame.size > 0 and not self._speech.size
            sound = np.concatenate((frame, np.zeros(FRAME - frame.size, np.float32)))
            audio = base64.b64encode(float_to_pcm16(sound)).decode()
            await self._socket.send_json({"type": "input_audio_buffer.append", "audio": audio})
            if ends:
                self._said_s = now_s()
            due_s += FRAME / RATE_HZ
            await asyncio.sleep(max(0.0, due_s - now_s()))

    async def hear(self) -> None:
        """For as long as the call lasts."""
        async for message in self._socket:
            event = json.loads(message.data)
            if event["type"] == "response.output_audio.delta":
                pcm = pcm16_to_float(base64.b64decode(event["delta"]))
                self._player.push(pcm, asyncio.get_running_loop().time())
            elif event["type"] == "response.done" and self._said_s:
                self._done.set()


class WebRtcClient(Caller):
    """The same at a call."""

    def __init__(self) -> None:
        super().__init__()
        self._heard_s = 0.0
        self._answered = asyncio.Event()

    async def ask(self, pcm: Pcm) -> float:
        now_s = asyncio.get_running_loop().time
        done = len(self.of("response.done"))
        self._answered.clear()
        await self.speak(pcm)
        said_s = now_s()
        async with asyncio.timeout(ANSWER_S):
            await self._answered.wait()
            await self.until("response.done", done + 1)
        self.send("output_audio_buffer.clear")
        return (self._heard_s - said_s) * 1000

    def _hear(self, track: MediaStreamTrack) -> None:
        for receiver in self.peer.getReceivers():
            hear_at_once(receiver)

        async def hear() -> None:
            while True:
                try:
                    pcm = mono(await track.recv())
                except MediaStreamError:
                    return
                loud = np.flatnonzero(np.abs(pcm) > AUDIBLE)
                if loud.size and not self._answered.is_set():
                    self._heard_s = asyncio.get_running_loop().time() + int(loud[0]) / 48_000
                    self._answered.set()

        self._hearing = asyncio.create_task(hear())


@asynccontextmanager
async def by_websocket(url: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url.replace('http', 'ws')}/v1/realtime") as socket:
        await socket.send_json({"type": "session.update", "session": SESSION})
        client = WebSocketClient(socket)
        tasks = [asyncio.create_task(client.speak()), asyncio.create_task(client.hear())]
        try:
            yield client
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@asynccontextmanager
async def by_webrtc(url: str) -> AsyncIterator[Client]:
    caller = WebRtcClient()
    try:
        _, answer, _ = await post(f"{url}/v1/realtime/calls", await caller.offer())
        await caller.connect(answer)
        caller.send("session.update", session=SESSION)
        yield caller
    finally:
        await caller.aclose()


async def measure(url: str, questions: list[Question]) -> dict[str, list[float]]:
    """Milliseconds of each question, by transport."""
    found: dict[str, list[float]] = {"WebSocket": [], "WebRTC": []}
    for _ in range(ROUNDS):
        for name, calling in (("WebSocket", by_websocket), ("WebRTC", by_webrtc)):
            async with calling(url) as client:
                await asyncio.sleep(1)
                for question in questions:
                    found[name].append(await client.ask(question.pcm))
                    await asyncio.sleep(0.5)
    return found


async def main() -> None:
    questions = await spoken_questions()
    async with running_server(2) as (url, _):
        http = url.replace("ws://", "http://").removesuffix("/ws/chat")
        found: dict[str, Any] = await measure(http, questions)
    for name, ms in found.items():
        print(f"{name:<10} {summary(ms)}   of {len(ms)}: {' '.join(f'{one:.0f}' for one in ms)}")


if __name__ == "__main__":
    asyncio.run(main())
