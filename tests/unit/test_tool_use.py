"""A reply for which tools are called: when they are, what the model is told of it, and how it ends."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.conversation.plan import Plan, ReplyPolicy, Said, Speaker
from avatar.conversation.terms import Conduct, SessionPolicy
from avatar.conversation.tool_use import CUT, ENOUGH, LEAST_RESULT_TOKENS, UNKNOWN, fitting
from avatar.core.errors import EngineFailed
from avatar.core.events import ErrorOccurred, ReplyCallPiece, ReplyCalls, ReplyTextDelta, SpeechStopped
from avatar.engines.base import Delta, Message, Sampling, Tool, ToolCall, ToolCallPiece
from tests.fakes.caller import FakeCaller
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.fakes.llm import FakeLanguageModel
from tests.unit.conversation import Client, Fakes, talking

LOOK = ToolCall("c1", "look", '{"at": "sky"}')


def fakes(*replies: str, calls: Sequence[ToolCall] = (LOOK,)) -> Fakes:
    """A model that first says the first of `replies` and calls; then the next."""
    made = Fakes()
    made.llm.replies, made.llm.calls = replies, calls
    return made


def told(message: Message) -> tuple[str, str, tuple[str, ...], str | None]:
    return message.role, message.content, tuple(call.id for call in message.tool_calls), message.tool_call_id


async def ask(client: Client, text: str = "what is the weather", wait_s: float = 5) -> None:
    client.session.say(text)
    await asyncio.sleep(wait_s)


async def test_the_reply_goes_on_with_what_the_tool_gave() -> None:
    caller, ours = FakeCaller(), fakes("", "It rains.")
    async with talking(ours, "push_to_talk", caller=caller) as client:
        await ask(client)
    assert client.replies == ["It rains."]
    assert [turn.status for turn in client.done] == ["completed"]
    assert caller.names == ["look"]
    assert [told(message) for message in ours.llm.requests[1]] == [
        ("system", "be kind", (), None),
        ("user", "what is the weather", (), None),
        ("assistant", "", ("c1",), None),
        ("tool", "rain", (), "c1"),
    ]
    assert client.audio_s() > 0


async def test_what_is_said_before_the_call_is_heard_while_it_runs() -> None:
    caller, ours = FakeCaller(delay_s=3), fakes("Let me look.", "It rains.")
    async with talking(ours, "push_to_talk", caller=caller) as client:
        client.session.say("what is the weather")
        await asyncio.sleep(2)
        assert client.audio_s() > 0.3
        assert client.replies == []
        await asyncio.sleep(4)
    assert client.replies == ["Let me look. It rains."]
    assert client.done[0].heard_text == "Let me look. It rains."
    assert told(ours.llm.requests[1][2]) == ("assistant", "Let me look.", ("c1",), None)


async def test_calls_of_one_breath_run_at_once_and_are_told_in_order() -> None:
    caller = FakeCaller({"look": "rain", "feel": "cold"}, delay_s=1)
    calls = (LOOK, ToolCall("c2", "feel", "{}"))
    ours = fakes("", "Cold rain.", calls=calls)
    async with talking(ours, "push_to_talk", caller=caller) as client:
        await ask(client)
    assert caller.most_active == 2
    assert [told(message) for message in ours.llm.requests[1][2:]] == [
        ("assistant", "", ("c1",), None),
        ("tool", "rain", (), "c1"),
        ("assistant", "", ("c2",), None),
        ("tool", "cold", (), "c2"),
    ]


@pytest.mark.parametrize(
    ("error", "words"),
    [(RuntimeError("a secret path"), "The tool failed."), (EngineFailed("It is broken."), "It is broken.")],
)
async def test_the_model_is_told_of_a_tool_that_fails(error: Exception, words: str) -> None:
    ours = fakes("", "I could not look.")
    async with talking(ours, "push_to_talk", caller=FakeCaller({"look": error})) as client:
        await ask(client)
    assert ours.llm.requests[1][-1].content == words
    assert client.replies == ["I could not look."]


async def test_nothing_is_called_for_a_turn_that_goes_on() -> None:
    """Each pause looks like the end to the eager reply; it is prepared up to its call, and no further."""
    caller, ours = FakeCaller(), fakes("", "It rains.")
    ours.end_of_turn = FakeEndOfTurn(0.1)
    ours.stt.text = "I think so"
    async with talking(ours, caller=caller) as client:
        for _ in range(3):
            await client.speak(0.6)
            await client.rest(0.4)
        assert len(ours.llm.requests) > 1
        assert caller.began == []
        await client.rest(5)
    assert len(caller.began) == 1
    assert client.done[-1].status == "completed"
    assert caller.began[0][0] >= client.times(SpeechStopped)[0]


async def test_an_interrupted_call_is_called_off_and_remembered() -> None:
    caller, ours = FakeCaller({"look": None}), fakes("", "It rains.")
    async with talking(ours, "push_to_talk", caller=caller) as client:
        await ask(client)
        client.session.interrupt()
        assert caller.active == 1
        await asyncio.sleep(0)
        assert caller.active == 0
        caller.answers["look"] = "sun"
        await ask(client, "and now?")
    assert caller.called_off == ["look"]
    assert [turn.status for turn in client.done] == ["interrupted", "completed"]
    second = [told(message) for message in ours.llm.requests[1]]
    assert second[1:] == [
        ("user", "what is the weather", (), None),
        ("assistant", "", ("c1",), None),
        ("tool", UNKNOWN, (), "c1"),
        ("assistant", "…", (), None),
        ("user", "(I interrupted you there.)\nand now?", (), None),
    ]


async def test_who_speaks_on_after_a_call_begins_another_turn() -> None:
    """Before it they would only have paused; but what was called cannot be undone, nor may it be called again."""
    caller, ours = FakeCaller({"look": None}), fakes("", "It rains.")
    async with talking(ours, caller=caller) as client:
        await client.speak(1)
        await client.rest(1.5)
        assert caller.names == ["look"]
        ours.llm.calls = ()
        await client.speak(1)
        await client.rest(4)
    assert caller.names == ["look"]
    assert caller.called_off == ["look"]
    assert [turn.status for turn in client.done] == ["interrupted", "completed"]
    assert any(message.role == "tool" for message in ours.llm.requests[-1])


async def test_later_turns_know_what_was_called() -> None:
    ours = fakes("Let me look.", "It rains.", "As I said.")
    async with talking(ours, "push_to_talk", caller=FakeCaller()) as client:
        await ask(client)
        ours.llm.calls = ()
        await ask(client, "sure?")
    assert [told(message) for message in ours.llm.requests[2]][1:] == [
        ("user", "what is the weather", (), None),
        ("assistant", "", ("c1",), None),
        ("tool", "rain", (), "c1"),
        ("assistant", "Let me look. It rains.", (), None),
        ("user", "sure?", (), None),
    ]


async def test_a_model_that_calls_for_ever_is_told_that_it_is_enough() -> None:
    ours = fakes("")
    ours.llm.always_calls = True
    caller = FakeCaller()
    policy = SessionPolicy(reply=ReplyPolicy(max_tool_rounds=3))
    async with talking(ours, "push_to_talk", policy, caller) as client:
        await ask(client)
    assert len(caller.began) == 3
    assert [request[-1].content for request in ours.llm.requests[1:]] == ["rain"] * 3 + [ENOUGH]
    (error,) = client.of(ErrorOccurred)
    assert isinstance(error, ErrorOccurred)
    assert error.problem.code == "ENGINE_FAILED"
    assert [turn.status for turn in client.done] == ["failed"]


async def test_arguments_that_are_no_json_reach_the_tool_but_no_template() -> None:
    broken = replace(LOOK, arguments='{"at": ')
    caller, ours = FakeCaller(), fakes("", "Well.", calls=(broken,))
    async with talking(ours, "push_to_talk", caller=caller) as client:
        await ask(client)
    assert caller.began[0][2] == broken
    assert ours.llm.requests[1][2].tool_calls == (replace(LOOK, arguments="{}"),)


async def test_a_long_result_is_cut_to_what_the_context_holds() -> None:
    ours = fakes("", "Well.")
    ours.llm.context_tokens = 500
    async with talking(ours, "push_to_talk", caller=FakeCaller({"look": "so many words " * 500})) as client:
        for _ in range(12):
            await ask(client)
    assert {turn.status for turn in client.done} == {"completed"}
    for request in ours.llm.requests:
        if request[-1].role == "tool":
            assert request[-1].content.endswith(CUT)
            assert len(request[-1].content.split()) > 50


async def test_a_tool_for_which_the_context_is_too_small_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    ours = fakes("Well.", calls=())
    ours.llm.context_tokens = 500
    caller = FakeCaller({"look " * 150: "never"})
    async with talking(ours, "push_to_talk", caller=caller) as client:
        for _ in range(3):
            await ask(client)
    assert len(ours.llm.requests) == 3
    assert sum("is not offered" in record.getMessage() for record in caplog.records) == 1


async def test_the_time_it_took_is_the_tools_own() -> None:
    ours = fakes("", "It rains.")
    ours.llm.first_token_s = 0.05
    async with talking(ours, "push_to_talk", caller=FakeCaller(delay_s=0.7)) as client:
        await ask(client)
    metrics = client.done[0].metrics
    assert metrics.tools_ms == 700  # the model called without a word
    assert metrics.llm_ttft_ms == 50
    assert metrics.own_ms == pytest.approx(0, abs=1)


def plan(client: Client, caller: FakeCaller) -> Plan:
    """As a client would have it that answers `theirs` itself."""
    tools = (Tool("theirs", "", {"type": "object", "properties": {}}),)
    speaker = Speaker(client.engines.tts, None, None, 24_000)

    def prompt(text: str, offered: Sequence[Tool]) -> list[Message]:
        assert [tool.name for tool in offered] == ["theirs", "look"]
        return [Message("user", text)]

    return Plan(prompt, speaker, Sampling(tool_choice="required"), tools, caller)


async def test_calls_that_are_the_clients_are_handed_on_and_end_the_reply() -> None:
    caller = FakeCaller()
    ours = fakes("", calls=(LOOK, ToolCall("c2", "theirs", '{"a": 1}')))
    async with talking(ours, "push_to_talk", caller=caller) as client:
        client.session.conduct = Conduct(plan=lambda: plan(client, caller))
        await ask(client)
    assert caller.names == ["look"]
    assert client.of(ReplyCalls) == [ReplyCalls(client.done[0].turn_id, (("c2", "theirs", '{"a": 1}'),))]
    assert len(ours.llm.requests) == 1
    assert client.done[0].status == "completed"


@pytest.mark.parametrize("piece_chars", [0, 3])
async def test_only_the_clients_calls_are_told_as_they_are_written(piece_chars: int) -> None:
    caller = FakeCaller()
    ours = fakes("", calls=(LOOK, ToolCall("c2", "theirs", '{"a": 1}')))
    ours.llm.piece_chars = piece_chars
    async with talking(ours, "push_to_talk", caller=caller) as client:
        client.session.conduct = Conduct(plan=lambda: plan(client, caller))
        await ask(client)
    turn_id = client.done[0].turn_id
    parts = ["", '{"a', '": ', "1}"] if piece_chars else []
    told = [event for _, event in client.events if isinstance(event, ReplyCallPiece | ReplyCalls)]
    assert told == [
        *(ReplyCallPiece(turn_id, "c2", "theirs", part) for part in parts),
        ReplyCalls(turn_id, (("c2", "theirs", '{"a": 1}'),)),
    ]


async def test_a_call_comes_while_it_is_written_and_what_is_said_meanwhile_comes_behind_it() -> None:
    class Chatty(FakeLanguageModel):
        async def stream(
            self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
        ) -> AsyncGenerator[Delta, None]:
            yield Delta("Well.", call_pieces=(ToolCallPiece("c2", "theirs", "{"),))
            await asyncio.sleep(2)
            yield Delta(" So.")
            yield Delta(" Then.", (ToolCall("c2", "theirs", "{}"),), "tool_calls")

    caller, ours = FakeCaller(), Fakes()
    ours.llm = Chatty()
    async with talking(ours, "push_to_talk", caller=caller) as client:
        client.session.conduct = Conduct(plan=lambda: plan(client, caller))
        await ask(client, wait_s=1)
        assert client.of(ReplyCallPiece)
        await asyncio.sleep(5)
    kinds = (ReplyTextDelta, ReplyCallPiece, ReplyCalls)
    assert [type(event) for _, event in client.events if isinstance(event, kinds)] == [*kinds, ReplyTextDelta]
    assert client.replies == ["Well. So. Then."]


async def test_a_draft_that_is_dropped_tells_of_no_call() -> None:
    caller, ours = FakeCaller(), fakes("", calls=(ToolCall("c2", "theirs", '{"a": 1}'),))
    ours.llm.piece_chars, ours.end_of_turn = 2, FakeEndOfTurn(0.1)
    async with talking(ours, caller=caller) as client:
        client.session.conduct = Conduct(plan=lambda: plan(client, caller))
        await client.speak(1)
        await client.rest(0.4)
        await client.speak(1)
        assert len(ours.llm.requests) == 1
        assert client.of(ReplyCallPiece) == []
        await client.rest(5)
    assert len(ours.llm.requests) == 2
    pieces = [event for _, event in client.events if isinstance(event, ReplyCallPiece)]
    assert [piece.arguments for piece in pieces] == ["", '{"', 'a"', ": ", "1}"]


async def test_a_call_that_must_be_made_must_be_made_once() -> None:
    caller, ours = FakeCaller(), fakes("", "Done.")
    async with talking(ours, "push_to_talk", caller=caller) as client:
        client.session.conduct = Conduct(plan=lambda: plan(client, caller))
        await ask(client)
    assert [sampling.tool_choice for sampling in ours.llm.samplings] == ["required", "auto"]
    assert client.replies == ["Done."]


async def test_an_aside_may_call_as_well() -> None:
    caller, ours = FakeCaller(), fakes("", "Done.")
    async with talking(ours, "push_to_talk", caller=caller) as client:

        async def listen() -> Said:
            return Said("look")

        client.session.respond(plan(client, caller), listen, aside=True)
        await asyncio.sleep(5)
    assert client.replies == ["Done."]
    assert client.store.saved == []


@given(
    texts=st.lists(st.sampled_from(["word ", "字", "  "]), max_size=400).map("".join),
    room=st.integers(-5, 100),
)
def test_what_is_cut_fits(texts: str, room: int) -> None:
    count = Fakes().llm.count_tokens
    cut = fitting(texts, room, count)
    assert count(cut) <= max(room, LEAST_RESULT_TOKENS)
    assert cut == texts or (cut.endswith(CUT) and texts.startswith(cut.removesuffix(CUT)))
