"""Real speech for tests: a human reading Beckett, and espeak-ng saying whatever a test wants to hear."""

import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample
from avatar.engines.tts.espeak import Espeak

QUESTION, ANSWER, COUNTRY = "What is the capital of Germany?", "Berlin", "Germany"
CLEAR_VOICE = "en-gb+f2"
"""In this voice of espeak-ng's Moonshine tiny got `QUESTION` right in 20 of 20 cuts, levels and noises; "capital of
France" in the default voice in 18 ("…the capital and France"), in en-gb's own in 12."""
BECKETT_WORDS = "ever tried ever failed no matter try again fail again fail better"
_BECKETT_PACKAGE = "useful-moonshine-onnx==20251121"
_CACHE = Path(__file__).parents[1] / ".pytest_cache" / "speech"


@cache
def beckett() -> Pcm:
    """Ten seconds of a man saying `BECKETT_WORDS`, float32, mono, 16 kHz: 0.3 s of room noise, "Ever tried." until
    1.2 s, "Ever failed." from 1.8 s. Fetched once with pip, so tests that use it are marked `weights`."""
    with zipfile.ZipFile(wheel(_BECKETT_PACKAGE)) as archive:
        data = archive.read("moonshine_onnx/assets/beckett.wav")
    pcm, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate_hz == INPUT_RATE_HZ
    return np.asarray(pcm, dtype=np.float32)


def wheel(package: str, cache: Path = _CACHE) -> Path:
    """The wheel of `package` (`name==version`), fetched once with pip into `cache`, a folder for it alone."""
    if not any(cache.glob("*.whl")):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:  # test processes may fetch it at the same time
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
            subprocess.run([*command, package], check=True)
            for file in Path(folder).glob("*.whl"):
                file.rename(cache / file.name)
    return next(cache.glob("*.whl"))


async def spoken(text: str, *, language: str | None = None, voice: str | None = None) -> Pcm:
    """`text` as espeak-ng says it (`voice`: one of its own, "en-us+f3"), float32, mono, 16 kHz, nothing around it."""
    engine = Espeak()

    async def piece() -> AsyncIterator[str]:
        yield text

    try:
        chunks = [chunk.pcm async for chunk in engine.speak(piece(), voice=voice, language=language)]
    finally:
        await engine.aclose()
    return resample(np.concatenate(chunks), engine.sample_rate_hz, INPUT_RATE_HZ)


def words(text: str) -> list[str]:
    """The words of a transcript, without case and punctuation."""
    return "".join(char.lower() if char.isalnum() else " " for char in text).split()


MOST = 0.8
"""Of the words of a sentence, heard by Moonshine tiny as espeak-ng says it: "…is Merlin" for "…is Berlin" happens."""


def share_heard(written: str, heard: str) -> float:
    """Which part of the words of `written` is in `heard`, in their order."""
    matches = SequenceMatcher(None, words(written), words(heard), autojunk=False).get_matching_blocks()
    return sum(match.size for match in matches) / len(words(written))
