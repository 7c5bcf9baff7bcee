"""The messages of `/ws/chat`: whatever comes in is a message or a `BadMessage`; what goes out is what was meant."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from avatar.core.errors import BadMessage
from avatar.server.wire import client, server

LONG_SCHEMA = {"type": "object", "description": "x" * 8_192}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
TYPES = "session.start session.update audio.end text interrupt playback tool.approve tool.result ping nonsense".split()
FIELDS = "mode audio conversation_id voice_id language instructions output text turn_id played_ms tools call_id".split()
types = st.sampled_from([*TYPES, 5])
fields = st.sampled_from([*FIELDS, "x"])
messages = st.dictionaries(fields, anything, max_size=4).flatmap(lambda body: types.map(lambda t: {**body, "type": t}))


def read(text: str) -> client.AnyClientMessage | None:
    """The message, or None for a refusal."""
    try:
        return client.parse(text)
    except BadMessage:
        return None


@given(messages)
def test_any_object_is_a_message_or_refused(message: dict[str, Any]) -> None:
    parsed = read(json.dumps(message))
    assert parsed is None or parsed.type == message["type"]


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("7", "not a bare value"),
        ("{}", "no `type`"),
        ('{"type": "dance"}', "unknown"),
        ('{"type": "text", "text": 1}', "`text`"),
        ('{"type": "text", "text": ""}', "`text`"),
        ('{"type": "ping", "x": 1}', "`x`"),
        ('{"type": "playback", "turn_id": "t", "played_ms": NaN}', "played_ms"),
        ('{"type": "session.start", "output": {"sample_rate": 5}}', "output.sample_rate"),
        ('{"type": "session.start", "language": "../x"}', "language"),
        ('{"type": "session.start", "tools": [{"name": "a b"}]}', "tools.0.name"),
        ('{"type": "session.start", "tools": [{"name": "a"}, {"name": "a"}]}', "same name"),
        ('{"type": "session.start", "tools": [{"name": "a", "parameters": {"type": "string"}}]}', "object"),
        (json.dumps({"type": "session.start", "tools": [{"name": "a", "parameters": LONG_SCHEMA}]}), "8192 bytes"),
        (json.dumps({"type": "session.start", "tools": [{"name": f"a{n}"} for n in range(33)]}), "at most 32"),
        ('{"type": "tool.approve", "call_id": "c", "approve": "yes"}', "approve"),
        (json.dumps({"type": "tool.result", "call_id": "c", "text": "x" * 65_537}), "65536"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        client.parse(text)


def test_defaults_of_a_start() -> None:
    start = client.parse('{"type": "session.start"}')
    assert isinstance(start, client.SessionStart)
    assert (start.mode, start.audio, start.output.sample_rate) == ("push_to_talk", None, None)


server_messages = st.one_of(
    st.builds(server.SpeechStarted, session_id=st.text(), at_ms=st.floats(0, 1e6)),
    st.builds(server.Transcript, session_id=st.text(), turn_id=st.text(), text=st.text(), is_final=st.booleans()),
    st.builds(server.ReplyText, session_id=st.text(), turn_id=st.text(), delta=st.text(), is_final=st.booleans()),
    st.builds(server.Error, code=st.text(), message=st.text(), fatal=st.booleans()),
    st.builds(server.Pong),
)


@given(server_messages)
def test_what_is_encoded_can_be_read_again(message: server.ServerBase) -> None:
    assert TypeAdapter(server.ServerMessage).validate_json(server.encode(message)) == message


@pytest.mark.parametrize("delta", ["你好，世界", "😀", "half an emoji: \ud83d", "\udc00 and the other half", "nul \0"])
def test_whatever_an_engine_says_can_be_sent(delta: str) -> None:
    frame = server.encode(server.ReplyText(turn_id="turn_x", delta=delta)).encode("utf-8")
    assert json.loads(frame)["delta"] == delta
