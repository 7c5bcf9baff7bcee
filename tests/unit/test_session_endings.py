"""How a turn ends: once, after its last sound, whatever fails on the way."""

import asyncio

from avatar.core.events import ReplyAudioFrame
from tests.unit.conversation import Fakes, talking


async def test_done_comes_after_the_last_audio_for_a_slow_client_too() -> None:
    async with talking(mode="push_to_talk") as client:
        client.reads = False
        client.session.say("hello")
        await asyncio.sleep(5)
        client.reads = True
        await asyncio.sleep(1)
    assert client.kinds[-2:] == ["ReplyAudioFrame", "ReplyDone"]
    assert client.done[0].status == "completed"


async def test_audio_that_a_slow_client_has_not_got_can_be_interrupted() -> None:
    async with talking(mode="push_to_talk") as client:
        client.reads = False
        client.session.say("hello")
        await asyncio.sleep(5)
        client.session.interrupt()
        await asyncio.sleep(1)
        client.reads = True
        await asyncio.sleep(1)
    assert len(client.of(ReplyAudioFrame)) <= 1  # the one that was on its way
    assert client.done[0].status == "interrupted"
