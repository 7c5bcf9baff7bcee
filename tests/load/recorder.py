"""A browser's recorder: PCM in, the files that `MediaRecorder` and people's phones make out. For tests and callers."""

import io

import av
from av.audio.stream import AudioStream

from avatar.core.audio import Pcm, resample

_BLOCK_SAMPLES = 1024
"""Of encoders that take any number at once."""


def record(
    pcm: Pcm, rate_hz: int, container: str, codec: str, *, coded_hz: int = 48_000, layout: str = "mono"
) -> bytes:
    """Encode `pcm` (float32[n], mono) with one of FFmpeg's encoders; WebM is live: no duration, no cues."""
    samples = resample(pcm, rate_hz, coded_hz)
    options = {"live": "1"} if container == "webm" else {}
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=coded_hz, layout=layout)
        assert isinstance(stream, AudioStream)
        context = stream.codec_context
        context.options = {"strict": "experimental"}
        if codec in ("wmav1", "wmav2"):
            context.bit_rate = 96_000  # they have no default
        context.open()
        frame_samples = context.frame_size or _BLOCK_SAMPLES
        resampler = av.AudioResampler(context.format, layout, coded_hz, frame_samples)
        frame = av.AudioFrame.from_ndarray(samples[None], "fltp", "mono")
        frame.sample_rate, frame.pts = coded_hz, 0
        for ready in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(ready))
        output.mux(stream.encode(None))
    return file.getvalue()


def record_webm(pcm: Pcm, rate_hz: int) -> bytes:
    """What Chrome and Firefox record: live WebM with Opus at 48 kHz."""
    return record(pcm, rate_hz, "webm", "libopus")
