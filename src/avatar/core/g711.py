"""G.711, the telephone's audio: µ-law and A-law, a byte a sample, by table. Pure.

Decoding is ITU-T G.711, tables 1 and 2, at 16 bits. Encoding takes the nearest value there is, which is what the
decision values of those tables come to.
"""

import numpy as np
from numpy.typing import NDArray

from avatar.core.audio import Pcm

RATE_HZ = 8_000

_Table = NDArray[np.int16]


def ulaw_to_float(data: bytes) -> Pcm:
    """µ-law bytes to float32 in -1…1."""
    return _decode(data, _ULAW)


def alaw_to_float(data: bytes) -> Pcm:
    """A-law bytes to float32 in -1…1."""
    return _decode(data, _ALAW)


def float_to_ulaw(pcm: Pcm) -> bytes:
    """Float32 in -1…1 to µ-law bytes; what lies outside is clipped."""
    return _encode(pcm, _TO_ULAW)


def float_to_alaw(pcm: Pcm) -> bytes:
    """Float32 in -1…1 to A-law bytes; what lies outside is clipped."""
    return _encode(pcm, _TO_ALAW)


def _decode(data: bytes, table: _Table) -> Pcm:
    return table[np.frombuffer(data, np.uint8)].astype(np.float32) / np.float32(32768)


def _encode(pcm: Pcm, codes: NDArray[np.uint8]) -> bytes:
    samples = np.rint(np.clip(pcm * np.float32(32768), -32768, 32767)).astype(np.int32)
    data: bytes = codes[samples + 32768].tobytes()
    return data


def _ulaw(code: int) -> int:
    code ^= 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    code ^= 0x55
    exponent, step = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = step + 8 if exponent == 0 else (step + 0x108) << (exponent - 1)
    return magnitude if code & 0x80 else -magnitude


def _nearest(table: _Table) -> NDArray[np.uint8]:
    """The code of each 16-bit sample, -32768 first. Of µ-law's two zeros the positive one, which is silence."""
    code_of = {int(value): code for code, value in enumerate(table)}  # the later code wins: of zeros, the positive one
    values = np.array(sorted(code_of), np.float64)
    order = np.array([code_of[int(value)] for value in values], np.uint8)
    middles = (values[:-1] + values[1:]) / 2
    codes: NDArray[np.uint8] = order[np.searchsorted(middles, np.arange(-32768, 32768), side="right")]
    return codes


_ULAW: _Table = np.array([_ulaw(code) for code in range(256)], np.int16)
_ALAW: _Table = np.array([_alaw(code) for code in range(256)], np.int16)
_TO_ULAW = _nearest(_ULAW)
_TO_ALAW = _nearest(_ALAW)
