"""Small files that decode to hours, or say of themselves what cannot be; and how much memory a process has taken."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile


def flac_silence(seconds: int) -> bytes:
    file = io.BytesIO()
    minute = np.zeros(60 * 8_000, np.float32)
    with soundfile.SoundFile(file, "w", 8_000, 1, "PCM_16", format="FLAC") as sound:
        for _ in range(seconds // 60):
            sound.write(minute)
    return file.getvalue()


def webm_silence(seconds: int) -> bytes:
    return _opus_silence(seconds, "webm")


def ogg_silence(seconds: int) -> bytes:
    return _opus_silence(seconds, "ogg")


def _opus_silence(seconds: int, form: str) -> bytes:
    """Packets of six empty frames, 120 ms for 14 bytes (RFC 6716, section 3.2.5): nothing that takes long to encode."""
    packet_bytes, packet_ms = b"\xfb\x06" + b"\xff\xfe" * 6, 120
    file = io.BytesIO()
    with av.open(file, "w", format=form, options={"live": "1"} if form == "webm" else {}) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        container.start_encoding()
        for pts_ms in range(0, seconds * 1000, packet_ms):
            packet = av.Packet(packet_bytes)
            packet.stream, packet.pts, packet.dts, packet.duration = stream, pts_ms, pts_ms, packet_ms
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    return file.getvalue()


def wav_that_claims(rate_hz: int, data_bytes: int, pcm: bytes) -> bytes:
    """A WAV file, mono, PCM16, whose header may lie about both."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, rate_hz, 2 * rate_hz & 0xFFFFFFFF, 2, 16)
    size = min(data_bytes + 36, 0xFFFFFFFF)
    return b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", data_bytes) + pcm


def peak_memory_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak_memory() -> None:
    """From now on, this process's peak is what it takes from now on (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
