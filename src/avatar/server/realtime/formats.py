"""Audio on the Realtime wire: PCM16 at 24 kHz (16 kHz as our own extension), G.711 µ-law and A-law; all mono."""

from typing import Annotated, Literal

from pydantic import Field

from avatar.core import g711
from avatar.core.audio import Pcm, float_to_pcm16, pcm16_to_float
from avatar.server.realtime.model import Strict


class PcmFormat(Strict):
    """16 bit, little-endian."""

    type: Literal["audio/pcm"]
    rate: Literal[24_000, 16_000] = 24_000


class UlawFormat(Strict):
    """G.711 µ-law, 8 kHz."""

    type: Literal["audio/pcmu"]


class AlawFormat(Strict):
    """G.711 A-law, 8 kHz."""

    type: Literal["audio/pcma"]


AudioFormat = Annotated[PcmFormat | UlawFormat | AlawFormat, Field(discriminator="type")]


def rate_hz(form: AudioFormat) -> int:
    """Samples a second."""
    return form.rate if isinstance(form, PcmFormat) else g711.RATE_HZ


def sample_bytes(form: AudioFormat) -> int:
    """Bytes a sample."""
    return 2 if isinstance(form, PcmFormat) else 1


def duration_ms(form: AudioFormat, data_bytes: int) -> float:
    """Length of that many bytes."""
    return data_bytes * 1000 / (sample_bytes(form) * rate_hz(form))


def decode(form: AudioFormat, data: bytes) -> Pcm:
    """To float32 in -1…1 at `rate_hz(form)`. Raises `BadAudio` for half a sample."""
    if isinstance(form, PcmFormat):
        return pcm16_to_float(data)
    return g711.ulaw_to_float(data) if isinstance(form, UlawFormat) else g711.alaw_to_float(data)


def to_pcm16(form: AudioFormat, data: bytes) -> bytes:
    """To little-endian int16 at the same rate."""
    return data if isinstance(form, PcmFormat) else float_to_pcm16(decode(form, data))


def from_pcm16(form: AudioFormat, pcm16: bytes) -> bytes:
    """And back."""
    return pcm16 if isinstance(form, PcmFormat) else encode(form, pcm16_to_float(pcm16))


def encode(form: AudioFormat, pcm: Pcm) -> bytes:
    """From float32 in -1…1 at `rate_hz(form)`."""
    if isinstance(form, PcmFormat):
        return float_to_pcm16(pcm)
    return g711.float_to_ulaw(pcm) if isinstance(form, UlawFormat) else g711.float_to_alaw(pcm)
