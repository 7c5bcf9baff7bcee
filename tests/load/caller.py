"""The reference client of `/ws/chat`: one caller with a microphone, a loudspeaker and a stop-watch.

Live: 20 ms frames of PCM16 in real time, speech or room noise, without a pause. Push-to-talk: WebM chunks while the
button is down. Both report playback as a browser does. Voice-to-voice latency is taken at the wire: from sending the
last sample of speech to playing the first audible sample of the reply.

    async with Caller("ws://127.0.0.1:8000/ws/chat") as caller:
        answer = await caller.ask(question)
        print(answer.voice_to_voice_ms, answer.metrics)
"""

import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp

from avatar.core.audio import INPUT_RATE_HZ, pcm16_to_float
from tests.load.latency import Player
from tests.load.questions import FRAME_S, Question, cut_frames, room_noise

Mode = Literal["live", "push_to_talk"]

CHUNK_S = 0.25
"""What browsers' recorders are usually asked for (`MediaRecorder.start(250)`)."""
PLAYBACK_REPORT_FRAMES = 10
"""A playback report each 200 ms."""
READY_TIMEOUT_S = 10.0
ERROR_GRACE_S = 3.0
"""An error of a turn is followed by its `reply.done`; it gets this long to come."""

TIMEOUT = "TIMEOUT"
NO_AUDIO = "NO_AUDIO"
CUT_IN = "CUT_IN"
CONNECTION_LOST = "CONNECTION_LOST"
"""What goes wrong without an `error` from the server: no answer in time, an answer that cannot be heard, one that
began while the question was still being asked, a socket that closed by itself."""


class CallFailed(Exception):
    """The session did not begin; the text is an error code."""


@dataclass
class Answer:
    """What came of one question. Times are seconds of the running loop's clock."""

    asked_s: float | None = None
    """When the last sample of speech was sent."""
    heard_s: float | None = None
    """When the first audible sample of the reply was played."""
    transcript: str = ""
    text: str = ""
    status: str = ""
    metrics: dict[str, float | None] = field(default_factory=dict)
    gaps_s: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def voice_to_voice_ms(self) -> float | None:
        """Last sample of speech to first audible sample of the reply; None if something went wrong."""
        if self.errors or self.asked_s is None or self.heard_s is None:
            return None
        return (self.heard_s - self.asked_s) * 1000


class Caller:
    """One session. A caller waits `answer_timeout_s` for an answer, or for more of one, and interrupts it after
    `hear_s` seconds of it; None hears it out.

    `errors` counts every error code of the call, `lateness_s` how late each 20 ms tick came (a caller that cannot keep
    time measures itself, not the server).
    """

    def __init__(
        self,
        url: str,
        *,
        mode: Mode = "live",
        answer_timeout_s: float = 30.0,
        hear_s: float | None = None,
        seed: int = 0,
    ) -> None:
        self._url = url
        self._mode = mode
        self._answer_timeout_s = answer_timeout_s
        self._hear_s = hear_s
        self._interrupted = False
        self._noise = deque(cut_frames(room_noise(5 * INPUT_RATE_HZ, seed)))
        self._speech: deque[bytes] = deque()
        self._spoken = asyncio.Event()
        self._spoken_s = 0.0
        self._answer: Answer | None = None
        self._answered = asyncio.Event()
        self._turn_id = ""
        self._player: Player | None = None
        self.ready: dict[str, Any] = {}
        self.errors: Counter[str] = Counter()
        self.lateness_s: list[float] = []

    async def __aenter__(self) -> Self:
        """Connect and begin the session. Raises `CallFailed` with the reason."""
        self._http = aiohttp.ClientSession()
        try:
            self._socket = await self._http.ws_connect(self._url, max_msg_size=0)
            self.ready = await self._begin()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await self._http.close()
            raise CallFailed(type(error).__name__) from None
        except CallFailed:
            await self._http.close()
            raise
        self._tasks = (asyncio.create_task(self._listen()), asyncio.create_task(self._tick()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()
        await self._http.close()

    async def ask(self, question: Question) -> Answer:
        """Say `question` and wait for the end of the reply, or for what comes in its place."""
        answer = self._answer = Answer()
        self._answered.clear()
        self._interrupted = False
        if self._tasks[0].done():
            self._fail(CONNECTION_LOST)
            return answer
        answer.asked_s = await (self._say(question) if self._mode == "live" else self._push_to_talk(question))
        await self._wait()
        self._answer = None
        if answer.heard_s is not None and answer.heard_s < answer.asked_s:
            self._fail(CUT_IN, answer)
        if answer.status == "completed" and answer.heard_s is None:
            self._fail(NO_AUDIO, answer)
        return answer

    async def _wait(self) -> None:
        """Until the answer has ended, or the loudspeaker was silent for the time-out."""
        while not self._answered.is_set():
            played_s = self._played_s()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._answer_timeout_s):
                    await self._answered.wait()
                return
            if self._played_s() == played_s:
                self._fail(TIMEOUT)

    def _played_s(self) -> float:
        return self._player.played_s(asyncio.get_running_loop().time()) if self._player else 0.0

    # --- what is sent ---------------------------------------------------------------------------

    async def _begin(self) -> dict[str, Any]:
        """Begin the session. Raises `CallFailed`."""
        await self._socket.send_json(self._start_message())
        return await self._first_message()

    def _start_message(self) -> dict[str, Any]:
        audio = {"format": "pcm16", "sample_rate": INPUT_RATE_HZ} if self._mode == "live" else {"format": "webm"}
        return {"type": "session.start", "mode": self._mode, "audio": audio}

    async def _say(self, question: Question) -> float:
        self._speech.extend(question.frames)
        self._spoken.clear()
        await self._spoken.wait()
        return self._spoken_s

    async def _push_to_talk(self, question: Question) -> float:
        """Chunks while the button is down; it goes up with the last sample."""
        loop = asyncio.get_running_loop()
        webm, seconds = question.webm, question.pressed_s
        pressed_s, chunks = loop.time(), max(1, round(seconds / CHUNK_S))
        for index in range(chunks):
            await asyncio.sleep(pressed_s + (index + 1) * seconds / chunks - loop.time())
            await self._socket.send_bytes(webm[len(webm) * index // chunks : len(webm) * (index + 1) // chunks])
        asked_s = loop.time()
        await self._socket.send_json({"type": "audio.end"})
        return asked_s

    async def _tick(self) -> None:
        """The microphone's clock."""
        loop = asyncio.get_running_loop()
        started_s, frames = loop.time(), 0
        while True:
            frames += 1
            due_s = started_s + frames * FRAME_S
            await asyncio.sleep(due_s - loop.time())
            self.lateness_s.append(loop.time() - due_s)
            if self._mode == "live":
                await self._send_frame()
            if frames % PLAYBACK_REPORT_FRAMES == 0:
                await self._report_playback()

    async def _send_frame(self) -> None:
        if not self._speech:
            self._noise.rotate(-1)
            await self._send_audio(self._noise[0])
            return
        await self._send_audio(self._speech.popleft())
        if not self._speech:
            self._spoken_s = asyncio.get_running_loop().time()
            self._spoken.set()

    async def _send_audio(self, frame: bytes) -> None:
        await self._socket.send_bytes(frame)

    async def _report_playback(self) -> None:
        if not self._player:
            return
        played_ms = self._played_s() * 1000
        await self._socket.send_json({"type": "playback", "turn_id": self._turn_id, "played_ms": played_ms})
        if self._heard_enough:
            self._interrupted = True
            await self._socket.send_json({"type": "interrupt"})

    @property
    def _heard_enough(self) -> bool:
        begun_s = self._player.first_audible_s if self._player else None
        heard_s = asyncio.get_running_loop().time() - begun_s if begun_s is not None else 0.0
        return self._hear_s is not None and heard_s >= self._hear_s

    # --- what is received -----------------------------------------------------------------------

    async def _first_message(self) -> dict[str, Any]:
        """`session.ready`, or a refusal."""
        message = await self._socket.receive(READY_TIMEOUT_S)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise CallFailed(CONNECTION_LOST)
        first: dict[str, Any] = json.loads(message.data)
        if first["type"] == "error":
            raise CallFailed(first["code"])
        return first

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                self._on_audio(message.data, loop.time())
            elif message.type is aiohttp.WSMsgType.TEXT:
                self._on_message(json.loads(message.data))
        self._fail(CONNECTION_LOST)
        self._spoken_s = loop.time()
        self._spoken.set()

    def _on_audio(self, data: bytes, now_s: float) -> None:
        if self._player:
            self._player.push(pcm16_to_float(data), now_s)

    def _on_message(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "transcript" if self._answer and message["is_final"]:
                self._answer.transcript = message["text"]
            case "reply.text" if self._answer and message["is_final"]:
                self._answer.text = message["text"]
            case "reply.audio":
                self._turn_id, self._player = message["turn_id"], Player(message["sample_rate"])
            case "reply.done":
                self._on_done(message)
            case "error":
                self._on_error(message)

    def _on_done(self, message: dict[str, Any]) -> None:
        """A reply that the question itself interrupted answered half of it; the one to the whole is still to come."""
        player, self._player = self._player, None
        if self._answer and (self._interrupted or message["status"] != "interrupted"):
            self._answer.status, self._answer.metrics = message["status"], message["metrics"]
            if player:
                self._answer.heard_s, self._answer.gaps_s = player.first_audible_s, player.gaps_s
            self._answered.set()

    def _on_error(self, message: dict[str, Any]) -> None:
        answer = self._answer
        if answer is None or message.get("turn_id") is None:
            self._fail(message["code"])
            return
        self._note(message["code"], answer)
        asyncio.get_running_loop().call_later(ERROR_GRACE_S, self._give_up, answer)

    def _give_up(self, answer: Answer) -> None:
        if self._answer is answer:
            self._answered.set()

    def _fail(self, code: str, answer: Answer | None = None) -> None:
        self._note(code, answer or self._answer)
        self._answered.set()

    def _note(self, code: str, answer: Answer | None) -> None:
        self.errors[code] += 1
        if answer:
            answer.errors.append(code)
