"""Opus out: AVATAR's own audio (never an upload) as an Ogg/Opus file.

Knows PCM and one container; not where the file goes. Decoding what comes from outside is `decoder.py`'s.
"""

import io

import av

from avatar.core.audio import Pcm, resample, silence

OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
"""Sample rates an Opus encoder takes (RFC 6716, section 2)."""

_COMPLEXITY = "1"
"""libopus effort, 0…10."""
_APPLICATION = "audio"
"""On one busy core a second of speech takes 1.3 ms with this at effort 1, 1.9 ms at 5; with `voip` 3.8 and 5.4 ms."""

_FRAME_MS = 20


def encode_ogg_opus(pcm: Pcm, rate_hz: int, bitrate: int = 24_000) -> bytes:
    """Encode `pcm` (float32[n], mono, -1…1, at any `rate_hz`) to an Ogg/Opus file of about `bitrate` bits a second.

    Blocking: about 2 ms a second of audio. The audio is resampled to the next rate Opus takes, at most 48 kHz.
    An empty `pcm` gives one frame of silence: players refuse a file without a single packet.
    """
    opus_hz = next((rate for rate in OPUS_RATES_HZ if rate >= rate_hz), OPUS_RATES_HZ[-1])
    frame_samples = opus_hz * _FRAME_MS // 1000
    samples = resample(pcm, rate_hz, opus_hz) if pcm.size else silence(frame_samples)
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        options = {"application": _APPLICATION, "compression_level": _COMPLEXITY}
        stream = container.add_stream("libopus", rate=opus_hz, layout="mono", options=options)
        stream.bit_rate = bitrate
        for start in range(0, samples.size, opus_hz):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + opus_hz], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = opus_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
