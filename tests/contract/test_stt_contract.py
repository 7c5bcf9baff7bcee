"""What every speech-to-text engine, and its fake, must do."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from avatar.core.audio import Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.base import SpeechToText, Transcript, TranscriptStream
from avatar.engines.stt.faster_whisper import FasterWhisper
from avatar.engines.stt.moonshine import Moonshine
from tests.fakes.stt import FakeSpeechToText
from tests.speech import BECKETT_WORDS, beckett, spoken, words
from tests.tiny_whisper import make_tiny_whisper

REAL = [pytest.param(name, marks=pytest.mark.weights) for name in ("moonshine", "faster-whisper")]
ENGINES = ["fake", "faster-whisper, random weights", REAL[0]]


def make(name: str, request: pytest.FixtureRequest) -> SpeechToText:
    if name == "fake":
        return FakeSpeechToText(lambda pcm: f"{pcm.size} samples", delay_s=0.01)
    if name == "faster-whisper, random weights":
        folder: Path = request.getfixturevalue("tmp_path_factory").mktemp("whisper")
        return FasterWhisper(make_tiny_whisper(folder), device="cpu", threads=1)
    models_dir: Path = request.getfixturevalue("models_dir")
    if name == "moonshine":
        return Moonshine(models_dir / "moonshine-tiny-en")
    folders = sorted(models_dir.glob("faster-whisper-*"))
    if not folders:
        pytest.skip("no faster-whisper weights among the models")
    return FasterWhisper(folders[0], device="cpu")


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, SpeechToText]]:
    """Engines by name, loaded once for all tests."""
    engines: dict[str, SpeechToText] = {}
    yield engines
    for engine in engines.values():
        asyncio.run(engine.aclose())


@pytest.fixture(params=ENGINES)
async def stt(request: pytest.FixtureRequest, loaded: dict[str, SpeechToText]) -> SpeechToText:
    if request.param not in loaded:
        loaded[request.param] = make(request.param, request)
    await loaded[request.param].warm_up()
    return loaded[request.param]


@pytest.fixture
async def question(stt: SpeechToText) -> Pcm:
    return await spoken("What is the capital of France?")


async def hear(stt: SpeechToText, *pieces: Pcm) -> Transcript:
    stream = stt.open()
    try:
        for piece in pieces:
            stream.accept(piece)
        return await stream.finish()
    finally:
        await stream.aclose()


def test_it_is_what_the_protocol_says(stt: SpeechToText) -> None:
    assert isinstance(stt, SpeechToText)
    assert stt.name
    assert stt.capabilities.concurrent >= 1


async def test_a_transcript_is_text_and_a_language(stt: SpeechToText, question: Pcm) -> None:
    transcript = await hear(stt, question)
    assert transcript.text == transcript.text.strip() != ""
    assert transcript.language is not None
    assert transcript.language.isalpha()


@pytest.mark.parametrize("samples", [0, 1, 200, 160_000])
async def test_silence_is_empty_text(stt: SpeechToText, samples: int) -> None:
    assert (await hear(stt, silence(samples))).text == ""


async def test_nothing_is_empty_text(stt: SpeechToText) -> None:
    assert (await hear(stt)).text == ""


@pytest.mark.parametrize("samples", [1, 100, 1000, 3000])
async def test_a_blip_is_no_error(stt: SpeechToText, samples: int) -> None:
    assert isinstance(await hear(stt, np.full(samples, 0.5, dtype=np.float32)), Transcript)


@pytest.mark.parametrize("chunk", [160, 512, 4999])
async def test_chunking_does_not_matter(stt: SpeechToText, question: Pcm, chunk: int) -> None:
    pieces = [question[start : start + chunk] for start in range(0, question.size, chunk)]
    assert await hear(stt, *pieces) == await hear(stt, question)


async def test_the_buffer_may_be_used_again(stt: SpeechToText, question: Pcm) -> None:
    stream = stt.open()
    buffer = np.empty(question.size, dtype=np.float32)
    buffer[:] = question
    stream.accept(buffer)
    buffer.fill(0)
    assert await stream.finish() == await hear(stt, question)
    await stream.aclose()


async def test_finish_twice_is_the_same(stt: SpeechToText, question: Pcm) -> None:
    stream = stt.open()
    stream.accept(question)
    assert await stream.finish() == await stream.finish()
    await stream.aclose()


async def test_what_comes_after_finish_extends_the_utterance(stt: SpeechToText, question: Pcm) -> None:
    stream = stt.open()
    half = question.size // 2
    stream.accept(question[:half])
    first = await stream.finish()
    stream.accept(question[half:])
    assert await stream.finish() == await hear(stt, question) != first
    await stream.aclose()


async def test_partial_is_a_transcript_and_changes_nothing(stt: SpeechToText, question: Pcm) -> None:
    stream = stt.open()
    stream.accept(question[:16_000])
    assert isinstance(await stream.partial(), Transcript)
    stream.accept(question[16_000:])
    assert await stream.finish() == await hear(stt, question)
    assert isinstance(await stream.partial(), Transcript)
    await stream.aclose()


async def test_partial_while_finishing_harms_neither(stt: SpeechToText, question: Pcm) -> None:
    stream = stt.open()
    stream.accept(question)
    partial, final = await asyncio.gather(stream.partial(), stream.finish())
    assert isinstance(partial, Transcript)
    assert final == await hear(stt, question)
    await stream.aclose()


async def test_streams_do_not_mix(stt: SpeechToText, question: Pcm) -> None:
    other = await spoken("Tell me a joke, please.")
    alone = [await hear(stt, question), await hear(stt, other)]
    together = await asyncio.gather(hear(stt, question), hear(stt, other), hear(stt, question))
    assert list(together) == [*alone, alone[0]]


async def begin(stt: SpeechToText, pcm: Pcm) -> tuple[TranscriptStream, "asyncio.Task[Transcript]"]:
    """A stream in the middle of `finish`."""
    stream = stt.open()
    stream.accept(pcm)
    finishing = asyncio.create_task(stream.finish())
    await asyncio.sleep(0)
    return stream, finishing


async def test_the_loop_turns_while_it_listens(stt: SpeechToText, question: Pcm) -> None:
    stream, finishing = await begin(stt, question)
    turns = 0
    while not finishing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 20
    await stream.aclose()


async def test_cancelling_ends_finish_and_not_the_stream(stt: SpeechToText, question: Pcm) -> None:
    stream, finishing = await begin(stt, question)
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert await stream.finish() == await hear(stt, question)
    await stream.aclose()


async def test_cancelled_work_makes_room(stt: SpeechToText, question: Pcm) -> None:
    """Far more abandoned work than there are threads, and the next one is still heard."""
    begun = [await begin(stt, np.concatenate([question] * 8)) for _ in range(20)]
    for stream, finishing in begun:
        finishing.cancel()
        await asyncio.wait([finishing])
        await stream.aclose()
    async with asyncio.timeout(10):
        assert (await hear(stt, question)).text != ""


async def test_closing_ends_a_running_finish(stt: SpeechToText, question: Pcm) -> None:
    stream, finishing = await begin(stt, question)
    await stream.aclose()
    async with asyncio.timeout(10):
        with pytest.raises(EngineFailed, match=r"closed|stopped"):
            await finishing
    await stream.aclose()


async def test_a_language_nobody_knows_is_only_a_hint(stt: SpeechToText, question: Pcm) -> None:
    stream = stt.open(language="xx")
    stream.accept(question)
    assert (await stream.finish()).text != ""
    await stream.aclose()


@pytest.mark.parametrize("name", ENGINES)
async def test_warming_and_closing_may_be_repeated(name: str, request: pytest.FixtureRequest) -> None:
    engine = make(name, request)
    await asyncio.gather(engine.warm_up(), engine.warm_up())
    await engine.warm_up()
    assert (await hear(engine, silence(1000))).text == ""
    await engine.aclose()
    await engine.aclose()


@pytest.mark.parametrize("name", ENGINES)
async def test_closing_before_warming_is_fine(name: str, request: pytest.FixtureRequest) -> None:
    await make(name, request).aclose()


@pytest.mark.parametrize("stt", REAL, indirect=True)
async def test_a_human_is_understood(stt: SpeechToText) -> None:
    assert words((await hear(stt, beckett())).text) == words(BECKETT_WORDS)


@pytest.mark.parametrize("stt", REAL, indirect=True)
async def test_a_spoken_question_is_understood(stt: SpeechToText, question: Pcm) -> None:
    assert words((await hear(stt, question)).text) == words("What is the capital of France")
