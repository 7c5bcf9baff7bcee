"""Chat completions in and out, thoughts, tool calls in text, and the estimate of tokens: pure functions, no engine."""

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.base import Delta, Message, Sampling, TokensSpent, Tool, ToolCall, ToolCallPiece
from avatar.engines.llm import hermes, wire
from avatar.engines.llm.hermes import HermesFilter
from avatar.engines.llm.tokens import estimate_tokens
from tests.call_pieces import check_pieces


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


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (None, None),
        ({}, {"type": "json_object"}),
        ({"type": "array"}, {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "array"}}}),
    ],
)
def test_the_form_of_an_answer_is_told(schema: dict[str, str] | None, told: object) -> None:
    assert wire.request([Message("user", "Hi")], (), Sampling(schema=schema)).get("response_format") == told


@pytest.mark.parametrize(
    ("wish", "told"),
    [("auto", None), ("required", "required"), ("now", {"type": "function", "function": {"name": "now"}})],
)
def test_which_tool_must_be_called_is_told(wish: str, told: object) -> None:
    tools = (Tool("now", "The time.", {"type": "object"}),)
    assert wire.request((), tools, Sampling(tool_choice=wish)).get("tool_choice") == told
    assert "tool_choice" not in wire.request((), (), Sampling(tool_choice=wish))


def test_a_conversation_with_tools_in_plain_text() -> None:
    call = ToolCall("1", "now", '{"zone": "UTC"}')
    messages = [Message("system", "Be kind."), Message("assistant", "Let me see.", (call,)), Message("tool", "noon")]
    system, assistant, tool = hermes.in_text(messages, [Tool("now", "The time.", {"type": "object"})])
    assert system.content.startswith("Be kind.\n\n# Tools")
    assert '"name": "now"' in system.content
    filtered = HermesFilter()
    assert filtered.push(assistant.content) == "Let me see.\n"
    assert json.loads(filtered.finish()[1][0]["function"]["arguments"]) == {"zone": "UTC"}
    assert (tool.role, tool.content) == ("user", "<tool_response>\nnoon\n</tool_response>")
    assert hermes.in_text(messages[1:], [Tool("now", "", {})])[0].role == "system"
    assert hermes.in_text([Message("user", "Hi")], ()) == [Message("user", "Hi")]


@pytest.mark.parametrize(("choice", "rest"), [("required", 'now", "arguments": {}}'), ("now", "{}}")])
def test_a_call_that_was_begun_for_the_model(choice: str, rest: str) -> None:
    calls = HermesFilter(hermes.begun_call(choice))
    reader = wire.ChunkReader()
    assert reader.read(calls.read(chunk(rest))) is None
    last = reader.read(calls.read(chunk("\n</tool_call>", "stop")))
    assert last is not None
    assert [(made.name, made.arguments) for made in last.tool_calls] == [("now", "{}")]
    assert last.finish_reason == "tool_calls"


def test_calls_that_a_server_found_are_left_as_they_are() -> None:
    found = [{"index": 0, "id": "a", "function": {"name": "now", "arguments": "{}"}}]
    last = wire.ChunkReader().read(HermesFilter().read(chunk("Now.", "tool_calls", tool_calls=found)))
    assert last == Delta("Now.", (ToolCall("a", "now", "{}"),), "tool_calls")
    assert HermesFilter().read({"choices": []}) == {"choices": []}


def test_the_schema_of_a_call_is_that_of_one_tool_or_of_any() -> None:
    tools = [Tool("now", "", {"type": "object"}), Tool("weather", "", {"type": "object"})]
    assert hermes.call_schema(tools, "now")["properties"]["name"] == {"const": "now"}
    assert len(hermes.call_schema(tools, "required")["anyOf"]) == 2


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


def test_what_an_answer_took_is_read_where_a_server_tells() -> None:
    for told, spent in (
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, TokensSpent(5, 2)),
        ({"timings": {"cache_n": 3, "prompt_n": 4, "predicted_n": 2}}, TokensSpent(7, 2)),
        ({"usage": None}, None),
        ({}, None),
    ):
        last = wire.ChunkReader().read(chunk(finish_reason="stop") | told)
        assert last is not None
        assert last.spent == spent


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


def fragment(index: int, arguments: str, **more: str) -> dict[str, object]:
    function = {"name": more["name"], "arguments": arguments} if "name" in more else {"arguments": arguments}
    return {"index": index, "function": function} | ({"id": more["id"]} if "id" in more else {})


def read(*fragments: dict[str, object]) -> list[Delta]:
    """One chunk each, and an end."""
    reader = wire.ChunkReader()
    chunks = [*(chunk(tool_calls=[one]) for one in fragments), chunk(finish_reason="tool_calls")]
    return [delta for one in chunks if (delta := reader.read(one))]


def test_a_call_comes_in_pieces_as_it_is_written() -> None:
    *deltas, last = read(fragment(0, "", id="a", name="now"), fragment(0, '{"a":'), fragment(0, ""), fragment(0, "1}"))
    assert [delta.call_pieces for delta in deltas] == [
        (ToolCallPiece("a", "now", part),) for part in ("", '{"a":', "1}")
    ]
    assert last == Delta(tool_calls=(ToolCall("a", "now", '{"a":1}'),), finish_reason="tool_calls")


def test_calls_that_are_told_apart_by_nothing_else_get_ids_of_their_own() -> None:
    *_, last = read(fragment(0, "{}", id="a", name="x"), fragment(1, "{}", id="a", name="y"), fragment(2, "", name="z"))
    assert len({call.id for call in last.tool_calls}) == 3
    assert last.tool_calls[0].id == "a"


@given(
    calls=st.lists(st.lists(st.sampled_from('{"a": [1, {}]} '), max_size=3).map("".join), max_size=3),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    order=st.randoms(use_true_random=False),
    interleaved=st.booleans(),
)
def test_pieces_tell_one_call_after_the_other(
    calls: list[str], cuts: list[int], order: random.Random, interleaved: bool
) -> None:
    """However the server cuts and mixes them, and whatever the model makes of JSON."""
    parts = [
        [fragment(index, "", id=f"c{index}", name=f"f{index}"), *(fragment(index, piece) for piece in cut(call, cuts))]
        for index, call in enumerate(['{"k": 1}', *calls])
    ]
    fragments = [one for part in parts for one in part]
    if interleaved:
        fragments = []
        while parts := [part for part in parts if part]:
            fragments.append(order.choice(parts).pop(0))
    check_pieces(read(*fragments))


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
