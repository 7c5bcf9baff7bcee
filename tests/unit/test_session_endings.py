"""How a turn ends: once, after its last sound, whatever fails on the way."""

import asyncio

from avatar.core.events import ErrorOccurred, ReplyAudioFrame
from tests.unit.conversation import Fakes, talking


async def test_done_comes_after_the_last_audio_for_a_slow_client_too() -> None:
    async with talking(mode="push_to_talk") as client:
        client.reading.clear()
        client.session.say("hello")
        await asyncio.sleep(5)
        client.reading.set()
        await asyncio.sleep(1)
    assert client.kinds[-2:] == ["ReplyAudioFrame", "ReplyDone"]
    assert client.done[0].status == "completed"


async def test_audio_that_a_slow_client_has_not_got_can_be_interrupted() -> None:
    async with talking(mode="push_to_talk") as client:
        client.reading.clear()
        client.session.say("hello")
        await asyncio.sleep(5)
        client.session.interrupt()
        await asyncio.sleep(1)
        client.reading.set()
        await asyncio.sleep(1)
    assert len(client.of(ReplyAudioFrame)) <= 1  # the one that was on its way
    assert client.done[0].status == "interrupted"


async def test_a_turn_too_long_for_the_model_ends_and_spoils_nothing() -> None:
    fakes = Fakes()
    fakes.llm.context_tokens = 400
    async with talking(fakes, "push_to_talk") as client:
        client.session.say("hello")
        await asyncio.sleep(3)
        client.session.say("long " * 200)
        await asyncio.sleep(1)
        client.session.say("again")
        await asyncio.sleep(3)
    (error,) = client.of(ErrorOccurred)
    assert isinstance(error, ErrorOccurred)
    assert (error.problem.code, error.turn_id) == ("BAD_MESSAGE", client.done[1].turn_id)
    assert [turn.status for turn in client.done] == ["completed", "failed", "completed"]
    assert [message.content for message in fakes.llm.requests[1]][1:] == ["hello", "I am fine. How are you?", "again"]


async def test_a_store_that_breaks_in_its_own_way_still_lets_the_turn_end() -> None:
    async with talking(mode="push_to_talk") as client:
        client.store.broken = RuntimeError("secret path")
        client.session.say("hello")
        await asyncio.sleep(3)
    (error,) = client.of(ErrorOccurred)
    assert isinstance(error, ErrorOccurred)
    assert error.problem.code == "NOT_SAVED"
    assert "secret" not in error.problem.message
    assert [turn.status for turn in client.done] == ["completed"]
