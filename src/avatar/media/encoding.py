"""Speech out as a file that can be played while it is made: raw PCM, WAV, MP3, Ogg/Opus, FLAC, AAC.

Owns containers and codecs of AVATAR's own audio; nothing from outside is parsed here. Knows no socket and no engine.
"""

import struct
from dataclasses import dataclass, field
from typing import Literal, get_args

import av
import numpy as np
from av.audio.stream import AudioStream

from avatar.core.audio import Pcm, Resampler, float_to_pcm16, silence
from avatar.media.tempo import Tempo

RATE_HZ = 24_000
"""Of everything made here: what OpenAI's `pcm` is, and a rate that every codec below takes."""

Format = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
FORMATS: tuple[Format, ...] = get_args(Format)
RAW_FORMATS: tuple[Format, ...] = ("wav", "pcm")

MEDIA_TYPES: dict[Format, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}

_UNKNOWN_LENGTH = 0xFFFFFFFF
"""What a streamed WAV says of its size; players read on until the end."""


@dataclass(frozen=True)
class _Codec:
    container: str
    name: str
    bitrate: int | None = None
    container_options: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)


_CODECS = {
    "mp3": _Codec("mp3", "libmp3lame", 64_000, {"write_xing": "0", "id3v2_version": "0"}),
    "opus": _Codec("ogg", "libopus", 32_000, {"page_duration": "20000"}, {"application": "voip"}),
    "aac": _Codec("adts", "aac", 64_000),
    "flac": _Codec("flac", "flac", options={"frame_size": "1024"}),  # 43 ms; by default it waits for 190 ms
}


class SpeechEncoder:
    """Takes speech at `from_hz`, gives the bytes of a file in `form`. Every method blocks, and is for a thread.

    Opening one and its first piece take up to 20 ms (FLAC, MP3), a second of speech 10 ms (MP3, Opus); raw: 0.15 ms.
    """

    def __init__(self, form: Format, from_hz: int, speed: float = 1.0) -> None:
        self._tempo = Tempo(speed, from_hz)
        self._resampler = Resampler(from_hz, RATE_HZ)
        self._file: _Raw | _File = _File(_CODECS[form]) if form in _CODECS else _Raw(form == "wav")

    def push(self, pcm: Pcm) -> bytes:
        """The bytes that the next piece (float32[n], mono) completes."""
        return self._file.push(self._resampler.push(self._tempo.push(pcm)))

    def finish(self) -> bytes:
        """The rest of the file; nothing may follow."""
        rest = self._tempo.push(silence(0), last=True)
        return self._file.push(self._resampler.push(rest, last=True)) + self._file.finish()


class _Raw:
    def __init__(self, wav: bool) -> None:
        self._head = _wav_head() if wav else b""

    def push(self, pcm: Pcm) -> bytes:
        head, self._head = self._head, b""
        return head + float_to_pcm16(pcm)

    def finish(self) -> bytes:
        return self._head


class _File:
    """One FFmpeg muxer that writes each packet at once."""

    def __init__(self, codec: _Codec) -> None:
        self._written = bytearray()
        options = {"flush_packets": "1", **codec.container_options}
        self._container = av.open(self, "w", format=codec.container, options=options)
        stream = self._container.add_stream(codec.name, rate=RATE_HZ, options=codec.options)
        assert isinstance(stream, AudioStream)
        stream.layout = "mono"
        if codec.bitrate:
            stream.bit_rate = codec.bitrate
        self._stream = stream
        self._samples = 0

    def write(self, data: bytes) -> int:
        """For the muxer."""
        self._written += data
        return len(data)

    def push(self, pcm: Pcm) -> bytes:
        if pcm.size:
            samples = np.frombuffer(float_to_pcm16(pcm), np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, self._samples
            self._samples += pcm.size
            self._container.mux(self._stream.encode(frame))
        return self._take()

    def finish(self) -> bytes:
        # Players refuse a file without a single packet.
        head = b"" if self._samples else self.push(silence(RATE_HZ // 50))
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return head + self._take()

    def _take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken


def _wav_head() -> bytes:
    """RIFF header of PCM16 mono whose end nobody knows yet."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE_HZ, RATE_HZ * 2, 2, 16)
    riff = struct.pack("<4sI4s", b"RIFF", _UNKNOWN_LENGTH, b"WAVE")
    return riff + form + struct.pack("<4sI", b"data", _UNKNOWN_LENGTH)
