"""A voice over the reply: it is lowered, held, and then stopped or resumed, by what the voice turns out to be."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import numpy as np
import pytest

from avatar.conversation.terms import SessionPolicy
from avatar.core.audio import Pcm, float_to_pcm16, resample
from avatar.core.events import (
    ReplyAudioFrame,
    ReplyDone,
    ReplyHeld,
    ReplyLowered,
    ReplyResumed,
    SpeechStarted,
    SpeechStopped,
)
from avatar.engines.base import SpeechChunk
from tests.fakes.tts import FakeTextToSpeech
from tests.speech import spoken
from tests.unit.conversation import Client, Fakes, talking

LONG = "This is quite a long answer. It has several sentences. Each of them takes a while. And here is the last one."


def fakes_that_hear(first: str, then: str, reply: str = LONG) -> Fakes:
    """The user says `first`, and `then` over the reply."""
    fakes = Fakes()
    fakes.llm.replies = [reply, "All right."]
    fakes.stt.text = lambda pcm: first if pcm.size > 20_000 else then
    return fakes


async def ask(client: Client) -> None:
    await client.speak(1.2)
    await client.rest(1.5)


def names(client: Client) -> list[str]:
    """What the client was told about its reply."""
    kinds = (ReplyLowered, ReplyHeld, ReplyResumed, ReplyDone)
    return [type(event).__name__ for _, event in client.events if isinstance(event, kinds)]


@pytest.mark.parametrize("word", ["Mm-hm.", "Okay.", "嗯嗯", ""])
async def test_a_listeners_noise_holds_the_reply_and_lets_it_go_on_where_it_was(word: str) -> None:
    async with talking(fakes_that_hear("what is it now?", word)) as client:
        await ask(client)
        await client.speak(0.3)
        await client.rest(10)
    (done,) = client.done
    assert names(client) == ["ReplyLowered", "ReplyHeld", "ReplyResumed", "ReplyDone"]
    assert (done.status, done.heard_text) == ("completed", LONG)
    assert done.metrics.underruns == 0
    assert client.audio_s() == pytest.approx(len(LONG.replace(". ", ".")) * 0.05, abs=0.1)
    assert client.transcripts == ["what is it now?"]
    assert len(client.of(SpeechStarted)) == len(client.of(SpeechStopped)) == 2
    (held,), (resumed,) = client.times(ReplyHeld), client.times(ReplyResumed)
    assert resumed - held < 0.6
    frames = client.times(ReplyAudioFrame)
    assert not [at for at in frames if held < at < resumed]


async def test_words_of_the_houses_own_do_not_stop_it() -> None:
    policy = SessionPolicy(backchannels=("haan ji",))
    async with talking(fakes_that_hear("what is it now?", "Haan ji."), policy=policy) as client:
        await ask(client)
        await client.speak(0.3)
        await client.rest(10)
    assert [done.status for done in client.done] == ["completed"]


async def test_words_stop_it() -> None:
    async with talking(fakes_that_hear("what is it now?", "Stop it.")) as client:
        await ask(client)
        began = asyncio.get_running_loop().time()
        await client.speak(0.3)
        await client.rest(6)
    first, second = client.done
    assert (first.status, second.status) == ("interrupted", "completed")
    (held,) = client.times(ReplyHeld)
    assert held - began < 0.15
    assert client.transcripts == ["what is it now?", "Stop it."]
    assert client.engines.llm.requests[1][-1].content == "(I interrupted you there.)\nStop it."


async def test_a_consonant_before_the_voice_counts() -> None:
    async with talking(fakes_that_hear("what is it now?", "Stop it.")) as client:
        await ask(client)
        began = asyncio.get_running_loop().time()
        await client.hear(0.015, 0.064)  # too soft for voice activity
        await client.speak(0.3)
        await client.rest(6)
    (held,) = client.times(ReplyHeld)
    assert held - began < 0.1


async def test_a_long_sentence_stops_it_before_its_end() -> None:
    async with talking(fakes_that_hear("what is it now?", "")) as client:
        await ask(client)
        began = asyncio.get_running_loop().time()
        await client.speak(2)
        stopped = client.times(ReplyDone)[0]
        await client.rest(6)
    assert stopped - began < 0.8
    assert client.done[0].status == "interrupted"


async def test_a_yes_to_a_question_is_an_answer() -> None:
    fakes = fakes_that_hear("what is it now?", "Yes.", reply="Shall I go on?")
    async with talking(fakes) as client:
        await client.speak(1.2)
        await client.rest(0.6)
        await client.speak(0.3)
        await client.rest(6)
    assert client.transcripts == ["what is it now?", "Yes."]


async def test_the_reply_coming_back_through_the_room_is_not_the_user() -> None:
    speech = resample(await spoken(LONG), 16_000, 24_000)

    class Speaking(FakeTextToSpeech):
        """A hum is like any other hum; this says something."""

        async def speak(
            self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
        ) -> AsyncGenerator[SpeechChunk, None]:
            said = 0
            async for chunk in super().speak(text, voice=voice, language=language):
                said += chunk.pcm.size
                yield replace(chunk, pcm=speech[said - chunk.pcm.size : said])

    fakes = fakes_that_hear("what is it now?", "This is quite")
    fakes.tts = Speaking()
    async with talking(fakes) as client:
        await ask(client)
        started = len(client.of(SpeechStarted))
        played: list[Pcm] = [event.pcm for _, event in client.events if isinstance(event, ReplyAudioFrame)]
        echo = float_to_pcm16(0.5 * resample(np.concatenate(played[-20:-5]), 24_000, 16_000))
        for start in range(0, len(echo), 640):
            client.session.audio(echo[start : start + 640])
            await asyncio.sleep(0.02)
        await client.rest(10)
    assert len(client.of(SpeechStarted)) == started
    assert [turn.status for turn in client.done] == ["completed"]


async def test_a_cough_only_lowers_it() -> None:
    async with talking(fakes_that_hear("what is it now?", "")) as client:
        await ask(client)
        await client.speak(0.04)
        await client.rest(8)
    assert names(client) == ["ReplyLowered", "ReplyResumed", "ReplyDone"]
