"""Moonshine with its real weights: what its decoding loop must get right."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from avatar.core.audio import Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.stt.moonshine import Moonshine
from tests.speech import BECKETT_WORDS, beckett, words


@pytest.fixture
async def moonshine(models_dir: Path) -> AsyncIterator[Moonshine]:
    engine = Moonshine(models_dir / "moonshine-tiny-en", threads=2)
    await engine.warm_up()
    yield engine
    await engine.aclose()


async def hear(engine: Moonshine, pcm: Pcm) -> list[str]:
    stream = engine.open()
    stream.accept(pcm)
    transcript = await stream.finish()
    await stream.aclose()
    return words(transcript.text)


@pytest.mark.weights
async def test_silence_around_a_phrase_does_not_hide_it(moonshine: Moonshine) -> None:
    phrase = beckett()[int(6.6 * 16_000) : int(7.5 * 16_000)]
    for before, after in ((0, 0), (16_000, 0), (0, 16_000), (16_000, 32_000)):
        assert await hear(moonshine, np.concatenate((silence(before), phrase, silence(after)))) == ["fail", "again"]


@pytest.mark.weights
async def test_long_speech_is_heard_to_its_end(moonshine: Moonshine) -> None:
    """Thirty seconds, so two cuts; a cut may cost a word at most."""
    heard = await hear(moonshine, np.concatenate([beckett()] * 3))
    expected = words(BECKETT_WORDS) * 3
    assert abs(len(heard) - len(expected)) <= 2
    assert heard[-1] == "better"
    assert heard.count("ever") == 6


@pytest.mark.weights
@pytest.mark.parametrize("level", [2e-3, 0.02, 0.2])
async def test_noise_is_not_speech(moonshine: Moonshine, level: float) -> None:
    noise = np.random.default_rng(0).standard_normal(32_000, dtype=np.float32) * np.float32(level)
    assert await hear(moonshine, noise.clip(-1, 1)) == []


@pytest.mark.weights
async def test_cancelled_streams_stop_decoding(moonshine: Moonshine) -> None:
    """Half a minute of speech each, forty times: decoded to the end it would keep both threads for many seconds."""
    long = np.concatenate([beckett()] * 3)
    streams = [moonshine.open() for _ in range(40)]
    tasks = []
    for stream in streams:
        stream.accept(long)
        tasks.append(asyncio.create_task(stream.finish()))
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    async with asyncio.timeout(5):
        assert await hear(moonshine, beckett()) == words(BECKETT_WORDS)
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("moonshine")]) <= 2


@pytest.mark.parametrize("present", [[], ["encoder_model.onnx"]])
async def test_missing_weights_are_named(tmp_path: Path, present: list[str]) -> None:
    for name in present:
        (tmp_path / name).write_bytes(b"")
    engine = Moonshine(tmp_path)
    with pytest.raises(EngineFailed, match=r"encoder_model\.onnx"):
        await engine.warm_up()
    await engine.aclose()
