"""A conversation is a list of items, cut to what was heard, and the prompt that it comes to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.base import Message
from avatar.server.realtime.conversation import ROOT, prompt
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.items import (
    InputAudio,
    InputText,
    ItemReference,
    SystemMessage,
    UserMessage,
    wire,
)
from tests.unit.realtime_stream import Stream, Words, new_stream


@pytest.fixture
def stream() -> Stream:
    return new_stream()


def test_a_call_without_a_result_is_not_in_the_prompt(stream: Stream) -> None:
    response = stream.respond()
    response.call("c1", "weather", "{}")
    response.done("completed")
    stream.user("Never mind.")
    assert prompt("", stream.conversation.items) == [Message("user", "Never mind.")]


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
