"""The instant of an interruption: whatever was about to happen at that moment does not happen."""

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from avatar.conversation.plan import ReplyPolicy
from avatar.conversation.terms import SessionPolicy
from avatar.core.events import ReplyDone
from avatar.engines.base import SpeechChunk
from tests.fakes.stt import FakeSpeechToText, FakeTranscriptStream
from tests.fakes.tts import FakeTextToSpeech
from tests.unit.conversation import Client, Fakes, talking

LONG = "This is quite a long answer. It has several sentences. Each of them takes a while. And here is the last one."


def after_the_end(client: Client) -> list[str]:
    """Names of what came after `ReplyDone`."""
    names = [type(event).__name__ for _, event in client.events]
    return names[names.index(ReplyDone.__name__) + 1 :]


async def test_audio_that_waits_for_room_is_not_sent_any_more() -> None:
    fakes = Fakes()
    fakes.llm.replies = LONG
    policy = SessionPolicy(reply=ReplyPolicy(playout_lead_s=10))
    async with talking(fakes, "push_to_talk", policy) as client:
        client.reading.clear()
        client.session.say("hello")
        await asyncio.sleep(1)
        client.session.interrupt()
        await asyncio.sleep(1)
        client.reading.set()
        await asyncio.sleep(1)
    assert client.audio_s() < 0.05  # the one frame that was on its way
    assert after_the_end(client) == []


@pytest.mark.parametrize("engine", ["llm", "tts"])
async def test_an_engine_that_answers_in_the_same_instant_is_not_listened_to(engine: str) -> None:
    fakes = Fakes()
    fakes.llm.replies = LONG
    if engine == "llm":
        fakes.llm.token_s = 0.5
    else:
        fakes.tts.delay_s = 0.5
    async with talking(fakes, "push_to_talk") as client:
        client.session.say("hello")
        await asyncio.sleep(0.1)
        before: list[int] = []

        def interrupt() -> None:
            before.append(len(client.events))
            client.session.interrupt()

        asyncio.get_running_loop().call_at(0.5, interrupt)
        await asyncio.sleep(2)
    assert [type(event).__name__ for _, event in client.events[before[0] :]] == ["ReplyDone"]
    assert client.audio_s() == 0


async def test_an_engine_that_fails_while_it_is_stopped_is_nobodys_concern() -> None:
    class Fragile(FakeTextToSpeech):
        async def speak(
            self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
        ) -> AsyncGenerator[SpeechChunk, None]:
            try:
                async for chunk in super().speak(text, voice=voice, language=language):
                    yield chunk
            finally:
                raise RuntimeError("broken pipe")

    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    fakes = Fakes(tts=Fragile())
    fakes.llm.replies = LONG
    async with talking(fakes, "push_to_talk") as client:
        client.session.say("hello")
        await asyncio.sleep(1)
        client.session.interrupt()
        await asyncio.sleep(1)
    assert [turn.status for turn in client.done] == ["interrupted"]
    gc.collect()
    assert complaints == []


async def test_what_ends_as_it_is_interrupted_is_in_the_next_prompt() -> None:
    fakes = Fakes()
    fakes.llm.replies = ["😀", "All right."]
    async with talking(fakes, "push_to_talk") as client:
        client.session.say("first")
        reply = client.session._replies.live
        assert reply is not None
        while not reply._task.done():  # noqa: ASYNC110  (before anybody else is told of it)
            await asyncio.sleep(0)
        client.session.say("second")
        await asyncio.sleep(2)
    assert [turn.status for turn in client.done] == ["completed", "completed"]
    assert [message.content for message in fakes.llm.requests[1]] == ["be kind", "first", "😀", "second"]


async def test_the_next_prompt_does_not_wait_for_the_transcriber_to_let_go() -> None:
    class Stream(FakeTranscriptStream):
        async def aclose(self) -> None:
            await asyncio.sleep(1)
            await super().aclose()

    class Slow(FakeSpeechToText):
        def open(self, language: str | None = None) -> FakeTranscriptStream:
            self.opened += 1
            return Stream(self, language)

    fakes = Fakes(stt=Slow())
    fakes.llm.replies = ["😀", "All right."]
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(0.5)
        client.session.say("second")
        await client.rest(3)
    assert [message.content for message in fakes.llm.requests[-1]] == ["be kind", "hello there", "😀", "second"]
