"""End of turn by Smart Turn v3: a Whisper encoder with one output, over the last eight seconds of sound.

Knows no threshold and no silence: when to ask, and what the answer means, is decided in turn-taking.
"""

from pathlib import Path

import numpy as np
import onnxruntime

from avatar.core.audio import Pcm, silence
from avatar.engines.base import Capabilities
from avatar.engines.end_of_turn.log_mel import WINDOW_SAMPLES, log_mel
from avatar.engines.onnx import open_session
from avatar.engines.worker import ModelThreads

# https://github.com/pipecat-ai/smart-turn, "Supported languages".
_LANGUAGES = frozenset("ar bn da de en es fi fr hi id it ja ko mr nl no pl pt ru tr uk vi zh".split())


class SmartTurn:
    """Fills `EndOfTurn`. An answer takes 30 ms of one core, in a thread of its own; questions wait in line."""

    name = "smart-turn (v3)"
    capabilities = Capabilities(languages=_LANGUAGES)

    def __init__(self, weights: Path) -> None:
        """`weights`: the ONNX file."""
        self._weights = weights
        self._threads: ModelThreads[onnxruntime.InferenceSession] = ModelThreads(self.name, self._load)

    async def warm_up(self) -> None:
        await self._threads.warm_up()

    async def aclose(self) -> None:
        await self._threads.aclose()

    async def probability(self, pcm: Pcm) -> float:
        """As `EndOfTurn.probability`; only the last 8 s count. A cancelled question still waiting is never asked."""
        tail = pcm[-WINDOW_SAMPLES:].copy()
        return await self._threads.run(lambda session: _probability(session, tail))

    def _load(self) -> onnxruntime.InferenceSession:
        session = open_session(self._weights)
        _probability(session, silence(WINDOW_SAMPLES))
        return session


def _probability(session: onnxruntime.InferenceSession, pcm: Pcm) -> float:
    (complete,) = session.run(None, {"input_features": log_mel(pcm)[np.newaxis]})
    return float(complete[0, 0])
