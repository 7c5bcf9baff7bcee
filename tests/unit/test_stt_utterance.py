"""One utterance: what is transcribed, how often, and what stops it. The model is scripted; the rest is real."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from avatar.core.audio import Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.base import Transcript
from avatar.engines.stt.utterance import Recognizer, Stopped, Utterance
from avatar.engines.worker import ModelThreads

LONGEST = 16_000


@dataclass
class Script:
    """A `Recognizer` that says how many samples it heard, and remembers how it was asked.

    While `gate` is clear it works on, looking at `stop` all the time; after two seconds it gives up waiting.
    """

    longest_samples: int = LONGEST
    drafts: bool = False
    language: str = "en"
    heard: list[tuple[int, str | None, bool]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def recognize(self, pcm: Pcm, language: str | None, *, thorough: bool, stop: threading.Event) -> Transcript:
        self.begun.set()
        for _ in range(2000):
            if self.gate.wait(0.001):
                break
            if stop.is_set():
                raise Stopped("The transcription was stopped.")
        self.heard.append((pcm.size, language, thorough))
        return Transcript(str(pcm.size), language or self.language)


Open = Callable[[Script, str | None], Utterance]


@pytest.fixture
async def listen() -> AsyncIterator[Open]:
    engines: list[ModelThreads[Recognizer]] = []

    def listen(script: Script, language: str | None = None) -> Utterance:
        engines.append(ModelThreads("script", lambda: script, 2))
        return Utterance(engines[-1], language)

    yield listen
    for engine in engines:
        await engine.aclose()


def loud(samples: int) -> Pcm:
    return np.full(samples, 0.5, dtype=np.float32)


async def begun(script: Script, coroutine: "asyncio.Future[Transcript]") -> "asyncio.Future[Transcript]":
    """Wait until the model is at work on it."""
    await asyncio.to_thread(script.begun.wait)
    script.begun.clear()
    return coroutine


async def test_what_is_known_is_not_transcribed_again(listen: Open) -> None:
    script = Script()
    stream = listen(script, None)
    stream.accept(loud(100))
    results = [await stream.finish(), await stream.finish(), await stream.partial()]
    assert results == [Transcript("100", "en")] * 3
    assert script.heard == [(100, None, True)]
    stream.accept(loud(50))
    assert (await stream.finish()).text == "150"


async def test_a_partial_is_as_good_as_final_where_the_model_makes_no_drafts(listen: Open) -> None:
    script = Script(drafts=False)
    stream = listen(script, None)
    stream.accept(loud(100))
    await stream.partial()
    await stream.finish()
    assert script.heard == [(100, None, True)]


async def test_a_draft_is_done_again_thoroughly(listen: Open) -> None:
    script = Script(drafts=True)
    stream = listen(script, None)
    stream.accept(loud(100))
    await stream.partial()
    await stream.finish()
    await stream.partial()
    assert script.heard == [(100, None, False), (100, None, True)]


async def test_silence_never_reaches_the_model(listen: Open) -> None:
    script = Script()
    stream = listen(script, "de")
    assert await stream.finish() == Transcript("", "de")
    stream.accept(silence(3 * LONGEST))
    assert await stream.finish() == Transcript("", "de")
    assert script.heard == []


async def test_what_lies_before_a_cut_is_transcribed_once(listen: Open) -> None:
    script = Script()
    stream = listen(script, None)
    stream.accept(np.concatenate((loud(12_000), silence(4000), loud(4000))))
    first = await stream.finish()
    stream.accept(loud(2000))
    second = await stream.finish()
    before, *tails = (samples for samples, _, _ in script.heard)
    assert 12_000 < before < 16_000
    assert tails == [20_000 - before, 22_000 - before]
    assert (first.text, second.text) == (f"{before} {tails[0]}", f"{before} {tails[1]}")


async def test_the_language_of_the_first_piece_holds_for_the_next(listen: Open) -> None:
    script = Script(language="zh")
    stream = listen(script, None)
    stream.accept(loud(2 * LONGEST))
    transcript = await stream.finish()
    assert [language for _, language, _ in script.heard] == [None, "zh", "zh"][: len(script.heard)]
    assert transcript == Transcript("".join(str(samples) for samples, _, _ in script.heard), "zh")


async def test_finish_stops_a_partial_which_gives_its_last_guess(listen: Open) -> None:
    script = Script()
    stream = listen(script, None)
    stream.accept(loud(100))
    await stream.partial()
    script.begun.clear()
    script.gate.clear()
    stream.accept(loud(100))
    partial = await begun(script, asyncio.ensure_future(stream.partial()))
    final = await begun(script, asyncio.ensure_future(stream.finish()))
    assert (await partial).text == "100"
    script.gate.set()
    assert (await final).text == "200"
    assert [samples for samples, _, _ in script.heard] == [100, 200]


async def test_a_partial_gives_way_to_whoever_waits_for_any_utterance(listen: Open) -> None:
    script = Script()
    one = listen(script, None)
    other = Utterance(one._threads, None)
    one.accept(loud(100))
    other.accept(loud(300))
    script.gate.clear()
    partial = await begun(script, asyncio.ensure_future(one.partial()))
    final = await begun(script, asyncio.ensure_future(other.finish()))
    assert (await partial).text == ""
    assert (await one.partial()).text == ""  # nor does it wait in line
    script.gate.set()
    assert (await final).text == "300"
    assert [samples for samples, _, _ in script.heard] == [300]


async def test_cancelling_stops_the_model(listen: Open) -> None:
    script = Script()
    script.gate.clear()
    stream = listen(script, None)
    for _ in range(5):  # more than there are threads: each one must come free
        stream.accept(loud(100))
        finishing = await begun(script, asyncio.ensure_future(stream.finish()))
        finishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finishing
    assert script.heard == []


async def test_closing_stops_the_model_and_tells_who_waits(listen: Open) -> None:
    script = Script()
    script.gate.clear()
    stream = listen(script, None)
    stream.accept(loud(100))
    finishing = await begun(script, asyncio.ensure_future(stream.finish()))
    await stream.aclose()
    with pytest.raises(EngineFailed, match="stopped"):
        await finishing
    for closed in (stream.finish(), stream.partial()):
        with pytest.raises(EngineFailed, match="closed"):
            await closed
