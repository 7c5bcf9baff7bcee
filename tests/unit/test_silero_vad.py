"""Silero, against the way faster-whisper runs the same weights."""

import numpy as np
import pytest
from faster_whisper.vad import get_vad_model

from avatar.core.audio import silence
from avatar.core.errors import EngineFailed
from avatar.engines.vad.silero import SileroVad
from tests.speech import spoken


async def test_it_hears_what_faster_whisper_hears() -> None:
    speech = await spoken("Is this the same as before?")
    pcm = np.concatenate((silence(4000), speech, silence(4000)))
    pcm = pcm[: pcm.size - pcm.size % 512]
    vad = SileroVad()
    await vad.warm_up()
    ours = vad.open().probabilities(pcm)
    theirs = get_vad_model()(pcm)
    # faster-whisper blanks the end of the last frame
    assert ours[:-1] == pytest.approx(theirs[: len(ours) - 1].tolist(), abs=1e-3)
    await vad.aclose()


async def test_it_must_be_loaded_before_it_listens() -> None:
    vad = SileroVad()
    with pytest.raises(EngineFailed, match="warm it up"):
        vad.open()
    await vad.warm_up()
    await vad.aclose()
    with pytest.raises(EngineFailed, match="warm it up"):
        vad.open()
