"""What every end-of-turn engine, and its fake, must do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from avatar.core.audio import silence
from avatar.engines.base import EndOfTurn
from avatar.engines.end_of_turn.smart_turn import SmartTurn
from tests.fakes.end_of_turn import FakeEndOfTurn

ENGINES = ["fake", pytest.param("smart-turn", marks=pytest.mark.weights)]


def make(name: str, request: pytest.FixtureRequest) -> EndOfTurn:
    if name == "fake":
        return FakeEndOfTurn(delay_s=0.01)
    models_dir: Path = request.getfixturevalue("models_dir")
    return SmartTurn(models_dir / "smart-turn-v3" / "smart-turn-v3.2-cpu.onnx")


@pytest.fixture(params=ENGINES)
async def end_of_turn(request: pytest.FixtureRequest) -> AsyncIterator[EndOfTurn]:
    engine = make(request.param, request)
    await engine.warm_up()
    yield engine
    await engine.aclose()


def test_it_is_what_the_protocol_says(end_of_turn: EndOfTurn) -> None:
    assert isinstance(end_of_turn, EndOfTurn)
    assert end_of_turn.name


@pytest.mark.parametrize("samples", [0, 1, 400, 16_000, 200_000])
async def test_any_length_gives_a_probability(end_of_turn: EndOfTurn, samples: int) -> None:
    noise = np.random.default_rng(2).standard_normal(samples, dtype=np.float32) * np.float32(0.1)
    probability = await end_of_turn.probability(noise)
    assert type(probability) is float
    assert 0.0 <= probability <= 1.0


async def test_the_same_sound_gives_the_same_answer_to_all_at_once(end_of_turn: EndOfTurn) -> None:
    noise = np.random.default_rng(3).standard_normal(50_000, dtype=np.float32) * np.float32(0.1)
    answers = await asyncio.gather(*(end_of_turn.probability(noise) for _ in range(4)))
    assert len(set(answers)) == 1


async def test_the_loop_turns_while_it_thinks(end_of_turn: EndOfTurn) -> None:
    question = asyncio.ensure_future(end_of_turn.probability(silence(16_000)))
    turns = 0
    while not question.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10


async def test_it_works_on_after_a_cancelled_question(end_of_turn: EndOfTurn) -> None:
    question = asyncio.ensure_future(end_of_turn.probability(silence(16_000)))
    await asyncio.sleep(0)
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
    assert 0.0 <= await end_of_turn.probability(silence(16_000)) <= 1.0


async def test_warming_and_closing_may_be_repeated(end_of_turn: EndOfTurn) -> None:
    await end_of_turn.warm_up()
    await end_of_turn.aclose()
    await end_of_turn.aclose()


@pytest.mark.parametrize("name", ENGINES)
async def test_closing_before_warming_is_fine(name: str, request: pytest.FixtureRequest) -> None:
    await make(name, request).aclose()
