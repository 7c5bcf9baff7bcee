"""The contract of every voice, kept by F5-TTS on a model of no size."""

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from avatar.core.errors import EngineFailed
from avatar.core.voices import Reference
from avatar.engines.tts.f5.adapter import NOBODY, F5Tts
from avatar.engines.tts.f5.files import MODEL, VOCODER
from tests.contract.test_tts_contract import ClonesVoicesContract, Pieces, audio, marks, refuses_to_load, speak
from tests.tiny_f5 import make_weights

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("f5"))


def made(weights: Path, **options: object) -> F5Tts:
    return F5Tts(weights, device="cpu", **{"steps": 5, **options})  # type: ignore[arg-type]


class TestF5(ClonesVoicesContract):
    @pytest_asyncio.fixture
    async def engine(self, weights: Path) -> AsyncIterator[F5Tts]:
        engine = made(weights)
        await engine.warm_up()
        yield engine
        await engine.aclose()
        await engine.aclose()

    async def test_it_says_what_it_is_made_of(self, engine: F5Tts) -> None:
        assert engine.name == "f5-tts (v1, 5 steps, cpu)"
        assert engine.voices == (NOBODY,)

    async def test_the_same_text_sounds_the_same_and_another_voice_different(self, engine: F5Tts) -> None:
        once, again = [audio(await speak(engine, "Hello there.")) for _ in range(2)]
        np.testing.assert_array_equal(once, again)
        engine.learn("voice_x", await engine.condition(self.reference))
        other = audio(await speak(engine, "Hello there.", voice="voice_x"))
        size = min(once.size, other.size)
        assert size
        assert np.abs(once[:size] - other[:size]).mean() > 0.001

    async def test_speech_is_as_fast_as_the_recording_and_the_speed_asked_for(
        self, engine: F5Tts, weights: Path
    ) -> None:
        slow = dataclasses.replace(self.reference, text="Ever.")
        engine.learn("voice_x", await engine.condition(self.reference))
        engine.learn("voice_y", await engine.condition(slow))
        usual, slower = [audio(await speak(engine, "Hello there.", voice=f"voice_{it}")).size for it in "xy"]
        assert slower > 2.5 * usual
        fast = made(weights, speed=2.0)
        fast.learn("voice_x", await engine.condition(self.reference))
        assert audio(await speak(fast, "Hello there.", voice="voice_x")).size == pytest.approx(usual / 2, rel=0.1)
        await fast.aclose()

    async def test_a_long_piece_is_spoken_in_parts(self, engine: F5Tts) -> None:
        text = "This is a sentence of no great length. " * 12
        chunks = await speak(engine, text)
        assert marks(chunks)[-1].text_end == len(text)
        assert audio(chunks).size > 25 * engine.sample_rate_hz

    async def test_a_clause_nobody_wants_ends_within_a_step(
        self, engine: F5Tts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps, begun = 0, threading.Event()
        network = (await engine._threads.run(lambda loaded: loaded[0])).flow.network
        forward = type(network).forward

        def counting(self: object, *args: object) -> object:
            nonlocal steps
            steps += 1
            begun.set()
            return forward(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(type(network), "forward", counting)
        task = asyncio.create_task(speak(engine, "One two three four five six. " * 6))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await engine.warm_up()  # behind what was running
        assert steps < 5

    async def test_a_recording_that_does_not_do_is_refused_with_what_to_do(self, engine: F5Tts) -> None:
        for wrong, why in (
            (dataclasses.replace(self.reference, text=" "), "reference text"),
            (Reference(self.reference.pcm[:2_000], 24_000, "Ever."), "at least 1 s"),
            (Reference(np.tile(self.reference.pcm, 8), 24_000, "Ever tried."), "up to 20 s"),
        ):
            with pytest.raises(EngineFailed, match=why):
                await engine.condition(wrong)

    async def test_odd_characters_are_survived(self, engine: F5Tts) -> None:
        text = "\0 \ud800 a\u200db \x1b[31m <speak> [[x]] &amp; 👍🏽 ok"
        assert marks(await speak(engine, text))[-1].text_end == len(text)
        odd = dataclasses.replace(self.reference, text="Ever \ud800 tried.")
        engine.learn("voice_x", await engine.condition(odd))
        assert audio(await speak(engine, "Hello.", voice="voice_x")).size

    async def test_voices_are_learned_before_the_model_is_loaded(self, engine: F5Tts, weights: Path) -> None:
        cold = made(weights)
        cold.learn("voice_x", await engine.condition(self.reference))
        async with aclosing(cold.speak(aiter(Pieces(["Hello."])), voice="voice_x")) as chunks:
            assert (await anext(chunks)).pcm.size
        await cold.aclose()


async def test_a_model_trained_on_from_it_is_found(tmp_path: Path) -> None:
    weights = make_weights(tmp_path)
    (weights / MODEL).parent.rename(weights / "mine")
    (weights / "mine" / Path(MODEL).name).rename(weights / "mine" / "model_last.safetensors")
    engine = made(weights)
    assert audio(await speak(engine, "Hello.")).size
    await engine.aclose()


@pytest.mark.parametrize("name", [MODEL, VOCODER])
async def test_weights_that_are_missing_are_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    weights = make_weights(tmp_path)
    (weights / name).unlink()
    engine = made(weights)
    await refuses_to_load(engine, f"{Path(name).name} is missing")


async def test_no_thread_is_left(weights: Path) -> None:
    engine = made(weights)
    await speak(engine, "Hello.")  # loads on first use
    await engine.aclose()
    assert not any(thread.name.startswith("f5-tts") for thread in threading.enumerate())
