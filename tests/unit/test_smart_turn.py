"""Smart Turn with its real weights: a finished sentence from an unfinished one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from avatar.core.errors import EngineFailed
from avatar.engines.end_of_turn.smart_turn import SmartTurn
from tests.speech import beckett


@pytest.fixture
async def smart_turn(models_dir: Path) -> AsyncIterator[SmartTurn]:
    engine = SmartTurn(models_dir / "smart-turn-v3" / "smart-turn-v3.2-cpu.onnx")
    await engine.warm_up()
    yield engine
    await engine.aclose()


@pytest.mark.weights
async def test_finished_and_unfinished(smart_turn: SmartTurn) -> None:
    pcm = beckett()
    assert await smart_turn.probability(pcm) > 0.7
    assert await smart_turn.probability(pcm[: 2 * 16_000]) < 0.3  # "Ever tried. Ever"


@pytest.mark.weights
async def test_only_the_last_eight_seconds_count(smart_turn: SmartTurn) -> None:
    pcm = beckett()
    assert await smart_turn.probability(pcm) == await smart_turn.probability(pcm[-8 * 16_000 :])


async def test_missing_weights_are_named(tmp_path: Path) -> None:
    engine = SmartTurn(tmp_path / "none.onnx")
    with pytest.raises(EngineFailed, match=r"none\.onnx are missing"):
        await engine.warm_up()
    await engine.aclose()
