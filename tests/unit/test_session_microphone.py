"""What a live microphone can do to a session besides speaking: be cleared, speak without end."""

import asyncio

from avatar.conversation.terms import SessionPolicy
from avatar.core.audio import Pcm
from avatar.core.events import ErrorOccurred, SpeechStarted, SpeechStopped
from avatar.core.turns import TurnPolicy
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.unit.conversation import Fakes, talking

LONG = "This is quite a long answer. It has several sentences. Each of them takes a while. And here is the last one."


async def test_speech_interrupts_a_reply_after_audio_was_cleared_too() -> None:
    fakes = Fakes()
    fakes.llm.replies = [LONG, "All right."]
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(1)
        client.session.clear_audio()
        await client.rest(0.2)
        await client.speak(0.5)
        assert [turn.status for turn in client.done] == ["interrupted"]
        await client.rest(4)
    first, second = client.of(SpeechStarted)
    assert isinstance(first, SpeechStarted)
    assert isinstance(second, SpeechStarted)
    assert 2100 < second.at_ms < 2300  # the microphone's clock goes on


async def test_a_verdict_that_falls_as_audio_is_cleared_commits_nothing() -> None:
    fakes = Fakes(end_of_turn=FakeEndOfTurn(0.9, delay_s=0.2))
    loop = asyncio.get_running_loop()
    async with talking(fakes) as client:
        await client.speak(1)
        while not fakes.end_of_turn.calls:
            await client.rest(0.02)
        asked_at_s = loop.time() - 0.02
        loop.call_at(asked_at_s + 0.2 + 1e-10, client.session.clear_audio)  # in the same round of the loop, just after
        await client.rest(2)
    assert client.of(SpeechStopped) == []


async def test_speech_without_end_does_not_grow_without_end() -> None:
    lengths_s: list[float] = []

    def transcribe(pcm: Pcm) -> str:
        lengths_s.append(pcm.size / 16_000)
        return "words"

    fakes = Fakes()
    fakes.stt.delay_s, fakes.stt.text = 1, transcribe
    async with talking(fakes, policy=SessionPolicy(turns=TurnPolicy(max_turn_ms=2000))) as client:
        await client.speak(21)
        await client.rest(5)
    assert max(lengths_s) < 7
    assert {event.problem.code for event in client.of(ErrorOccurred) if isinstance(event, ErrorOccurred)} == {
        "BUFFER_LIMIT"
    }
    assert client.done[-1].status == "completed"


async def test_sound_that_looks_like_the_head_of_a_file_is_sound() -> None:
    async with talking() as client:
        await client.speak(1)
        client.session.audio(b"ID3\x40" * 160)  # 16-bit samples that happen to spell it
        await client.rest(3)
    assert len(client.done) == 1
