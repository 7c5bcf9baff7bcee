"""Speech faster or slower at the same pitch (FFmpeg's `atempo`, WSOLA), as it is made. Knows PCM only."""

from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

from avatar.core.audio import Pcm, silence

MIN_SPEED, MAX_SPEED = 0.25, 4.0
"""OpenAI's bounds on `speed`."""

_FRAME_MS = 20
"""The filter gives what it made of a frame once it has the next: shorter frames, shorter delay."""


class Tempo:
    """`speed` 2.0: twice as fast. At 1.0 audio passes untouched; else it comes about 60 ms later. Blocks."""

    def __init__(self, speed: float, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._graph = None if speed == 1.0 else Graph()
        if self._graph is None:
            return
        self._source = self._graph.add_abuffer(
            format="flt", sample_rate=rate_hz, layout="mono", time_base=Fraction(1, rate_hz)
        )
        last = self._source
        for factor in _factors(speed):
            tempo = self._graph.add("atempo", str(factor))
            last.link_to(tempo)
            last = tempo
        self._sink = self._graph.add("abuffersink")
        last.link_to(self._sink)
        self._graph.configure()
        self._samples = 0
        self._rest = silence(0)

    def push(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """The next piece (float32[n], mono) at its new pace; `last` gives also what the filter still holds."""
        if self._graph is None:
            return pcm
        step = self._rate_hz * _FRAME_MS // 1000
        pcm = np.concatenate([self._rest, pcm])
        whole = pcm.size - pcm.size % step  # of one sample it would make none, and call that an error
        made = []
        for start in range(0, whole, step):
            self._push(pcm[start : start + step])
            made += self._pull()
        self._rest = pcm[whole:]
        if last:
            if self._rest.size:
                self._push(np.pad(self._rest, (0, step - self._rest.size)))
            self._source.push(None)
            made += self._pull()
        return np.concatenate([silence(0), *made])

    def _push(self, pcm: Pcm) -> None:
        frame = av.AudioFrame.from_ndarray(pcm[None], format="flt", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = self._rate_hz, Fraction(1, self._rate_hz), self._samples
        self._samples += pcm.size
        self._source.push(frame)

    def _pull(self) -> list[Pcm]:
        made: list[Pcm] = []
        while True:
            try:
                frame = self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return made
            assert isinstance(frame, av.AudioFrame)
            made.append(frame.to_ndarray()[0].astype(np.float32))


def _factors(speed: float) -> list[float]:
    """`speed` as factors the filter takes: 0.5 and more."""
    return [speed] if speed >= 0.5 else [0.5, speed / 0.5]
