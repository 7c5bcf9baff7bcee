"""A response's course is grammatical whatever happens in it; the conversation and its prompt follow it."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.beta.realtime import RealtimeServerEvent as BetaEvent
from pydantic import TypeAdapter

from avatar.engines.base import Message, ToolCall
from avatar.server.realtime import beta
from avatar.server.realtime.conversation import ROOT, Conversation, prompt
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.items import (
    AssistantMessage,
    FunctionCallOutput,
    InputAudio,
    InputText,
    ItemReference,
    McpApprovalRequest,
    SystemMessage,
    UserMessage,
    wire,
)
from avatar.server.realtime.responses import Response, ResponseSettings, Usage
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession
from avatar.server.realtime.session import wire as session_wire
from tests.realtime_grammar import Ungrammatical, check

BETA_EVENT: TypeAdapter[Any] = TypeAdapter(BetaEvent)
SETTINGS = {"voice": "alloy", "format": {"type": "audio/pcm", "rate": 24_000}}


@dataclass
class Stream:
    """A session's events, recorded, with its conversation."""

    events: ServerEvents
    conversation: Conversation
    sent: list[Event]

    def respond(self, modality: Any = "audio", *, inside: bool = True) -> Response:
        response = Response(self.events, ResponseSettings(modality, SETTINGS), self.conversation if inside else None)
        self.sent += response.created()
        return response

    def user(self, text: str) -> str:
        item, before = self.conversation.create(UserMessage(content=[InputText(type="input_text", text=text)]))
        self.sent += [self.events.item_added(item, before), self.events.item_done(item, before)]
        assert item.id is not None
        return item.id


@pytest.fixture
def stream() -> Stream:
    return new_stream()


def new_stream() -> Stream:
    numbers = count()

    def mint(kind: str) -> str:
        return f"{kind}_{next(numbers)}"

    events = ServerEvents(mint)
    told = session_wire(RealtimeSession(type="realtime", model="gpt-realtime"), mint("sess"), 60)
    return Stream(events, Conversation(mint("conv"), mint), [events.session("created", told)])


class Words:
    """A word every 100 ms."""

    def __init__(self, text: str) -> None:
        self._words = text.split()
        self.duration_ms = 100.0 * len(self._words)

    def text_until(self, ms: float) -> str:
        return " ".join(self._words[: int(ms // 100)])


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


def test_a_spoken_response(stream: Stream) -> None:
    response = stream.respond()
    sent = response.say("I am") + response.sound("AAAA") + response.say(" fine.") + response.sound("AAAA")
    sent += response.end_message() + response.done("completed", Usage(3, 4, 5, 6))
    assert types(sent) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    check(stream.sent + sent)
    told = sent[-1]["response"]
    assert (told["status"], told["usage"]["total_tokens"], told["conversation_id"]) == (
        "completed",
        18,
        stream.conversation.id,
    )
    assert told["output"][0]["content"] == [{"type": "output_audio", "transcript": "I am fine."}]
    assert wire(stream.conversation.items[0]) == told["output"][0]


def test_a_written_response_outside_the_conversation(stream: Stream) -> None:
    stream.user("Hi.")
    response = stream.respond("text", inside=False)
    sent = response.say("Hello.") + response.done("completed")
    assert types(sent) == [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    check(stream.sent + sent)
    assert sent[-1]["response"]["conversation_id"] is None
    assert len(stream.conversation.items) == 1


def test_calls_in_parallel_after_a_word(stream: Stream) -> None:
    user = stream.user("Weather and time?")
    response = stream.respond()
    sent = (
        response.say("One moment.")
        + response.call("c1", "weather", ['{"city":', ' "Paris"}'])
        + response.call("c2", "time", ["{}"])
    )
    sent += response.done("completed")
    check(stream.sent + sent)
    assert [event["arguments"] for event in sent if "arguments" in event] == ['{"city": "Paris"}', "{}"]
    first, second = (
        event["item"]["id"]
        for event in sent
        if event["type"] == "conversation.item.done" and event["item"]["type"] == "function_call"
    )
    assert stream.conversation.previous_id(second) == first
    assert stream.conversation.previous_id(user) is None
    with pytest.raises(BadEvent):
        stream.conversation.create(FunctionCallOutput(call_id="c3", output="?"))
    stream.conversation.create(FunctionCallOutput(call_id="c2", output="noon"))
    stream.conversation.create(FunctionCallOutput(call_id="c1", output="sunny"))
    assert prompt("Be kind.", stream.conversation.items) == [
        Message("system", "Be kind."),
        Message("user", "Weather and time?"),
        Message(
            "assistant", "One moment.", (ToolCall("c1", "weather", '{"city": "Paris"}'), ToolCall("c2", "time", "{}"))
        ),
        Message("tool", "noon", tool_call_id="c2"),
        Message("tool", "sunny", tool_call_id="c1"),
    ]


def test_a_call_without_a_result_is_not_in_the_prompt(stream: Stream) -> None:
    response = stream.respond()
    response.call("c1", "weather", ["{}"])
    response.done("completed")
    stream.user("Never mind.")
    assert prompt("", stream.conversation.items) == [Message("user", "Never mind.")]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("cancelled", "turn_detected"),
        ("cancelled", "client_cancelled"),
        ("incomplete", "max_output_tokens"),
        ("failed", None),
    ],
)
def test_a_response_that_is_cut_short_is_ended_all_the_same(stream: Stream, status: Any, reason: Any) -> None:
    response = stream.respond()
    sent = response.say("I am") + response.sound("AAAA")
    sent += response.done(
        status, reason=reason, error={"type": "server_error", "code": "x"} if status == "failed" else None
    )
    check(stream.sent + sent)
    told = sent[-1]["response"]
    assert (told["status"], told["status_details"]["type"], told["status_details"].get("reason")) == (
        status,
        status,
        reason,
    )
    assert told["output"][0]["status"] == "incomplete"


# --- truncation ---------------------------------------------------------------------------------


def spoken(stream: Stream, text: str) -> str:
    response = stream.respond()
    stream.sent += response.say(text)
    item_id = response.message_id
    assert item_id is not None
    stream.conversation.note_spoken(item_id, Words(text))
    stream.sent += response.done("completed")
    return item_id


def test_what_was_not_heard_is_forgotten(stream: Stream) -> None:
    item_id = spoken(stream, "one two three four")
    assert stream.conversation.truncate(item_id, 0, 250) == "one two"
    assert prompt("", stream.conversation.items) == [Message("assistant", "one two")]
    assert stream.conversation.truncate(item_id, 0, 100) == "one"


def test_what_was_truncated_while_it_grew_stays_so(stream: Stream) -> None:
    response = stream.respond()
    response.say("one two three")
    item_id = response.message_id
    assert item_id is not None
    stream.conversation.note_spoken(item_id, Words("one two three"))
    stream.conversation.truncate(item_id, 0, 100)
    ends = response.done("cancelled", reason="turn_detected")
    assert prompt("", stream.conversation.items) == [Message("assistant", "one")]
    told = [event["item"] for event in ends if "item" in event] + ends[-1]["response"]["output"]
    assert [item["content"][0]["transcript"] for item in told] == ["one", "one", "one"]


def test_what_cannot_be_truncated(stream: Stream) -> None:
    item_id, user = spoken(stream, "one two"), stream.user("Hi.")
    for item, index, ms, code in (
        (item_id, 0, 201, "invalid_value"),
        (item_id, 1, 100, "invalid_value"),
        (user, 0, 100, "unsupported_content_type"),
        ("item_x", 0, 100, "item_truncate_invalid_item_id"),
    ):
        with pytest.raises(BadEvent) as refusal:
            stream.conversation.truncate(item, index, ms)
        assert refusal.value.openai_code == code
    assert prompt("", stream.conversation.items)[0] == Message("assistant", "one two")


# --- the list -----------------------------------------------------------------------------------


def test_items_go_where_they_are_put(stream: Stream) -> None:
    first, second = stream.user("1"), stream.user("2")
    system = SystemMessage(id="item_s", content=[InputText(type="input_text", text="0")])
    assert stream.conversation.create(system, ROOT)[1] is None
    middle, before = stream.conversation.create(UserMessage(content=[InputAudio(type="input_audio")]), first)
    assert before == first
    assert [item.id for item in stream.conversation.items] == ["item_s", first, middle.id, second]
    assert wire(middle)["content"] == [{"type": "input_audio", "transcript": None}]
    assert wire(middle, "AAAA")["content"][0]["audio"] == "AAAA"
    for wrong, after, code in (
        (system, None, "item_create_duplicate_item_id"),
        (UserMessage(content=[]), "item_x", "item_create_invalid_previous_item_id"),
    ):
        with pytest.raises(BadEvent) as refusal:
            stream.conversation.create(wrong, after)
        assert refusal.value.openai_code == code
    stream.conversation.delete(first)
    with pytest.raises(BadEvent):
        stream.conversation.delete(first)
    assert stream.conversation.previous_id(middle.id or "") == "item_s"
    assert stream.conversation.resolve([ItemReference(type="item_reference", id=second)])[0].id == second


class ListModel:
    """What the conversation's list must do, in five lines."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def create(self, item_id: str, after: str | None) -> bool:
        if item_id in self.order or after not in (None, ROOT, *self.order):
            return False
        place = len(self.order) if after is None else 0 if after == ROOT else self.order.index(after) + 1
        self.order.insert(place, item_id)
        return True

    def delete(self, item_id: str) -> bool:
        found = item_id in self.order
        self.order = [other for other in self.order if other != item_id]
        return found


ids = st.sampled_from([f"item_{letter}" for letter in "abcde"])
operations = st.lists(
    st.tuples(st.just("create"), ids, ids | st.sampled_from([None, ROOT]))
    | st.tuples(st.just("delete"), ids, st.none())
)


@given(operations)
def test_the_list_is_a_list(steps: list[tuple[str, str, str | None]]) -> None:
    conversation, model = new_stream().conversation, ListModel()
    for what, item_id, after in steps:
        expected = model.create(item_id, after) if what == "create" else model.delete(item_id)
        try:
            if what == "create":
                conversation.create(UserMessage(id=item_id, content=[]), after)
            else:
                conversation.delete(item_id)
            done = True
        except BadEvent:
            done = False
        assert done == expected
        assert [item.id for item in conversation.items] == model.order
        assert conversation.last_id == (model.order[-1] if model.order else None)


# --- any course ---------------------------------------------------------------------------------

steps = st.lists(st.sampled_from(["say", "sound", "end", "call", "delete", "truncate"]), max_size=12)
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
            return response.end_message()
        case "call":
            return response.call(f"call_{number}", "f", ["{", "}"])
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
    item, sent = response.mcp_call("tests", "add", ['{"a":', " 1}"], runs=runs)
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


def test_the_beta_s_client_events() -> None:
    flat = {
        "type": "session.update",
        "session": {
            "modalities": ["text", "audio"],
            "voice": "alloy",
            "input_audio_format": "g711_ulaw",
            "turn_detection": None,
            "temperature": 0.8,
            "input_audio_transcription": {"model": "whisper-1"},
            "max_response_output_tokens": 100,
        },
    }
    assert beta.from_client(flat)["session"] == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "max_output_tokens": 100,
        "audio": {
            "input": {
                "turn_detection": None,
                "transcription": {"model": "whisper-1"},
                "format": {"type": "audio/pcmu"},
            },
            "output": {"voice": "alloy"},
        },
    }
    writing = flat | {"type": "transcription_session.update"}
    writing["session"] = {"modalities": ["text"], "input_audio_format": "pcm16", "turn_detection": None}
    assert beta.from_client(writing) == {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 24_000}}},
        },
    }
    item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]}
    created = beta.from_client({"type": "conversation.item.create", "item": item})
    assert created["item"]["content"][0]["type"] == "output_text"
    told = beta.from_server(new_stream().sent[0])
    assert told is not None
    assert (told["session"]["voice"], told["session"]["input_audio_format"]) == ("alloy", "pcm16")
