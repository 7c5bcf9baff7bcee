"""Sends one reply's audio at the pace it is played, a little ahead, and knows how much of it has been heard.

Knows no engine and no socket: audio goes to the outbox, time is the running loop's clock.
"""

import asyncio
import contextlib
import math
from collections import deque

import numpy as np

from avatar.conversation.outbox import Outbox
from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample, silence
from avatar.core.echo import REFERENCE_MS, EchoReference
from avatar.core.events import ReplyAudioFrame, ReplyAudioStarted

FRAME_S = 0.04
"""Audio in one binary frame: small enough to stop within, large enough to cost little."""
TICK_S = 0.001
"""Less is not worth a sleep: clocks and timers round."""
REPORT_TRUST_S = 0.5
"""Clients report every 200 ms or so; after this long without a report they are not assumed to play on."""
LAST_REPORT_WAIT_S = 1.0
"""How much later than by our clock a reporting client may finish: its jitter buffer and sound device."""


class Playout:
    """One reply's way to the client's ears. Times in seconds of the loop's clock.

    With a lead of `inf` all is sent as it is made, and over when it is sent.
    """

    def __init__(self, outbox: Outbox, turn_id: str, rate_hz: int, lead_s: float) -> None:
        self._outbox = outbox
        self._turn_id = turn_id
        self.rate_hz = rate_hz
        self._lead_s = lead_s
        self._now = asyncio.get_running_loop().time
        self._plays_until_s = 0.0
        self._report: tuple[float, float] | None = None
        self._reported = asyncio.Event()
        self._held_at_s: float | None = None
        self._released = asyncio.Event()
        self._released.set()
        self._recent: deque[Pcm] = deque(maxlen=math.ceil(REFERENCE_MS / 1000 / FRAME_S))
        self._reference: EchoReference | None = None
        self.sent_samples = 0
        self.underruns = 0

    async def send(self, pcm: Pcm) -> None:
        """Send the next piece (float32[n], mono, at this playout's rate), never further ahead than the lead."""
        if pcm.size and not self.sent_samples:
            await self._outbox.put_media(ReplyAudioStarted(self._turn_id, self.rate_hz))
        frame_samples = int(FRAME_S * self.rate_hz)
        for start in range(0, pcm.size, frame_samples):
            await self._wait_for_lead()
            frame = pcm[start : start + frame_samples]
            await self._outbox.put_media(ReplyAudioFrame(self._turn_id, frame))
            self._recent.append(frame)
            self._reference = None
            self._account(frame.size)

    async def _wait_for_lead(self) -> None:
        while (ahead_s := self._plays_until_s - self._now() - self._lead_s) > TICK_S or self.held:
            await (self._released.wait() if self.held else asyncio.sleep(ahead_s))

    @property
    def held(self) -> bool:
        """Whether the client has been told to play nothing for now."""
        return self._held_at_s is not None

    def hold(self) -> None:
        """Nothing is played, and nothing more sent, until `resume`. Idempotent."""
        if not self.held:
            self._held_at_s = self._now()
            self._released.clear()

    def resume(self) -> None:
        """What was not played when it was held is played now. Idempotent."""
        if self._held_at_s is not None:
            self._plays_until_s = max(self._plays_until_s, self._held_at_s) + self._now() - self._held_at_s
            self._held_at_s = None
            self._released.set()

    def _account(self, samples: int) -> None:
        now_s = self._now()
        self.underruns += bool(self.sent_samples) and now_s > self._plays_until_s
        self._plays_until_s = max(self._plays_until_s, now_s) + samples / self.rate_hz
        self.sent_samples += samples

    def report(self, played_ms: float) -> None:
        """The client says how much of this reply it has really played."""
        self._report = (played_ms / 1000, self._now())
        self._reported.set()

    def played_samples(self) -> int:
        """How much has been heard: by the client's last report, else by our clock; never more than was sent."""
        now_s = self._now() if self._held_at_s is None else self._held_at_s
        if self._report is not None:
            played_s, at_s = self._report
            heard_s = played_s + min(max(now_s - at_s, 0.0), REPORT_TRUST_S)
            return min(self.sent_samples, int(heard_s * self.rate_hz))
        unplayed_s = max(self._plays_until_s - now_s, 0.0)
        return max(self.sent_samples - int(unplayed_s * self.rate_hz), 0)

    @property
    def left_s(self) -> float:
        """What the client has yet to play of what was sent."""
        return self.sent_samples / self.rate_hz - self.played_samples() / self.rate_hz

    def echo_reference(self) -> EchoReference:
        """The last seconds of what was sent; nothing once it has ended. 1 ms of work, once while it is held."""
        if self._reference is None:
            self._reference = EchoReference()
            self._reference.push(resample(np.concatenate([silence(0), *self._recent]), self.rate_hz, INPUT_RATE_HZ))
        return self._reference

    async def drain(self) -> None:
        """Wait until all that was sent has been heard."""
        await self._outbox.media_sent()
        if self._lead_s < math.inf:
            while (left_s := self._plays_until_s - self._now()) > TICK_S or self.held:
                await (self._released.wait() if self.held else asyncio.sleep(left_s))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_REPORT_WAIT_S):
                    await self._last_report()
        self._forget_sound()

    async def _last_report(self) -> None:
        sent_s = self.sent_samples / self.rate_hz
        while self._report is not None and self._report[0] < sent_s - FRAME_S:
            self._reported.clear()
            await self._reported.wait()

    def _forget_sound(self) -> None:
        self._recent.clear()
        self._reference = None

    def stop(self) -> int:
        """Send nothing more of this reply; return the samples heard."""
        heard = self.played_samples()
        self.sent_samples -= self._outbox.drop_media(self._turn_id)
        self._forget_sound()
        return min(heard, self.sent_samples)
