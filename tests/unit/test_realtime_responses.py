"""A response's events are in the documented order, however it ends; its items are the conversation's."""

from typing import Any

import pytest

from avatar.engines.base import Message, ToolCall
from avatar.server.realtime.conversation import prompt
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.items import (
    FunctionCallOutput,
    wire,
)
from avatar.server.realtime.responses import Usage
from tests.realtime_grammar import check
from tests.unit.realtime_stream import Stream, new_stream, types


@pytest.fixture
def stream() -> Stream:
    return new_stream()


def test_a_spoken_response(stream: Stream) -> None:
    response = stream.respond()
    sent = response.say("I am") + response.sound("AAAA") + response.say(" fine.") + response.sound("AAAA")
    sent += response.end_item() + response.done("completed", Usage(3, 4, 5, 6))
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
        + response.call("c1", "weather", '{"city": "Paris"}')
        + response.call("c2", "time", "{}")
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


def test_a_call_as_it_is_written(stream: Stream) -> None:
    response = stream.respond()
    sent = response.write_call("c1", "weather", "")
    assert types(sent) == ["response.output_item.added", "conversation.item.added"]
    assert [event["item"]["status"] for event in sent] == ["in_progress"] * 2
    sent += response.write_call("c1", "weather", '{"city":')
    assert types(sent[2:]) == ["response.function_call_arguments.delta"]
    sent += response.call("c1", "weather", '{"city": "Paris"}')
    assert types(sent[3:]) == [
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "conversation.item.done",
    ]
    check(stream.sent + sent + response.done("completed"))
    assert [event["delta"] for event in sent if "delta" in event] == ['{"city":', ' "Paris"}']
    assert sent[-1]["item"]["arguments"] == '{"city": "Paris"}'


def test_the_next_call_ends_the_one_before_which_is_not_told_again(stream: Stream) -> None:
    response = stream.respond()
    sent = response.write_call("c1", "weather", "{}") + response.write_call("c2", "time", "{")
    assert types(sent)[3:5] == ["response.function_call_arguments.done", "response.output_item.done"]
    assert response.call("c1", "weather", "{} ") == []
    sent += response.call("c2", "time", "{}") + response.call("c3", "time", "{}")
    sent += response.done("completed")
    check(stream.sent + sent)
    told = [(item["call_id"], item["arguments"], item["status"]) for item in sent[-1]["response"]["output"]]
    assert told == [(call_id, "{}", "completed") for call_id in ("c1", "c2", "c3")]


def test_a_call_that_is_cut_short_is_incomplete(stream: Stream) -> None:
    response = stream.respond()
    sent = response.write_call("c1", "weather", '{"city":') + response.done("cancelled", reason="client_cancelled")
    check(stream.sent + sent)
    (item,) = sent[-1]["response"]["output"]
    assert (item["status"], item["arguments"]) == ("incomplete", '{"city":')
    assert [event["arguments"] for event in sent if "arguments" in event] == ['{"city":']


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
