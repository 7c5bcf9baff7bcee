"""While the user speaks, the model reads what it will be asked; on virtual time."""

import asyncio
from collections.abc import Sequence

import pytest

from avatar.conversation.terms import Conduct
from avatar.core.audio import Pcm
from avatar.engines.base import Message
from tests.fakes.llm import FakeLanguageModel
from tests.unit.conversation import Client, Fakes, recording, talking

QUESTION = "what is the capital of this country and"


def growing(pcm: Pcm) -> str:
    """Another word for each quarter of a second, and a full stop as transcribers like to put one."""
    return " ".join(QUESTION.split()[: int(pcm.size / 4000)]) + "."


@pytest.fixture
def fakes() -> Fakes:
    fakes = Fakes()
    fakes.stt.text = growing
    return fakes


def last_words(prompts: Sequence[Sequence[Message]]) -> list[str]:
    return [prompt[-1].content for prompt in prompts]


async def ask(client: Client) -> None:
    await client.speak(1.5)
    await client.rest(3)


async def test_the_prompt_is_read_while_it_is_said(fakes: Fakes) -> None:
    async with talking(fakes) as client:
        await ask(client)
    assert fakes.llm.read[0] == (Message("system", "be kind"), Message("user", ""))
    assert len(fakes.llm.read) >= 3
    (asked,) = last_words(fakes.llm.requests)
    *drafts, at_the_pause = last_words(fakes.llm.read)
    assert all(asked.startswith(words.rstrip(".")) for words in drafts)
    assert at_the_pause == asked
    assert client.done[0].metrics.wasted_tokens == 0


async def test_history_is_part_of_it_and_a_live_reply_is_not_disturbed(fakes: Fakes) -> None:
    fakes.llm.replies = "This is quite a long answer. It has several sentences. Each of them takes a while."
    async with talking(fakes) as client:
        await ask(client)
        first = len(fakes.llm.read)
        await client.speak(0.1)
        assert len(fakes.llm.read) == first
        await client.speak(2)
        await client.rest(3)
    assert client.done[0].status == "interrupted"
    assert client.done[0].heard_text in [message.content for message in fakes.llm.read[-1]]


async def test_a_reply_waits_until_the_engine_has_let_go(fakes: Fakes) -> None:
    fakes.llm.read_s = 60.0
    async with talking(fakes) as client:
        await ask(client)
    assert fakes.llm.read_cancelled == 1
    assert client.done[0].metrics.voice_to_voice_ms == pytest.approx(224, abs=33)


async def test_of_prompts_that_come_while_one_is_read_the_last_is_read(fakes: Fakes) -> None:
    fakes.llm.read_s = 1.1
    async with talking(fakes) as client:
        await client.speak(2)
        await client.rest(3)
    assert last_words(fakes.llm.read)[0] == ""
    assert len(last_words(fakes.llm.read)[1].split()) >= 4


async def test_a_reply_of_another_session_stops_it(fakes: Fakes) -> None:
    fakes.llm.read_s = 60.0
    async with talking(fakes) as client:
        await client.speak(1)
        async with client.session.engines.precedence.working():
            assert fakes.llm.read_cancelled == 1
        await client.rest(3)
    assert client.done[0].status == "completed"


async def test_nothing_is_read_beside_a_reply_of_another_session(fakes: Fakes) -> None:
    async with talking(fakes) as client:
        async with client.session.engines.precedence.working():
            await client.speak(1)
        assert fakes.llm.read == []


async def test_nothing_is_read_for_who_gets_no_answers(fakes: Fakes) -> None:
    async with talking(fakes) as client:
        client.session.conduct = Conduct(answers=False)
        await ask(client)
    assert fakes.llm.read == []


class Forgetful(FakeLanguageModel):
    read_ahead = None  # type: ignore[assignment]  # so a Protocol is told that there is none


async def test_an_engine_that_gains_nothing_is_not_asked(fakes: Fakes) -> None:
    fakes.llm = Forgetful()
    async with talking(fakes) as client:
        await ask(client)
    assert fakes.llm.read == []
    assert client.done[0].status == "completed"


async def test_a_prompt_that_cannot_be_read_is_the_replys_affair(fakes: Fakes) -> None:
    fakes.llm.context_tokens = 3
    async with talking(fakes) as client:
        await ask(client)
    assert client.kinds.count("ErrorOccurred") == 1


async def test_a_session_that_ends_meanwhile_leaves_nothing_behind(fakes: Fakes) -> None:
    fakes.llm.read_s = 60.0
    async with talking(fakes) as client:
        await client.speak(1)
    assert fakes.llm.read_cancelled == 1


async def test_who_holds_a_button_has_the_past_read(fakes: Fakes) -> None:
    fakes.stt.text = "hello"
    async with talking(fakes, mode="push_to_talk") as client:
        for _ in range(2):
            client.session.audio(recording(0.5))
            client.session.audio(recording(0.5))
            await asyncio.sleep(0.2)
            client.session.end_audio()
            await asyncio.sleep(3)
    assert [len(prompt) for prompt in fakes.llm.read] == [2, 4]
