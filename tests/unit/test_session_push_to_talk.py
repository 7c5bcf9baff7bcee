"""Push-to-talk on virtual time: bounds, order, interruption."""

import asyncio

import pytest

from avatar.conversation.push_to_talk import AudioBuffer, AudioKind, BufferLimits
from avatar.conversation.terms import SessionPolicy
from avatar.core.errors import BadAudio, BadMessage, BufferLimit, NoSpeech
from avatar.core.events import ErrorOccurred, ReplyDone
from tests.unit.conversation import Fakes, recording, talking


async def test_a_recording_is_answered() -> None:
    async with talking(mode="push_to_talk") as client:
        client.session.audio(recording(1))
        client.session.end_audio()
        await asyncio.sleep(4)
    assert client.kinds[0] == "TranscriptReady"
    assert [turn.status for turn in client.done] == ["completed"]
    assert client.done[0].metrics.endpoint_ms is None
    assert client.done[0].metrics.voice_to_voice_ms is not None


async def test_a_second_end_is_said_and_harms_nothing() -> None:
    async with talking(mode="push_to_talk") as client:
        client.session.audio(recording(1))
        client.session.end_audio()
        with pytest.raises(NoSpeech):
            client.session.end_audio()
        await asyncio.sleep(4)
    assert [turn.status for turn in client.done] == ["completed"]


@pytest.mark.parametrize("amplitude", [0.0, 0.001])
async def test_silence_is_no_turn(amplitude: float) -> None:
    async with talking(mode="push_to_talk") as client:
        client.session.audio(recording(1, amplitude))
        client.session.end_audio()
        await asyncio.sleep(1)
        client.session.audio(recording(1))
        client.session.end_audio()
        await asyncio.sleep(4)
    (error,) = client.of(ErrorOccurred)
    assert isinstance(error, ErrorOccurred)
    assert error.problem.code == "NO_SPEECH"
    assert len(client.done) == len(client.store.saved) == 1


async def test_pressing_the_button_interrupts() -> None:
    fakes = Fakes()
    fakes.llm.replies = ["This is a long answer, and it goes on. " * 3, "Short."]
    async with talking(fakes, "push_to_talk") as client:
        client.session.audio(recording(1))
        client.session.end_audio()
        await asyncio.sleep(2)
        client.session.audio(recording(0.5))
        await asyncio.sleep(0.5)
        assert [turn.status for turn in client.done] == ["interrupted"]
        client.session.audio(recording(0.5))
        client.session.end_audio()
        await asyncio.sleep(3)
    assert [turn.status for turn in client.done] == ["interrupted", "completed"]


async def test_words_that_cannot_be_made_out() -> None:
    fakes = Fakes()
    fakes.stt.text = ""
    async with talking(fakes, "push_to_talk") as client:
        client.session.audio(recording(1))
        client.session.end_audio()
        await asyncio.sleep(1)
    assert client.kinds == ["ErrorOccurred"]


async def test_a_hanging_transcriber_ends_the_turn() -> None:
    fakes = Fakes()
    fakes.stt.hang = True
    async with talking(fakes, "push_to_talk", SessionPolicy(stt_timeout_s=1)) as client:
        client.session.audio(recording(1))
        client.session.end_audio()
        await asyncio.sleep(3)
    assert client.kinds == ["ErrorOccurred", "ReplyDone"]
    assert isinstance(client.events[-1][1], ReplyDone)


# --- the buffer ---------------------------------------------------------------------------------


def buffer(kind: AudioKind = "webm", limits: BufferLimits = BufferLimits()) -> AudioBuffer:  # noqa: B008  (frozen)
    return AudioBuffer(kind, 16_000, limits, lambda: 0.0)


@pytest.mark.parametrize(
    ("limits", "chunks", "word"),
    [
        (BufferLimits(max_bytes=10), [b"x" * 6, b"x" * 5], "bytes"),
        (BufferLimits(max_chunks=2), [b"x", b"x", b"x"], "chunks"),
    ],
)
def test_over_a_bound_it_empties_itself(limits: BufferLimits, chunks: list[bytes], word: str) -> None:
    held = buffer(limits=limits)
    for chunk in chunks[:-1]:
        held.add(chunk)
    with pytest.raises(BufferLimit, match=word):
        held.add(chunks[-1])
    assert held.empty


def test_raw_audio_is_bounded_in_seconds_of_sound() -> None:
    held = buffer("pcm16", BufferLimits(max_s=1))
    with pytest.raises(BufferLimit, match="seconds"):
        held.add(bytes(32_002))


def test_a_recording_is_bounded_in_seconds_of_recording() -> None:
    now = [0.0]
    held = AudioBuffer("webm", 16_000, BufferLimits(max_s=60), lambda: now[0])
    held.add(b"x")
    now[0] = 61.0
    with pytest.raises(BufferLimit, match="60 seconds"):
        held.add(b"x")


def test_a_file_declared_as_raw_is_refused() -> None:
    with pytest.raises(BadAudio, match="webm"):
        buffer("pcm16").add(b"OggS" + bytes(20))


def test_taking_empties() -> None:
    held = buffer()
    held.add(b"ab")
    held.add(b"cd")
    assert held.take() == b"abcd"
    assert held.empty


async def test_live_words_in_push_to_talk() -> None:
    async with talking(mode="push_to_talk") as client:
        with pytest.raises(NoSpeech):
            client.session.end_audio()
        with pytest.raises(BadMessage):
            client.session.say("")
        client.session.clear_audio()
        client.session.interrupt()
