"""The same caller over `/v1/realtime`: PCM16 at 24 kHz in base64, and the rules for turns that `/ws/chat` has.

It cuts an answer as OpenAI's clients do: it cancels the response and truncates what it has not played.
"""

import asyncio
import base64
from collections import deque
from typing import Any

import numpy as np

from avatar.core.audio import INPUT_RATE_HZ, Pcm, float_to_pcm16, pcm16_to_float, resample
from tests.load.caller import Caller, CallFailed
from tests.load.latency import Player
from tests.load.questions import FRAME_SAMPLES, Question, room_noise

RATE_HZ = 24_000
DETECTION = {"type": "semantic_vad", "eagerness": "medium"}


class RealtimeCaller(Caller):
    """A `Caller`, always live. `ready` is the session as the server tells it."""

    def __init__(self, url: str, *, hear_s: float | None = None, seed: int = 0) -> None:
        super().__init__(url, hear_s=hear_s, seed=seed)
        self._noise = deque(_frames(room_noise(5 * INPUT_RATE_HZ, seed)))
        self._item_id = ""

    async def _begin(self) -> dict[str, Any]:
        first = await self._first_message()
        if first["type"] != "session.created":
            raise CallFailed(first["type"])
        audio = {"input": {"turn_detection": DETECTION, "transcription": {"model": "any"}}}
        await self._socket.send_json({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
        session: dict[str, Any] = first["session"]
        return session

    async def _say(self, question: Question) -> float:
        self._speech.extend(_frames(pcm16_to_float(b"".join(question.frames))))
        self._spoken.clear()
        await self._spoken.wait()
        return self._spoken_s

    async def _send_audio(self, frame: bytes) -> None:
        audio = base64.b64encode(frame).decode()
        await self._socket.send_json({"type": "input_audio_buffer.append", "audio": audio})

    async def _report_playback(self) -> None:
        if self._player and self._heard_enough and not self._interrupted:
            self._interrupted = True
            heard_ms = int(self._played_s() * 1000)
            if self._turn_id:
                await self._socket.send_json({"type": "response.cancel", "response_id": self._turn_id})
            truncate = {"type": "conversation.item.truncate", "item_id": self._item_id, "content_index": 0}
            await self._socket.send_json(truncate | {"audio_end_ms": heard_ms})
            self._end("completed")

    def _on_message(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "conversation.item.input_audio_transcription.completed" if self._answer:
                self._answer.transcript = message["transcript"]
            case "response.created":
                self._turn_id, self._player = message["response"]["id"], Player(RATE_HZ)
            case "response.output_audio.delta" if message["response_id"] == self._turn_id:
                self._item_id = message["item_id"]
                self._on_audio(base64.b64decode(message["delta"]), self._now_s())
            case "response.output_audio_transcript.done" if self._answer:
                self._answer.text = message["transcript"]
            case "response.done":
                self._on_response_done(message["response"])
            case "error" if message["error"]["code"] != "response_cancel_not_active":  # it had just ended
                self._fail(message["error"]["code"])

    def _on_response_done(self, response: dict[str, Any]) -> None:
        """What was cancelled by the question itself is forgotten; what is whole is still being played."""
        if response["id"] != self._turn_id:
            return
        self._turn_id = ""
        if response["status"] == "cancelled" and not self._interrupted:
            self._player = None
        elif response["status"] == "failed":
            self._end("failed")
        elif self._hear_s is None:
            self._end(response["status"])

    def _end(self, status: str) -> None:
        player, self._player = self._player, None
        if self._answer and player:
            self._answer.status = status
            self._answer.heard_s, self._answer.gaps_s = player.first_audible_s, player.gaps_s
        self._answered.set()

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


def _frames(pcm: Pcm) -> list[bytes]:
    """Frames of 20 ms at 24 kHz of 16 kHz audio, which is whole frames."""
    samples = FRAME_SAMPLES * RATE_HZ // INPUT_RATE_HZ
    resampled = resample(pcm, INPUT_RATE_HZ, RATE_HZ)
    padded = np.concatenate([resampled, np.zeros(-resampled.size % samples, np.float32)])
    return [float_to_pcm16(padded[start : start + samples]) for start in range(0, padded.size, samples)]
