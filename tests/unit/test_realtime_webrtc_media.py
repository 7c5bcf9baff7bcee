"""The tracks of a call on virtual time: frames go out when they are due, and silence comes in where nothing does."""

import asyncio
import fractions

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtpPacket
from av import AudioFrame

from avatar.core.audio import pcm16_to_float
from avatar.server.realtime.loudspeaker import RATE_HZ, Loudspeaker
from avatar.server.realtime.webrtc_media import (
    FRAME_S,
    FRAME_SAMPLES,
    GAP_S,
    JITTER_BUFFER,
    NoJitterBuffer,
    VoiceTrack,
    hear_at_once,
    listen,
)


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_a_frame_every_20_ms_and_silence_where_there_is_nothing() -> None:
    speaker = Loudspeaker()
    track = VoiceTrack(speaker)
    began_s = now_s()
    for number in range(50):
        if number == 10:
            speaker.play("a", "item", np.full(FRAME_SAMPLES, 0.5, np.float32), RATE_HZ)
        frame = await track.recv()
        assert now_s() - began_s == pytest.approx(number * FRAME_S)
        assert (frame.pts, frame.sample_rate, frame.samples) == (number * FRAME_SAMPLES, RATE_HZ, FRAME_SAMPLES)
        sound = pcm16_to_float(bytes(frame.planes[0])[: 2 * FRAME_SAMPLES])
        assert sound.max() == (0.5 if number == 10 else 0)


async def test_what_was_missed_a_little_is_made_up_for() -> None:
    track = VoiceTrack(Loudspeaker())
    await track.recv()
    await asyncio.sleep(0.1)
    began_s = now_s()
    frames = [await track.recv() for _ in range(5)]
    assert now_s() == began_s
    assert [frame.pts for frame in frames] == [number * FRAME_SAMPLES for number in range(1, 6)]


async def test_what_was_missed_for_long_is_not() -> None:
    track = VoiceTrack(Loudspeaker())
    await track.recv()
    await asyncio.sleep(10.01)
    frame = await track.recv()
    assert frame.pts == 500 * FRAME_SAMPLES  # the client's clock has gone on
    began_s = now_s()
    await track.recv()
    assert now_s() - began_s == pytest.approx(0.01)


async def test_a_track_that_was_stopped_gives_nothing() -> None:
    speaker = Loudspeaker()
    track = VoiceTrack(speaker)
    track.stop()
    with pytest.raises(MediaStreamError):
        await track.recv()


class Microphone(MediaStreamTrack):
    """Gives what is put."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.frames: asyncio.Queue[AudioFrame | None] = asyncio.Queue()

    async def recv(self) -> AudioFrame:
        frame = await self.frames.get()
        if frame is None:
            raise MediaStreamError
        return frame

    def put(self, left: float, right: float) -> None:
        samples = np.repeat([[left, right]], FRAME_SAMPLES, axis=0)
        frame = AudioFrame(format="s16", layout="stereo", samples=FRAME_SAMPLES)
        frame.planes[0].update((samples * 32768).astype("<i2").tobytes())
        frame.sample_rate, frame.time_base = RATE_HZ, fractions.Fraction(1, RATE_HZ)
        self.frames.put_nowait(frame)


async def test_what_comes_is_one_channel_at_the_rate_that_is_wanted_now() -> None:
    microphone, heard, rate_hz = Microphone(), bytearray(), RATE_HZ
    for _ in range(50):
        microphone.put(0.25, 0.75)
    microphone.frames.put_nowait(None)
    await listen(microphone, lambda: rate_hz, heard.extend)
    assert pcm16_to_float(bytes(heard)).tolist() == [0.5] * RATE_HZ

    heard.clear()
    rate_hz = 16_000
    for _ in range(50):
        microphone.put(0.25, 0.75)
    microphone.frames.put_nowait(None)
    await listen(microphone, lambda: rate_hz, heard.extend)
    assert 15_500 <= len(heard) // 2 <= 16_000
    assert np.allclose(pcm16_to_float(bytes(heard))[1000:14_000], 0.5, atol=0.001)


async def test_a_microphone_that_is_off_is_silent_in_real_time() -> None:
    microphone, heard = Microphone(), bytearray()
    listening = asyncio.create_task(listen(microphone, lambda: RATE_HZ, heard.extend))
    await asyncio.sleep(10 * GAP_S + 0.01)
    assert len(heard) // 2 == 10 * GAP_S * RATE_HZ
    assert not any(heard)
    microphone.frames.put_nowait(None)
    await listening


# --- packets ----------------------------------------------------------------------------------------


def packet(number: int, data: bytes | None = None) -> RtpPacket:
    made = RtpPacket(sequence_number=number, timestamp=number * FRAME_SAMPLES)
    made._data = bytes([number % 256]) if data is None else data  # type: ignore[attr-defined]
    return made


def given(*numbers: int) -> list[int]:
    buffer = NoJitterBuffer()
    frames = [buffer.add(packet(number))[1] for number in numbers]
    return [frame.timestamp // FRAME_SAMPLES for frame in frames if frame is not None]


def test_each_packet_is_heard_at_once_and_none_late() -> None:
    assert given(1, 2, 3) == [1, 2, 3]
    assert given(1, 4, 3, 5, 5, 6) == [1, 4, 5, 6]
    assert given(65_534, 65_535, 0, 1) == [65_534, 65_535, 0, 1]
    assert NoJitterBuffer().add(packet(1, b"")) == (False, None)


async def test_aiortc_still_has_the_buffer_whose_place_is_taken() -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receiver = peer.addTransceiver("audio").receiver
    assert isinstance(getattr(receiver, JITTER_BUFFER), JitterBuffer)
    hear_at_once(receiver)
    assert isinstance(getattr(receiver, JITTER_BUFFER), NoJitterBuffer)
    await peer.close()
