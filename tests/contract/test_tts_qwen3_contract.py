"""The contract of every voice, kept by our Qwen3-TTS engine on models of no size."""

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from avatar.core.errors import EngineFailed, EngineLost
from avatar.core.voices import Reference
from avatar.engines.tts.qwen3.adapter import NOBODY, Qwen3Tts
from avatar.engines.tts.qwen3.engine import Engine
from tests.contract.test_tts_contract import (
    ClonesVoicesContract,
    Pieces,
    TextToSpeechContract,
    audio,
    marks,
    refuses_to_load,
    speak,
)
from tests.tiny_qwen3 import make_weights

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("custom"), "custom")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_weights(tmp_path_factory.mktemp("base"), "base")


def made(weights: Path, **options: object) -> Qwen3Tts:
    """These models do not know where to end, and read every letter as a token: they are cut off sooner."""
    return Qwen3Tts(weights, device="cpu", slots=8, **{"patience": 0.8, **options})  # type: ignore[arg-type]


class TestSpeakers(TextToSpeechContract):
    @pytest_asyncio.fixture
    async def engine(self, custom: Path) -> AsyncIterator[Qwen3Tts]:
        engine = made(custom)
        await engine.warm_up()
        yield engine
        await engine.aclose()
        await engine.aclose()

    async def test_it_has_the_models_speakers_and_languages(self, engine: Qwen3Tts) -> None:
        assert engine.voices == ("serena", "eric")
        assert made(engine._weights, voice="Eric").voices == ("eric", "serena")
        assert engine.capabilities.languages == {"en", "zh", "ru"}
        assert not engine.capabilities.clones
        assert engine.capabilities.has_own_voices
        assert engine.name == "qwen3-tts (0.6B custom voice, CPU)"

    async def test_voice_and_language_make_a_difference(self, engine: Qwen3Tts) -> None:
        spoken = [
            audio(await speak(engine, "Hello.", voice=voice, language=language))
            for voice, language in (("serena", "en"), ("ERIC", "en"), ("serena", "zh"))
        ]
        size = min(pcm.size for pcm in spoken)
        assert size
        for n in range(3):
            assert np.abs(spoken[n][:size] - spoken[n - 1][:size]).mean() > 0.001

    async def test_an_unknown_language_is_left_to_the_model(self, engine: Qwen3Tts) -> None:
        unknown = audio(await speak(engine, "Hello.", language="sw"))
        none = audio(await speak(engine, "Hello."))
        np.testing.assert_array_equal(unknown, none)

    async def test_a_long_text_is_several_utterances(self, engine: Qwen3Tts) -> None:
        pieces = [f"This is sentence number {word}. " for word in ("one", "two", "three", "four") * 7]
        chunks = await speak(engine, *pieces)
        assert marks(chunks)[-1].text_end == len("".join(pieces)) > 700
        assert engine._engine is not None
        assert (await engine._engine.stats())["opened"] == 1 + 2

    async def test_a_session_is_freed_when_its_generator_is_closed(self, engine: Qwen3Tts) -> None:
        stream = engine.speak(aiter(Pieces(["One two three. " * 50])))
        await anext(stream)
        await stream.aclose()
        assert engine._engine is not None
        stats = await engine._engine.stats()
        assert (stats["active"], stats["waiting"]) == (0, 0)

    async def test_an_engine_that_dies_in_the_middle_is_lost(
        self, engine: Qwen3Tts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stream = engine.speak(aiter(Pieces(["One two three. " * 50])))
        await anext(stream)
        assert isinstance(engine._engine, Engine)
        await asyncio.to_thread(engine._engine.close)
        with pytest.raises(EngineLost):
            _ = [chunk async for chunk in stream]
        with pytest.raises(EngineFailed):
            await speak(engine, "Hello.")


class TestClones(ClonesVoicesContract):
    reference = dataclasses.replace(
        ClonesVoicesContract.reference,
        pcm=(0.3 * np.sin(np.arange(24_000, dtype=np.float32) / 20)).astype(np.float32),
    )

    @pytest_asyncio.fixture(params=["recording", "vector"])
    async def engine(self, base: Path, request: pytest.FixtureRequest) -> AsyncIterator[Qwen3Tts]:
        engine = made(base, clones_by=request.param)
        await engine.warm_up()
        yield engine
        await engine.aclose()

    async def test_a_recording_without_its_words_is_a_vector(self, engine: Qwen3Tts) -> None:
        wordless = await engine.condition(Reference(self.reference.pcm, 24_000))
        assert len(wordless) < 600
        engine.learn("voice_x", wordless)
        assert not engine._resolve("voice_x", "en").reads_whole_pieces
        assert engine.voices == (NOBODY, "voice_x")
        assert not engine.capabilities.has_own_voices

    async def test_a_recording_that_does_not_do_is_refused(self, engine: Qwen3Tts) -> None:
        with pytest.raises(EngineFailed, match="A voice is made of"):
            await engine.condition(Reference(self.reference.pcm[:2_000], 24_000))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"config\.json is missing"):
        made(tmp_path)


async def test_weights_that_are_missing_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    weights = make_weights(tmp_path, "custom")
    (weights / "model.safetensors").unlink()
    engine = made(weights)
    await refuses_to_load(engine, r"model\.safetensors is missing")


async def test_no_thread_is_left(custom: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    engine = made(custom)
    await speak(engine, "Hello.")  # loads on first use
    await engine.aclose()
    assert "qwen3-tts" not in {thread.name for thread in threading.enumerate()} - before
