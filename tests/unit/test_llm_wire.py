"""Chat completions in and out, thoughts, tool calls in text, and the estimate of tokens: pure functions, no engine."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.base import Delta, Message, Sampling, Tool, ToolCall
from avatar.engines.llm import wire
from avatar.engines.llm.hermes import HermesFilter
from avatar.engines.llm.tokens import estimate_tokens


def chunk(content: str | None = None, finish_reason: str | None = None, **delta: object) -> dict[str, object]:
    return {"choices": [{"delta": {"content": content, **delta}, "finish_reason": finish_reason}]}


def cut(text: str, cuts: list[int]) -> list[str]:
    """`text` in pieces, cut at some of its places."""
    places = sorted({place % (len(text) + 1) for place in cuts} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(places)]


def test_a_request_says_what_was_asked_and_no_more() -> None:
    call = ToolCall("1", "now", "{}")
    messages = (
        Message("user", "Hi"),
        Message("assistant", "", (call,)),
        Message("tool", "noon", tool_call_id="1"),
    )
    body = wire.request(messages, (), Sampling(max_tokens=9, seed=0))
    assert body == {
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "noon", "tool_call_id": "1"},
        ],
        "max_tokens": 9,
        "stream": True,
        "seed": 0,
    }


def test_tools_are_offered_as_functions() -> None:
    (offer,) = wire.tool_dicts((Tool("now", "The time.", {"type": "object"}),))
    assert offer["function"] == {"name": "now", "description": "The time.", "parameters": {"type": "object"}}


@pytest.mark.parametrize("empty", [{}, {"choices": []}, {"choices": None}, chunk(), chunk(""), {"choices": [{}]}])
def test_a_chunk_without_text_is_no_delta(empty: dict[str, object]) -> None:
    reader = wire.ChunkReader()
    assert reader.read(empty) is None
    assert not reader.given


@pytest.mark.parametrize(("said", "meant"), [("stop", "stop"), ("length", "length"), ("content_filter", "stop")])
def test_every_end_has_a_reason(said: str, meant: str) -> None:
    reader = wire.ChunkReader()
    assert reader.read(chunk("Hi")) == Delta("Hi")
    assert reader.read(chunk(finish_reason=said)) == Delta(finish_reason=meant)  # type: ignore[arg-type]
    assert reader.finished


def test_what_a_model_reasons_in_its_own_field_is_dropped() -> None:
    assert wire.ChunkReader().read(chunk(reasoning_content="Hmm.")) is None


@given(st.text(alphabet="a <>/think\n", max_size=20), st.lists(st.integers(0, 60)))
def test_thoughts_are_dropped_however_they_are_cut(thought: str, cuts: list[int]) -> None:
    text = f"<think>{thought.replace('</think>', '')}</think>\n\nIt is noon, <b>sir</b>."
    thoughts = wire.ThoughtFilter()
    said = "".join(thoughts.push(piece) for piece in cut(text, cuts)) + thoughts.rest()
    assert said == "It is noon, <b>sir</b>."


@given(st.text(max_size=30), st.lists(st.integers(0, 60)))
def test_what_is_no_thought_is_said_as_it_is(text: str, cuts: list[int]) -> None:
    thoughts = wire.ThoughtFilter()
    said = "".join(thoughts.push(piece) for piece in cut(text, cuts)) + thoughts.rest()
    assert said == text.lstrip()


def test_a_thought_that_never_ends_is_not_said() -> None:
    thoughts = wire.ThoughtFilter()
    assert thoughts.push("<think>Let me") + thoughts.push(" see") + thoughts.rest() == ""


@given(st.lists(st.sampled_from(["now", "weather"]), max_size=3), st.lists(st.integers(0, 300)))
def test_tool_calls_are_taken_out_of_the_text_however_it_is_cut(names: list[str], cuts: list[int]) -> None:
    calls = "\n".join(f'<tool_call>\n{{"name": "{name}", "arguments": {{"a": "é"}}}}\n</tool_call>' for name in names)
    tools = HermesFilter()
    said = "".join(tools.push(piece) for piece in cut("One < two. " + calls, cuts))
    rest, made = tools.finish()
    assert said + rest == "One < two. "
    assert [call["function"]["name"] for call in made] == names
    assert all(json.loads(call["function"]["arguments"]) == {"a": "é"} for call in made)


@pytest.mark.parametrize(
    "nonsense", ["<tool_call>now please</tool_call>", "<tool_call>[1]</tool_call>", "<tool_call>{"]
)
def test_a_tool_call_that_is_none_is_neither_said_nor_made(nonsense: str) -> None:
    tools = HermesFilter()
    assert tools.push(nonsense) == ""
    assert tools.finish() == ("", [])


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    assert estimate_tokens(text) <= estimate_tokens(text + more) + 1  # two pieces of a word may join


@pytest.mark.parametrize(
    ("text", "tokens"),  # counted by SmolLM2's tokenizer
    [
        ("Hello, how are you today? The weather is nice, isn't it? I'd like to go to the park at 5:30 pm.", 32),
        ("今天天气很好，我们一起去公园散步，然后回家做饭。", 47),
    ],
)
def test_the_estimate_is_close_and_not_below(text: str, tokens: int) -> None:
    assert tokens <= estimate_tokens(text) <= 1.5 * tokens
