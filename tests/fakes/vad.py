"""Voice activity by loudness: what a test plays loud is speech, what it plays quiet is not."""

import numpy as np

from avatar.core.audio import Pcm
from avatar.engines.base import Capabilities

SPEECH_RMS = 0.02


class FakeVoiceActivity:
    """Fills `VoiceActivity`: 0.99 for a frame louder than `SPEECH_RMS`, else 0.01."""

    name = "fake voice activity"
    capabilities = Capabilities(streams=True)
    frame_samples = 512

    def __init__(self) -> None:
        self.opened = 0

    async def warm_up(self) -> None: ...

    async def aclose(self) -> None: ...

    def open(self) -> "FakeVoiceStream":
        self.opened += 1
        return FakeVoiceStream()


class FakeVoiceStream:
    """Fills `VoiceStream`; it has no past to forget."""

    def probabilities(self, pcm: Pcm) -> list[float]:
        size = FakeVoiceActivity.frame_samples
        if not pcm.size or pcm.size % size:
            raise ValueError(f"a frame has {size} samples: {pcm.size} are no whole number of them")
        loudness = np.sqrt(np.mean(np.square(pcm.reshape(-1, size)), axis=1))
        return [0.99 if rms > SPEECH_RMS else 0.01 for rms in loudness]

    def reset(self) -> None: ...
