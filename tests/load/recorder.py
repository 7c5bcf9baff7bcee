"""A browser's recorder: PCM in, the files that `MediaRecorder` and people's phones make out. For tests and callers."""

import io

import av
from av.audio.stream import AudioStream

from avatar.core.audio import Pcm, resample

_FRAME_SAMPLES = {"libopus": 960, "aac": 1024, "alac": 4096, "libmp3lame": 1152, "wmav2": 2048, "flac": 4608}


def record(pcm: Pcm, rate_hz: int, container: str, codec: str, *, coded_hz: int = 48_000) -> bytes:
    """Encode `pcm` (float32[n], mono) with one of FFmpeg's encoders; WebM is live: no duration, no cues."""
    samples = resample(pcm, rate_hz, coded_hz)
    options = {"live": "1"} if container == "webm" else {}
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=coded_hz, layout="mono")
        assert isinstance(stream, AudioStream)
        if codec == "wmav2":
            stream.codec_context.bit_rate = 96_000  # it has no default
        frame_samples = _FRAME_SAMPLES.get(codec, 160)
        resampler = av.AudioResampler(stream.codec_context.format, "mono", coded_hz)
        for start in range(0, samples.size, frame_samples):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + frame_samples], "fltp", "mono")
            frame.sample_rate, frame.pts = coded_hz, start
            for ready in resampler.resample(frame):
                output.mux(stream.encode(ready))
        output.mux(stream.encode(None))
    return file.getvalue()


def record_webm(pcm: Pcm, rate_hz: int) -> bytes:
    """What Chrome and Firefox record: live WebM with Opus at 48 kHz."""
    return record(pcm, rate_hz, "webm", "libopus")
