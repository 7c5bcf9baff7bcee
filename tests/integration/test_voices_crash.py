"""kill -9 in the middle of an enrolment: the next start goes on with it, and no half-made voice is ever ready."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import enrol_and_die
from tests.integration.enrol_and_die import open_library
from tests.integration.voices import at_level, wav
from tests.speech import beckett

pytestmark = pytest.mark.weights

STEPS = ("queued", "decode", "quality", "embedding", "conditioning", "done")


@pytest.fixture
def weights(models_dir: Path) -> Path:
    return models_dir / "ge2e-speaker"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.wav"
    path.write_bytes(wav(at_level(beckett())))
    return path


def die(folder: Path, weights: Path, recording: Path, step: str) -> None:
    command = [sys.executable, "-m", enrol_and_die.__name__, str(folder), str(weights), str(recording), step]
    assert subprocess.run(command, timeout=60).returncode == -9


@pytest.mark.parametrize("step", STEPS)
async def test_an_enrolment_goes_on_where_it_was(tmp_path: Path, weights: Path, recording: Path, step: str) -> None:
    folder = tmp_path / "data"
    (folder / "voices" / ".incoming").mkdir(parents=True)
    (folder / "voices" / ".incoming" / "cut-off").write_bytes(b"RIFF")
    (folder / "voices" / "voice_never_saved").mkdir()
    await asyncio.to_thread(die, folder, weights, recording, step)
    store, library = await open_library(folder, weights, lambda progress: None)
    (profile,) = library.all()
    assert profile.status == {"done": "ready", "queued": "queued"}.get(step, "enrolling")
    library.start(())
    async with asyncio.timeout(30):
        while library.get(profile.id).status != "ready":  # noqa: ASYNC110  (it has no event to wait for)
            await asyncio.sleep(0.02)
    assert (await library.embedding(profile.id)).shape == (256,)
    assert {path.name for path in (folder / "voices").iterdir()} == {".incoming", ".conditioning", profile.id}
    assert not list((folder / "voices" / ".incoming").iterdir())
    await library.aclose()
    await store.aclose()


async def test_a_recording_that_kills_the_server_every_time_is_given_up(
    tmp_path: Path, weights: Path, recording: Path
) -> None:
    for _ in range(2):
        await asyncio.to_thread(die, tmp_path / "data", weights, recording, "quality")
    store, library = await open_library(tmp_path / "data", weights, lambda progress: None)
    library.start(())
    (profile,) = library.all()
    async with asyncio.timeout(10):
        while library.get(profile.id).status != "failed":  # noqa: ASYNC110  (it has no event to wait for)
            await asyncio.sleep(0.02)
    assert "made the server fail" in (library.get(profile.id).problem or "")
    await library.aclose()
    await store.aclose()
