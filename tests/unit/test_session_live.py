"""Live conversations on virtual time: turns, barge-in, failure, and what always holds."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.conversation.plan import ReplyPolicy
from avatar.conversation.terms import SessionPolicy
from avatar.core.audio import Pcm
from avatar.core.errors import BadAudio, BadMessage, EngineFailed, StoreError
from avatar.core.events import (
    ErrorOccurred,
    ReplyAudioFrame,
    ReplyAudioStarted,
    ReplyDone,
    SpeechStarted,
    SpeechStopped,
    TranscriptReady,
)
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.unit.conversation import Client, Fakes, talking
from tests.virtual_clock import VirtualClockLoop

LONG = "This is quite a long answer. It has several sentences. Each of them takes a while. And here is the last one."


async def test_a_question_is_answered() -> None:
    async with talking() as client:
        await client.rest(0.5)
        await client.speak(1.5)
        await client.rest(4)
    assert client.transcripts == ["hello there"]
    assert client.replies == ["I am fine. How are you?"]
    assert client.kinds[:4] == ["SpeechStarted", "TranscriptReady", "SpeechStopped", "TranscriptReady"]
    assert client.kinds[-1] == "ReplyDone"
    (done,) = client.done
    assert (done.status, done.heard_text) == ("completed", "I am fine. How are you?")
    assert client.audio_s() == pytest.approx(len("I am fine.How are you?") * 0.05, abs=0.01)


async def test_the_reply_is_ready_when_the_turn_is_committed() -> None:
    fakes = Fakes()
    fakes.stt.delay_s, fakes.llm.first_token_s = 0.03, 0.03
    async with talking(fakes) as client:
        await client.speak(1.5)
        await client.rest(3)
    (done,) = client.done
    assert done.metrics.endpoint_ms == pytest.approx(224, abs=33)
    assert done.metrics.voice_to_voice_ms == pytest.approx(224, abs=33)


async def test_nothing_of_a_dropped_reply_reaches_anybody() -> None:
    fakes = Fakes()
    fakes.end_of_turn = FakeEndOfTurn(0.1)
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(0.4)
        await client.speak(1)
        await client.rest(5)
    assert len(fakes.llm.requests) == 2
    assert len(client.transcripts) == len(client.done) == len(client.store.saved) == 1


async def test_speech_over_the_reply_stops_it_and_history_holds_what_was_heard() -> None:
    fakes = Fakes()
    fakes.llm.replies = [LONG, "All right."]
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(2)
        await client.speak(1)
        interrupted_at = client.times(SpeechStarted)[1]
        await client.rest(4)
    first, second = client.done
    assert first.status == "interrupted"
    assert LONG.startswith(first.heard_text)
    assert 10 < len(first.heard_text) < len(LONG) / 2
    stale = [at for at, event in client.events if isinstance(event, ReplyAudioFrame) and event.turn_id == first.turn_id]
    assert max(stale) <= interrupted_at
    assert second.status == "completed"
    assert fakes.llm.requests[1][2].content == first.heard_text
    assert fakes.llm.requests[1][3].content == "(I interrupted you there.)\nhello there"
    assert client.store.saved[0].generated_text.startswith(first.heard_text)


async def test_playback_reports_decide_what_was_heard() -> None:
    fakes = Fakes()
    fakes.llm.replies = LONG
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(1)
        (started,) = client.of(ReplyAudioStarted)
        assert isinstance(started, ReplyAudioStarted)
        client.session.played(started.turn_id, 250)
        client.session.interrupt()
        await client.rest(0.5)
    assert client.done[0].heard_text == "This"


async def test_a_reply_that_nobody_heard_yet_makes_one_turn_with_what_follows() -> None:
    fakes = Fakes()
    fakes.llm.first_token_s = 1.0
    lengths: list[float] = []

    def transcribe(pcm: Pcm) -> str:
        lengths.append(pcm.size / 16000)
        return "yes"

    fakes.stt.text = transcribe
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(0.5)
        await client.speak(1)
        await client.rest(6)
    assert lengths[-1] > 2.2
    assert [turn.status for turn in client.done] == ["interrupted", "completed"]
    assert [message.content for message in fakes.llm.requests[-1]] == ["be kind", "yes"]


async def test_a_typed_turn_takes_over() -> None:
    fakes = Fakes()
    fakes.llm.replies = [LONG, "Typed answer."]
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(1.5)
        client.session.say("something else")
        await client.rest(3)
    assert [turn.status for turn in client.done] == ["interrupted", "completed"]
    assert client.transcripts[1] == "something else"
    assert client.store.saved[1].input_kind == "text"


async def test_noise_without_words_is_no_turn() -> None:
    fakes = Fakes()
    fakes.stt.text = ""
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(2)
    assert client.kinds == ["SpeechStarted", "SpeechStopped"]
    assert client.store.saved == []


@pytest.mark.parametrize("stage", ["stt", "llm", "tts"])
@pytest.mark.parametrize("trouble", ["raises", "breaks", "hangs"])
async def test_an_engine_that_fails_ends_the_turn_and_the_next_one_works(stage: str, trouble: str) -> None:
    fakes = Fakes()
    engine = getattr(fakes, stage)
    if trouble == "hangs":
        engine.hang = True
    else:
        engine.error = EngineFailed("broken") if trouble == "raises" else RuntimeError("secret path")
    policy = SessionPolicy(reply=ReplyPolicy(1.0, 1.0), stt_timeout_s=1.0)
    async with talking(fakes, policy=policy) as client:
        await client.speak(1)
        await client.rest(3)
        engine.error, engine.hang = None, False
        await client.speak(1)
        await client.rest(4)
    (error,) = client.of(ErrorOccurred)
    assert isinstance(error, ErrorOccurred)
    assert error.problem.code == ("ENGINE_TIMEOUT" if trouble == "hangs" else "ENGINE_FAILED")
    assert "secret" not in error.problem.message
    assert [turn.status for turn in client.done] == ["failed", "completed"]
    assert error.turn_id == client.done[0].turn_id


async def test_a_model_that_says_nothing_is_an_error() -> None:
    fakes = Fakes()
    fakes.llm.replies = ["", "Now I do."]
    async with talking(fakes) as client:
        client.session.say("hello")
        await asyncio.sleep(1)
        client.session.say("hello")
        await asyncio.sleep(3)
    assert [turn.status for turn in client.done] == ["failed", "completed"]


async def test_an_answer_of_emoji_alone_completes_in_silence() -> None:
    fakes = Fakes()
    fakes.llm.replies = "😀"
    async with talking(fakes) as client:
        client.session.say("hello")
        await asyncio.sleep(1)
    assert client.done[0].status == "completed"
    assert client.audio_s() == 0


async def test_a_store_that_fails_is_said_and_the_talk_goes_on() -> None:
    async with talking() as client:
        client.store.broken = StoreError("The disk is full.")
        client.session.say("hello")
        await asyncio.sleep(3)
        client.store.broken = None
        client.session.say("again")
        await asyncio.sleep(3)
    (error,) = client.of(ErrorOccurred)
    assert isinstance(error, ErrorOccurred)
    assert error.problem.code == "NOT_SAVED"
    assert [turn.status for turn in client.done] == ["completed", "completed"]
    assert len(client.engines.llm.requests[1]) == 4  # the unsaved turn is still in the model's history


async def test_a_turn_is_saved_before_it_is_done() -> None:
    async with talking() as client:
        await client.speak(1)
        await client.rest(4)
    (record,) = client.store.saved
    assert record.id == client.done[0].turn_id
    assert record.user_audio is not None
    assert record.reply_audio is not None
    assert record.user_audio[0].size / 16_000 == pytest.approx(1.3, abs=0.4)
    assert record.engines["tts"] == "fake text to speech"
    assert record.timings["voice_to_voice_ms"] > 0


async def test_closing_in_the_middle_of_a_reply_saves_what_was_heard() -> None:
    fakes = Fakes()
    fakes.llm.replies = LONG
    async with talking(fakes) as client:
        await client.speak(1)
        await client.rest(2)
    (record,) = client.store.saved
    assert record.status == "interrupted"
    assert fakes.llm.closed_early + fakes.tts.closed_early >= 1


async def test_what_live_mode_refuses() -> None:
    async with talking() as client:
        with pytest.raises(BadMessage):
            client.session.end_audio()
        with pytest.raises(BadAudio):
            client.session.audio(b"\x00")
        with pytest.raises(BadAudio, match="webm"):
            client.session.audio(b"\x1a\x45\xdf\xa3" + bytes(100))
        with pytest.raises(BadMessage):
            client.session.say("   ")


async def test_forgetting_audio_forgets_the_turn() -> None:
    async with talking() as client:
        await client.speak(1)
        client.session.clear_audio()
        await client.rest(2)
    assert client.of(TranscriptReady) == []


@pytest.mark.parametrize("verdict", [0.9, 0.1])
async def test_a_microphone_that_falls_silent_on_the_wire_ends_the_turn(verdict: float) -> None:
    fakes = Fakes()
    fakes.end_of_turn = FakeEndOfTurn(verdict)
    async with talking(fakes) as client:
        await client.speak(1)
        await asyncio.sleep(6)
    assert [turn.status for turn in client.done] == ["completed"]


async def test_a_short_stall_of_the_network_does_not_end_the_turn() -> None:
    fakes = Fakes()
    fakes.end_of_turn = FakeEndOfTurn(0.1)
    async with talking(fakes) as client:
        await client.speak(1)
        await asyncio.sleep(1)
        await client.speak(1)
        await client.rest(5)
    assert len(client.done) == 1


async def test_changes_hold_for_the_next_turn() -> None:
    fakes = Fakes()
    async with talking(fakes) as client:
        client.session.update(language="zh", instructions="be brief")
        client.session.change_voice("low hum")
        client.session.say("hello")
        await asyncio.sleep(3)
    assert fakes.tts.requests == [("low hum", "zh")]
    assert fakes.llm.requests[0][0].content == "be brief"


# --- what always holds --------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.sampled_from(["speak", "rest", "say", "interrupt", "clear"]), st.floats(0.1, 1.5)),
    min_size=1,
    max_size=12,
)


async def act(client: Client, what: str, seconds: float) -> None:
    match what:
        case "speak":
            await client.speak(seconds)
        case "rest":
            await client.rest(seconds)
        case "say":
            client.session.say("typed words")
        case "interrupt":
            client.session.interrupt()
        case "clear":
            client.session.clear_audio()


def check_stream(client: Client) -> None:
    """Never two live replies, no stale audio, every reply ends exactly once, all of it saved."""
    ended: set[str] = set()
    current: str | None = None
    for _, event in client.events:
        if isinstance(event, ReplyDone):
            assert event.turn_id not in ended
            ended.add(event.turn_id)
        turn_id = getattr(event, "turn_id", None)
        if turn_id is not None and not isinstance(event, ReplyDone):
            assert turn_id not in ended
        if isinstance(event, ReplyAudioStarted):
            current = event.turn_id
        if isinstance(event, ReplyAudioFrame):
            assert event.turn_id == current
        if isinstance(event, SpeechStopped):
            current = None
    told = {event.turn_id for _, event in client.events if isinstance(event, TranscriptReady) and event.is_final}
    assert told == ended
    assert {record.id for record in client.store.saved} == ended


@settings(max_examples=40, deadline=None)
@given(steps)
def test_whatever_people_do(script: list[tuple[str, float]]) -> None:
    async def talk() -> Client:
        fakes = Fakes()
        fakes.llm.replies = LONG
        fakes.stt.delay_s = fakes.llm.first_token_s = 0.05
        async with talking(fakes) as client:
            client.chunk_ms = 100  # large chunks: the examples are many
            for what, seconds in script:
                await act(client, what, seconds)
            await client.rest(9)
        return client

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        check_stream(runner.run(talk()))
