"""Whatever happens in a session, its events are grammatical; and the grammar sees what is wrong."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.beta.realtime import RealtimeServerEvent as BetaEvent
from pydantic import TypeAdapter

from avatar.engines.base import Message, ToolCall
from avatar.server.realtime import beta
from avatar.server.realtime.conversation import prompt
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.items import (
    AssistantMessage,
    InputAudio,
    McpApprovalRequest,
    UserMessage,
)
from avatar.server.realtime.responses import Response
from avatar.server.realtime.server_events import Event
from tests.realtime_grammar import Ungrammatical, check
from tests.unit.realtime_stream import Stream, Words, new_stream

BETA_EVENT: TypeAdapter[Any] = TypeAdapter(BetaEvent)


@pytest.fixture
def stream() -> Stream:
    return new_stream()


steps = st.lists(st.sampled_from(["say", "sound", "end", "write", "call", "delete", "truncate"]), max_size=12)


courses = st.lists(
    st.tuples(
        st.sampled_from(["audio", "text"]),
        st.booleans(),
        steps,
        st.sampled_from(["completed", "cancelled", "failed", "incomplete"]),
    ),
    max_size=4,
)


def play(courses: list[tuple[str, bool, list[str], Any]]) -> list[Event]:
    stream = new_stream()
    for modality, inside, course, status in courses:
        stream.user("Hi.")
        response = stream.respond(modality, inside=inside)
        for number, step in enumerate(course):
            stream.sent += _step(stream, response, step, number)
        stream.sent += response.done(status)
    return stream.sent


def _step(stream: Stream, response: Response, step: str, number: int) -> list[Event]:
    match step:
        case "say":
            return response.say(f"word{number} ")
        case "sound":
            return response.sound("AAAA") if response.settings.modality == "audio" else []
        case "end":
            return response.end_item()
        case "write":
            return response.write_call(f"call_{number // 4}", "f", "{")
        case "call":
            return response.call(f"call_{number // 4}", "f", "{}")
    item_id = response.message_id
    if item_id is None or item_id not in stream.conversation:
        return []
    if step == "delete":
        stream.conversation.delete(item_id)
        return [stream.events.item_deleted(item_id)]
    stream.conversation.note_spoken(item_id, Words("a b"))
    stream.conversation.truncate(item_id, 0, 100)
    return [stream.events.item_truncated(item_id, 0, 100)]


@given(courses)
def test_any_course_is_grammatical(course: list[tuple[str, bool, list[str], Any]]) -> None:
    check(play(course))


@given(courses)
def test_in_the_beta_s_names_nothing_is_lost_but_what_it_had_not(
    course: list[tuple[str, bool, list[str], Any]],
) -> None:
    sent = play(course)
    before = copy.deepcopy(sent)
    told = [named for event in sent if (named := beta.from_server(event))]
    assert sent == before
    assert len(told) == len([event for event in sent if event["type"] != "conversation.item.done"])
    assert not any("output_" in event["type"].replace("output_item", "") for event in told)
    for event in told:
        BETA_EVENT.validate_python(event)


COURSE: list[tuple[str, bool, list[str], Any]] = [
    ("audio", True, ["say", "sound", "call", "call"], "completed"),
    ("text", False, ["say"], "completed"),
]


BREAKS: dict[str, Callable[[list[Event]], Any]] = {
    "no beginning": lambda sent: sent.pop(0),
    "no end": lambda sent: sent.pop(),
    "an item's end missing": lambda sent: sent.remove(
        next(e for e in sent if e["type"] == "response.output_item.done")
    ),
    "a part's end missing": lambda sent: sent.remove(
        next(e for e in sent if e["type"] == "response.content_part.done")
    ),
    "sound without end": lambda sent: sent.remove(next(e for e in sent if e["type"] == "response.output_audio.done")),
    "arguments without end": lambda sent: sent.remove(
        next(e for e in sent if e["type"] == "response.function_call_arguments.done")
    ),
    "a delta missing": lambda sent: sent.remove(
        next(e for e in sent if e["type"] == "response.output_audio_transcript.delta")
    ),
    "one event twice": lambda sent: sent.append(sent[3]),
    "the end first": lambda sent: sent.insert(3, sent.pop()),
    "another's index": lambda sent: next(e for e in sent if e["type"] == "response.output_audio.delta").update(
        output_index=1
    ),
    "no previous item": lambda sent: next(e for e in sent if e["type"] == "conversation.item.added").update(
        previous_item_id="item_x"
    ),
    "the item's end missing": lambda sent: sent.remove([e for e in sent if e["type"] == "conversation.item.done"][1]),
}


@pytest.mark.parametrize("name", BREAKS)
def test_the_grammar_sees_what_is_wrong(name: str) -> None:
    sent = play(COURSE)
    check(sent)
    BREAKS[name](sent)
    with pytest.raises(Ungrammatical):
        check(sent)


def calling_a_server(stream: Stream, *, runs: bool = True) -> list[Event]:
    """A response that ends in a call to an MCP server, and what comes of it."""
    stream.user("One and two?")
    response = stream.respond("text")
    item, sent = response.mcp_call("tests", "add", '{"a": 1}', runs=runs)
    where = {"item_id": item.id, "output_index": 0}
    if not runs:
        request_id, asked = response.ask_approval(item)
        sent += asked
        assert isinstance(stream.conversation.retrieve(request_id), McpApprovalRequest)
    sent += response.done("completed")
    if not runs:
        sent.append(stream.events.make("response.mcp_call.in_progress", **where))
    done = item.model_copy(update={"output": "3"})
    stream.conversation.replace(done)
    sent.append(stream.events.make("response.mcp_call.completed", **where))
    return [*stream.sent, *sent, stream.events.item_done(done, stream.conversation.previous_id(item.id or ""))]


@pytest.mark.parametrize("runs", [True, False])
def test_a_call_to_a_server_outlives_its_response(stream: Stream, runs: bool) -> None:
    sent = calling_a_server(stream, runs=runs)
    check(sent)
    call = ToolCall(stream.conversation.items[1].id or "", "tests-add", '{"a": 1}')
    assert prompt("", stream.conversation.items) == [
        Message("user", "One and two?"),
        Message("assistant", "", (call,)),
        Message("tool", "3", tool_call_id=call.id),
    ]


@pytest.mark.parametrize(
    ("what", "before"),
    [
        ("response.mcp_call.completed", "response.done"),
        ("conversation.item.done", "response.mcp_call.completed"),
        ("response.output_item.done", "response.mcp_call_arguments.done"),
        ("response.mcp_call.completed", "response.mcp_call.in_progress"),
    ],
)
def test_the_grammar_of_such_calls(stream: Stream, what: str, before: str) -> None:
    sent = calling_a_server(stream)
    late = max(place for place, event in enumerate(sent) if event["type"] == what)
    early = next(place for place, event in enumerate(sent) if event["type"] == before)
    sent.insert(early, sent.pop(late))
    with pytest.raises(Ungrammatical):
        check(sent)


def test_a_conversation_s_own_events_are_grammatical(stream: Stream) -> None:
    events, conversation = stream.events, stream.conversation
    sent = [events.speech_started("item_1", 10.4), events.speech_stopped("item_1", 900.6)]
    sent.append(events.committed("item_1", conversation.last_id))
    item, before = conversation.create(UserMessage(id="item_1", content=[InputAudio(type="input_audio")]))
    sent += [events.item_added(item, before), events.item_done(item, before)]
    sent += [events.transcription_delta("item_1", "Hel"), events.transcription_delta("item_1", "lo")]
    sent.append(events.transcription_completed("item_1", "Hello", 0.9))
    sent += [events.cleared(), events.timeout_triggered("item_2", 900, 5900), events.item_retrieved(item, None)]
    sent += [events.item_truncated("item_1", 0, 100), events.item_deleted("item_1")]
    sent.append(events.error(BadEvent("invalid_value", "…", "x", "event_of_the_client")))
    check(stream.sent + sent)
    assert isinstance(AssistantMessage(content=[]).wire(), dict)
