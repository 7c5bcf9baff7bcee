"""A process that enrols a recording and kills itself at a step of it: `python -m … FOLDER WEIGHTS RECORDING STEP`."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import soundfile

from avatar.core.audio import Pcm, resample
from avatar.core.progress import JobProgress
from avatar.engines.vad.silero import SileroVad
from avatar.store import Store
from avatar.voices.enrolment import Enrolment, Means
from avatar.voices.folder import REFERENCE_RATE_HZ
from avatar.voices.jobs import JobPolicy
from avatar.voices.library import NewVoice, VoiceLibrary

NEW = NewVoice(name="Sam", consent_statement="It is mine.", consent_date=date(2026, 11, 20))


async def open_library(
    folder: Path, weights: Path, publish: Callable[[JobProgress], None]
) -> tuple[Store, VoiceLibrary]:
    """The library of `folder` with real voice activity and speaker encoder, decoding WAV alone."""
    vad = SileroVad()
    await vad.warm_up()

    async def decode(data: bytes) -> Pcm:
        pcm, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
        return resample(pcm, rate_hz, REFERENCE_RATE_HZ)

    async def recognise(data: bytes) -> None:
        soundfile.info(io.BytesIO(data))

    async def transcribe(pcm: Pcm, language: str | None) -> tuple[str, str | None]:
        return "Ever tried.", "en"

    means = Means(decode, recognise, lambda pcm: vad.open().probabilities(pcm), transcribe)
    store = await Store.open(folder)
    enrolment = Enrolment(means, lambda: weights)
    return store, await VoiceLibrary.open(folder / "voices", store.voices, enrolment, publish, JobPolicy(attempts=2))


async def main(folder: Path, weights: Path, recording: Path, step: str) -> None:
    def publish(progress: JobProgress) -> None:
        if step in (progress.step, progress.state):
            os.kill(os.getpid(), signal.SIGKILL)

    _, library = await open_library(folder, weights, publish)
    library.start(())
    if not library.all():
        with recording.open("rb") as file:
            await library.add(file, NEW)
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
