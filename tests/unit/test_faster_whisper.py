"""faster-whisper on a tiny model of random weights: loading, languages, and staying off the network."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from avatar.core.audio import Pcm
from avatar.core.errors import EngineFailed
from avatar.engines.base import SpeechTranslation, WordTiming
from avatar.engines.stt.faster_whisper import FasterWhisper
from tests.tiny_whisper import make_tiny_whisper


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_whisper(tmp_path)


@pytest.fixture
async def whisper(folder: Path) -> AsyncIterator[FasterWhisper]:
    engine = FasterWhisper(folder, device="cpu", threads=1)
    await engine.warm_up()
    yield engine
    await engine.aclose()


@pytest.fixture
def noise() -> Pcm:
    return np.random.default_rng(0).standard_normal(48_000, dtype=np.float32) * np.float32(0.1)


@pytest.mark.parametrize("file", ["model.bin", "config.json", "tokenizer.json"])
async def test_an_incomplete_folder_is_refused_and_nothing_is_fetched(
    folder: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("faster-whisper went to the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    (folder / file).unlink()
    engine = FasterWhisper(folder)
    with pytest.raises(EngineFailed, match=file):
        await engine.warm_up()
    await engine.aclose()


async def test_a_known_language_is_taken_and_an_unknown_one_detected(whisper: FasterWhisper, noise: Pcm) -> None:
    languages = []
    for hint in ("de", None, "xx"):
        stream = whisper.open(hint)
        stream.accept(noise)
        languages.append((await stream.finish()).language)
        await stream.aclose()
    german, detected, unknown = languages
    assert german == "de"
    assert detected == unknown != "xx"


async def test_text_has_a_bound(whisper: FasterWhisper, noise: Pcm) -> None:
    """Random weights never stop by themselves: three seconds may give 16 tokens a second and 16 more."""
    stream = whisper.open()
    stream.accept(noise)
    assert 0 < len((await stream.finish()).text.split("word")) <= 16 * 3 + 16 + 1
    await stream.aclose()


def test_english_only_models_say_so() -> None:
    assert FasterWhisper(Path("faster-whisper-tiny.en")).capabilities.languages == {"en"}
    assert FasterWhisper(Path("faster-whisper-tiny")).capabilities.languages == frozenset()


async def test_when_each_word_was_said(whisper: FasterWhisper, noise: Pcm) -> None:
    assert isinstance(whisper, WordTiming)
    transcript = await whisper.time_words(noise, "de")
    stream = whisper.open("de")
    stream.accept(noise)
    assert transcript.text == (await stream.finish()).text
    await stream.aclose()
    assert transcript.words
    assert "".join(word.text for word in transcript.words) in transcript.text.replace(" ", "")
    times = [time for word in transcript.words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= 3


async def test_it_translates_where_the_model_was_taught_to(whisper: FasterWhisper, noise: Pcm) -> None:
    assert isinstance(whisper, SpeechTranslation)
    texts = []
    for stream in (whisper.open("zh"), whisper.open_translation("zh"), whisper.open_translation("zh")):
        stream.accept(noise)
        transcript = await stream.finish()
        texts.append(transcript.text)
        assert transcript.language == "zh"
        await stream.aclose()
    assert texts[0] != texts[1] == texts[2]
    for name, translates in (("tiny", True), ("tiny.en", False), ("large-v3-turbo", False)):
        assert FasterWhisper(Path(f"faster-whisper-{name}")).capabilities.translates is translates
