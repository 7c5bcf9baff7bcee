"""The service as a whole: it starts or says why not, and whatever fails while it ends, the rest is closed."""

import gc
from pathlib import Path

import pytest

from avatar.core.errors import EngineFailed
from avatar.engines.base import STAGES
from avatar.service import COLLECT_AFTER, Service
from tests.integration.serving import fake_engines, picks_of, settings_for, settled
from tests.unit.conversation import Fakes


async def test_an_engine_that_will_not_close_keeps_nothing_else_open(tmp_path: Path) -> None:
    fakes = Fakes()

    async def refuse() -> None:
        raise EngineFailed("It is stuck.")

    fakes.vad.aclose = refuse  # type: ignore[method-assign]
    with pytest.raises(EngineFailed, match="stuck"):
        async with (service := Service(settings_for(tmp_path), picks_of(fake_engines(fakes)))).running():
            await settled(lambda: service.lineup.seats["tts"].state == "ready")
    assert fakes.llm.closed
    assert fakes.tts.closed
    async with Service(settings_for(tmp_path), picks_of(fake_engines())).running():
        pass  # the data folder was let go


async def test_a_secret_that_cannot_be_kept_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(OSError, match="secret"):
        async with Service(settings_for(tmp_path), picks_of(fake_engines())).running():
            pass
    (tmp_path / "secret").rmdir()
    async with Service(settings_for(tmp_path), picks_of(fake_engines())).running():
        pass


@pytest.mark.parametrize("left", [b"", b"cut off"])
async def test_a_secret_that_was_cut_off_is_made_anew(tmp_path: Path, left: bytes) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(left)
    async with Service(settings_for(tmp_path), picks_of(fake_engines())).running():
        pass
    made = secret.read_bytes()
    assert len(made) == 32
    async with Service(settings_for(tmp_path), picks_of(fake_engines())).running():
        pass
    assert secret.read_bytes() == made


async def test_what_was_loaded_is_searched_for_garbage_no_more_until_the_end(tmp_path: Path) -> None:
    before = gc.get_freeze_count(), gc.get_threshold()
    async with (service := Service(settings_for(tmp_path), picks_of(fake_engines()))).running():
        await settled(lambda: all(service.lineup.seats[stage].state == "ready" for stage in STAGES))
        assert gc.get_freeze_count() > before[0] + 10_000
        assert gc.get_threshold() == COLLECT_AFTER
        loaded = gc.get_freeze_count()
        async with service.sessions.slot():  # what a talk holds is not there for ever
            service.lineup.load("tts", picks_of(fake_engines())["tts"])
            await settled(lambda: service.lineup.seats["tts"].state == "ready")
            assert gc.get_freeze_count() <= loaded
    assert (gc.get_freeze_count(), gc.get_threshold()) == before
