"""The instant of an interruption: whatever was about to happen at that moment does not happen."""

import asyncio

import pytest

from avatar.conversation.reply import ReplyPolicy
from avatar.conversation.session import SessionPolicy
from avatar.core.events import ReplyDone
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
        client.reads = False
        client.session.say("hello")
        await asyncio.sleep(1)
        client.session.interrupt()
        await asyncio.sleep(1)
        client.reads = True
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
