"""G.711 against two implementations of it: libsndfile's (Sun's) and FFmpeg's."""

import io

import av
import numpy as np
import pytest
import soundfile

from avatar.core import g711
from avatar.core.audio import Pcm

EVERY_CODE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
LAWS = {
    "ULAW": (g711.ulaw_to_float, g711.float_to_ulaw, "pcm_mulaw"),
    "ALAW": (g711.alaw_to_float, g711.float_to_alaw, "pcm_alaw"),
}


def by_libsndfile(data: bytes, law: str) -> Pcm:
    raw: Pcm = soundfile.read(
        io.BytesIO(data), samplerate=8000, channels=1, subtype=law, format="RAW", dtype="float32"
    )[0]
    return raw


def by_ffmpeg(samples: np.ndarray[tuple[int], np.dtype[np.int16]], codec: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate, context.layout, context.format = 8000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = 8000
    return b"".join(bytes(packet) for packet in context.encode(frame))


@pytest.mark.parametrize("law", LAWS)
def test_every_code_means_what_it_means_elsewhere(law: str) -> None:
    decode, _, _ = LAWS[law]
    assert np.array_equal(decode(EVERY_CODE), by_libsndfile(EVERY_CODE, law))


@pytest.mark.parametrize("law", LAWS)
def test_every_sample_gets_the_code_it_gets_elsewhere(law: str) -> None:
    """Or, at the border between two of them, the nearer one: FFmpeg looks at the upper 14 bits alone."""
    decode, encode, codec = LAWS[law]
    pcm = EVERY_SAMPLE.astype(np.float32) / np.float32(32768)
    ours, theirs = decode(encode(pcm)), decode(by_ffmpeg(EVERY_SAMPLE, codec))
    differ = ours != theirs
    assert differ.mean() < 0.01
    assert (np.abs(ours - pcm) <= np.abs(theirs - pcm)).all()


@pytest.mark.parametrize("law", LAWS)
def test_there_and_back_is_nearest(law: str) -> None:
    decode, encode, _ = LAWS[law]
    assert np.array_equal(decode(encode(decode(EVERY_CODE))), decode(EVERY_CODE))
    pcm = EVERY_SAMPLE.astype(np.float32) / np.float32(32768)
    values = np.unique(decode(EVERY_CODE))
    nearest = np.abs(values[None] - pcm[::97, None]).min(axis=1)
    assert np.allclose(np.abs(decode(encode(pcm[::97])) - pcm[::97]), nearest, atol=1e-7)


@pytest.mark.parametrize("law", LAWS)
def test_what_is_too_loud_is_clipped_and_silence_is_silence(law: str) -> None:
    decode, encode, _ = LAWS[law]
    assert decode(encode(np.array([3.0, -3.0], np.float32))).tolist() == pytest.approx([0.98, -0.98], abs=0.015)
    assert encode(np.zeros(2, np.float32)) == (b"\xff\xff" if law == "ULAW" else b"\xd5\xd5")
    assert encode(np.zeros(0, np.float32)) == b""
