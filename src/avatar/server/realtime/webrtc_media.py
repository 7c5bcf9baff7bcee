"""Sound over WebRTC: a track that plays the loudspeaker at WebRTC's pace, and what a client's track comes to.

Opus is aiortc's affair: it encodes and decodes in threads of its own. Knows no session.
"""

import asyncio
import fractions
from collections.abc import Callable

import numpy as np
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtp import RtpPacket
from aiortc.utils import uint16_gt
from av import AudioFrame

from avatar.core.audio import LiveResampler, Pcm, float_to_pcm16, silence
from avatar.server.realtime.loudspeaker import RATE_HZ, Loudspeaker

FRAME_S = 0.02
"""An Opus packet, as WebRTC sends them."""
FRAME_SAMPLES = int(FRAME_S * RATE_HZ)
JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
"""aiortc has no way to choose another one; a unit test sees that its own is still there."""
LATE_S = 0.2
"""A loop that stood still for so long does not send at once what it missed: the client's buffer would drop it."""
GAP_S = 0.2
"""Who sends nothing for so long (a microphone that is off) is silent; it is longer than a network's usual jitter."""


class VoiceTrack(MediaStreamTrack):
    """A frame every 20 ms of the loop's clock, silence included, so that the client's clock goes on."""

    kind = "audio"

    def __init__(self, loudspeaker: Loudspeaker) -> None:
        super().__init__()
        self._loudspeaker = loudspeaker
        self._now = asyncio.get_running_loop().time
        self._due_s: float | None = None
        self._frames = 0

    async def recv(self) -> AudioFrame:
        """The next frame (int16, mono, 48 kHz), when it is due. Raises `MediaStreamError` once stopped."""
        await self._until_due()
        if self.readyState != "live":
            raise MediaStreamError
        frame = AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(float_to_pcm16(self._loudspeaker.take(FRAME_SAMPLES)))
        frame.sample_rate = RATE_HZ
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        frame.pts = self._frames * FRAME_SAMPLES
        return frame

    async def _until_due(self) -> None:
        now_s = self._now()
        if self._due_s is None:
            self._due_s = now_s
            return
        self._frames += 1
        self._due_s += FRAME_S
        if now_s - self._due_s > LATE_S:
            missed = int((now_s - self._due_s) / FRAME_S)
            self._frames += missed
            self._due_s += missed * FRAME_S
        if (wait_s := self._due_s - now_s) > 0:
            await asyncio.sleep(wait_s)


class NoJitterBuffer:
    """Takes the place of aiortc's: gives the sound of each packet at once; one that comes late is left out.

    aiortc's waits for four packets more (80 ms), and at a lost one for sixteen (320 ms, and so late is everything
    after it). That makes sound even for those who play it. Nobody does here.
    """

    def __init__(self) -> None:
        self._last: int | None = None

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """What is to be decoded now; never a wish for a key frame."""
        number: int = packet.sequence_number
        data: bytes = packet._data  # type: ignore[attr-defined]  # what aiortc took out of the payload
        if not data or (self._last is not None and not uint16_gt(number, self._last)):
            return False, None
        self._last = number
        return False, JitterFrame(data, packet.timestamp)


def hear_at_once(receiver: RTCRtpReceiver) -> None:
    """Let nothing wait that `receiver` gets; call before the first packet."""
    setattr(receiver, JITTER_BUFFER, NoJitterBuffer())


async def listen(track: MediaStreamTrack, rate_hz: Callable[[], int], hear: Callable[[bytes], None]) -> None:
    """Give `hear` what comes over a client's track (mono, little-endian int16, `rate_hz()`), for as long as it lasts.

    Where the client sends nothing there is silence, so that a turn ends although the microphone was switched off.
    0.1 ms of work for 20 ms of sound.
    """
    resampler, rate = LiveResampler(RATE_HZ, rate_hz()), rate_hz()
    while True:
        try:
            async with asyncio.timeout(GAP_S):
                pcm = mono(await track.recv())
        except TimeoutError:
            pcm = silence(int(GAP_S * RATE_HZ))
        except MediaStreamError:
            return
        if rate != rate_hz():
            resampler, rate = LiveResampler(RATE_HZ, rate_hz()), rate_hz()
        hear(float_to_pcm16(resampler.push(pcm)))


def mono(frame: object) -> Pcm:
    """An interleaved int16 frame, as aiortc's decoder gives them, as float32[n] in -1…1."""
    assert isinstance(frame, AudioFrame)
    channels = len(frame.layout.channels)
    samples = np.frombuffer(bytes(frame.planes[0]), dtype=np.int16)[: frame.samples * channels]
    mono: Pcm = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32) / np.float32(32768)
    return mono
