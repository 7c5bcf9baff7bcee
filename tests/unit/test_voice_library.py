"""The voice library when the store refuses, and when engines are still learning what has changed again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from avatar.core.audio import Pcm, silence
from avatar.core.errors import EngineFailed, StoreError
from avatar.core.voices import VoiceProfile
from avatar.voices.embedding import DIMENSIONS
from avatar.voices.enrolment import Enrolment, Means
from avatar.voices.folder import VoiceFolder
from avatar.voices.jobs import JobPolicy
from avatar.voices.library import VoiceLibrary
from tests.fakes.cloner import FakeCloner

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ANN = VoiceProfile(
    id="voice_ann",
    name="Ann",
    status="ready",
    created_at=NOW,
    updated_at=NOW,
    content_sha256="a",
    reference_text="One.",
    consent_statement="This is my own voice.",
    consent_date=date(2026, 11, 20),
    is_default=True,
)
CAM = replace(ANN, id="voice_cam", name="Cam", status="enrolling", attempts=2, is_default=False)
BEN = replace(ANN, id="voice_ben", name="Ben", content_sha256="b", is_default=False)


class Rows:
    """Profiles in memory; `broken` refuses changes."""

    def __init__(self, *profiles: VoiceProfile) -> None:
        self.profiles = profiles or (ANN, BEN)
        self.broken = False

    async def all(self) -> list[VoiceProfile]:
        return list(self.profiles)

    async def save(self, profile: VoiceProfile) -> None:
        await self.delete(profile.id)

    async def delete(self, voice_id: str) -> None:
        await asyncio.sleep(0.01)
        if self.broken:
            raise StoreError("The disk is full.")


async def _decode(data: bytes) -> Pcm:
    raise EngineFailed("nobody enrols here")


async def _recognise(data: bytes) -> None:
    """Whatever it is."""


async def _hear(pcm: Pcm, language: str | None) -> tuple[str, str | None]:
    raise EngineFailed("nobody enrols here")


@asynccontextmanager
async def opened(
    folder: Path, rows: Rows, decode: Callable[[bytes], Awaitable[Pcm]] = _decode
) -> AsyncIterator[VoiceLibrary]:
    """The voices of `rows`: Ann, whose voice is the default, and Ben as a rule."""
    for voice in rows.profiles:
        (folder / voice.id).mkdir()
        (folder / voice.id / "source").touch()
        VoiceFolder(folder).save(voice.id, silence(24_000), np.zeros(DIMENSIONS, np.float32))
    enrolment = Enrolment(Means(decode, _recognise, lambda pcm: [], _hear), lambda: folder)
    library = await VoiceLibrary.open(folder, rows, enrolment, lambda progress: None, JobPolicy())
    try:
        yield library
    finally:
        await library.aclose()


async def settled(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110  (files are read in threads: there is nothing else to wait for)
            await asyncio.sleep(0.01)


async def test_what_the_store_refuses_changes_nothing(tmp_path: Path) -> None:
    rows = Rows()
    async with opened(tmp_path, rows) as library:
        rows.broken = True
        with pytest.raises(StoreError):
            await library.change(BEN.id, is_default=True)
        assert library.default == ANN
        with pytest.raises(StoreError):
            await library.delete(BEN.id)
        assert library.get(BEN.id) == BEN
        rows.broken = False
        await library.change(BEN.id, is_default=True)
        assert [voice.id for voice in library.all() if voice.is_default] == [BEN.id]
        await library.delete(BEN.id)
        assert [voice.id for voice in library.all()] == [ANN.id]


async def test_words_that_change_while_an_engine_learns_them_are_learned_too(tmp_path: Path) -> None:
    engine = FakeCloner()
    async with opened(tmp_path, Rows()) as library:
        library.start([engine])
        await settled(lambda: len(engine.learned) == 2)
        engine.hold.clear()
        await library.change(ANN.id, reference_text="Two.")
        await asyncio.sleep(1)  # it is being learned
        await library.change(ANN.id, reference_text="Three.")
        engine.hold.set()
        await settled(lambda: engine.learned[ANN.id].endswith(b"Three."))


async def test_an_engine_that_comes_while_another_one_learns_learns_every_voice(tmp_path: Path) -> None:
    old, new = FakeCloner(), FakeCloner()
    new.conditioning_version = "fake-2"
    old.hold.clear()
    async with opened(tmp_path, Rows()) as library:
        library.start([old])
        await asyncio.sleep(1)
        library.start([new])
        old.hold.set()
        await settled(lambda: new.learned.keys() == {ANN.id, BEN.id})


async def test_an_engine_that_comes_in_the_last_attempt_of_an_enrolment_brings_new_ones(tmp_path: Path) -> None:
    """The recording, which made no server fail, is not blamed."""
    began, may_fail = 0, asyncio.Event()

    async def decode(data: bytes) -> Pcm:
        nonlocal began
        began += 1
        await may_fail.wait()
        raise EngineFailed("too busy")

    async with opened(tmp_path, Rows(CAM), decode) as library:
        library.start([FakeCloner()])
        await settled(lambda: began == 1)
        library.start([FakeCloner()])
        may_fail.set()
        await settled(lambda: began == 2)
        assert (library.get(CAM.id).status, library.get(CAM.id).attempts) == ("enrolling", 1)
        await settled(lambda: library.get(CAM.id).status == "failed")
        assert (began, library.get(CAM.id).problem_code) == (4, "ENGINE_FAILED")


async def test_a_failure_that_the_store_refuses_is_shown_and_tried_again_by_wish_or_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = Rows(replace(CAM, status="queued", attempts=0))
    rows.broken = True
    async with opened(tmp_path, rows) as library:
        library.start(())
        await settled(lambda: library.get(CAM.id).status == "failed")
        assert library.get(CAM.id).problem_code == "NOT_SAVED"
        assert f"the voice {CAM.id} is failed is not in the store" in caplog.text
        assert [voice.status for voice in await rows.all()] == ["queued"]  # as the next start finds it
        rows.broken = False
        assert (await library.enrol(CAM.id)).status == "queued"
        await settled(lambda: library.get(CAM.id).problem_code == "ENGINE_FAILED")
