"""`/v1/chat/completions` and `/v1/models`, as OpenAI's own client finds them."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from avatar.core.errors import EngineFailed, Overloaded, UnusableSchema
from avatar.engines.base import TokensSpent, ToolCall
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import Fakes

HELLO: list[ChatCompletionMessageParam] = [
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "How are"}, {"type": "text", "text": "you?"}]},
]
WEATHER: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    },
    {"type": "function", "function": {"name": "time"}},
]
CALLS = (ToolCall("call_a", "weather", '{"city": "Paris"}'), ToolCall("call_b", "time", "{}"))


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking_openai(tmp_path) as talk:
        yield talk


async def test_an_answer(talk: Talk) -> None:
    answer = await talk.client.chat.completions.create(
        model="gpt-4o", messages=HELLO, max_completion_tokens=50, temperature=0.5, top_p=0.9, seed=7
    )
    assert answer.choices[0].message.content == "I am fine. How are you?"
    assert (answer.choices[0].finish_reason, answer.choices[0].message.tool_calls) == ("stop", None)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert [(m.role, m.content) for m in talk.fakes.llm.requests[0]] == [
        ("system", "Be kind."),
        ("user", "How are\nyou?"),
    ]
    sampling = talk.fakes.llm.samplings[0]
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (50, 0.5, 0.9, 7)


async def test_usage_is_what_the_engine_tells(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where it tells nothing, and its count is an overestimate, no more was made than was asked for."""
    monkeypatch.setattr(talk.fakes.llm, "count_tokens", lambda text: 3 * len(text.split()))
    asked: dict[str, Any] = {"model": "x", "messages": HELLO, "max_tokens": 4}
    usage = (await talk.client.chat.completions.create(**asked)).usage
    assert usage is not None
    assert usage.completion_tokens == 4
    talk.fakes.llm.spent = TokensSpent(40, 4)
    usage = (await talk.client.chat.completions.create(**asked)).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.total_tokens) == (40, 44)


async def test_an_answer_as_it_comes(talk: Talk) -> None:
    stream = await talk.client.chat.completions.create(
        model="x", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == ["I", " am", " fine.", " How", " are", " you?"]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 6 + ["stop"]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 6
    assert len({chunk.id for chunk in (*chunks, last)}) == 1


@pytest.mark.parametrize("piece_chars", [0, 5])
async def test_the_helper_of_the_client_puts_a_stream_together(talk: Talk, piece_chars: int) -> None:
    talk.fakes.llm.calls, talk.fakes.llm.piece_chars = CALLS, piece_chars
    async with talk.client.chat.completions.stream(model="x", messages=HELLO, tools=WEATHER) as stream:
        completion = await stream.get_final_completion()
    message = completion.choices[0].message
    assert completion.choices[0].finish_reason == "tool_calls"
    assert message.content == "I am fine. How are you?"
    assert [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or ()] == [
        (call.id, call.name, call.arguments) for call in CALLS
    ]


@pytest.mark.parametrize("parallel", [True, False])
async def test_calls_come_as_they_are_written(talk: Talk, parallel: bool) -> None:
    talk.fakes.llm.replies, talk.fakes.llm.calls, talk.fakes.llm.piece_chars = "", CALLS, 9
    stream = await talk.client.chat.completions.create(
        model="x", messages=HELLO, tools=WEATHER, parallel_tool_calls=parallel, stream=True
    )
    *chunks, last = [chunk.choices[0] async for chunk in stream]
    told = [call for choice in chunks for call in choice.delta.tool_calls or ()]
    assert [(call.index, call.id, call.type, call.function and call.function.arguments) for call in told] == [
        (0, "call_a", "function", ""),
        (0, None, None, '{"city": '),
        (0, None, None, '"Paris"}'),
        (1, "call_b", "function", ""),
        (1, None, None, "{}"),
    ][: 5 if parallel else 3]
    assert [choice.delta.role for choice in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    assert len(chunks) == len(told)
    assert last.finish_reason == "tool_calls"


@pytest.mark.parametrize("parallel", [True, False])
async def test_tools_there_and_back(talk: Talk, parallel: bool) -> None:
    talk.fakes.llm.replies, talk.fakes.llm.calls = "", CALLS
    create = talk.client.chat.completions.create
    answer = await create(model="x", messages=HELLO, tools=WEATHER, parallel_tool_calls=parallel)
    message = answer.choices[0].message
    assert (message.content, answer.choices[0].finish_reason) == (None, "tool_calls")
    assert [call.id for call in message.tool_calls or ()] == ["call_a", "call_b"][: 2 if parallel else 1]
    assert [tool.name for tool in talk.fakes.llm.tools[0]] == ["weather", "time"]
    talk.fakes.llm.replies = "It is sunny."
    results: list[Any] = [{"role": "tool", "tool_call_id": call.id, "content": "Sunny."} for call in CALLS]
    answer = await create(model="x", messages=[*HELLO, message.model_dump(exclude_none=True), *results], tools=WEATHER)  # type: ignore[list-item]
    assert answer.choices[0].message.content == "It is sunny."
    _, _, assistant, first, _ = talk.fakes.llm.requests[1]
    assert assistant.tool_calls[0] == CALLS[0]
    assert (first.role, first.tool_call_id, first.content) == ("tool", "call_a", "Sunny.")


@pytest.mark.parametrize(
    ("choice", "offered", "wish"),
    [
        ("none", [], "auto"),
        ("auto", ["weather", "time"], "auto"),
        ("required", ["weather", "time"], "required"),
        ({"type": "function", "function": {"name": "time"}}, ["weather", "time"], "time"),
    ],
)
async def test_which_tool(talk: Talk, choice: Any, offered: list[str], wish: str) -> None:
    await talk.client.chat.completions.create(model="x", messages=HELLO, tools=WEATHER, tool_choice=choice)
    assert [tool.name for tool in talk.fakes.llm.tools[0]] == offered
    assert talk.fakes.llm.samplings[0].tool_choice == wish


async def test_a_bound_and_a_stop_sequence(talk: Talk) -> None:
    create = talk.client.chat.completions.create
    answer = await create(model="x", messages=HELLO, max_tokens=2)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("I am", "length")
    answer = await create(model="x", messages=HELLO, stop=["fine. Ho", "never"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("I am ", "stop")
    assert talk.fakes.llm.active == 0


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"temperature": 3}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"tool_choice": {"type": "function", "function": {"name": "nothing"}}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_cannot_be_is_said(talk: Talk, wrong: dict[str, Any], param: str, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "x", "messages": HELLO, "stream": stream, **wrong}
    with pytest.raises(openai.BadRequestError) as refusal:
        await talk.client.chat.completions.create(**asked)
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("", "missing_required_parameter", None),
        ("[]", "invalid_type", None),
        ({"messages": None}, "invalid_type", "messages"),
        ({"model": "x"}, "missing_required_parameter", "messages"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [*HELLO, {"role": "tool"}]}, "missing_required_parameter", "messages[2].tool_call_id"),
        ({"messages": HELLO, "temperature": 3}, "decimal_above_max_value", "temperature"),
        ({"messages": HELLO, "temperature": "hot"}, "invalid_type", "temperature"),
        ({"messages": HELLO, "max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"messages": HELLO, "stop": list("abcde")}, "array_above_max_length", "stop"),
        (
            {"messages": HELLO, "tools": [{"type": "function", "function": {}}]},
            "missing_required_parameter",
            "tools[0].function.name",
        ),
        ({"messages": HELLO, "tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"messages": HELLO, "stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    ],
)
async def test_what_is_told_of_a_wrong_body(talk: Talk, body: Any, code: str, param: str | None) -> None:
    data = body if isinstance(body, str) else json.dumps(body)
    url, kind = f"{talk.server.url}/v1/chat/completions", {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as http, http.post(url, data=data, headers=kind) as answer:
        error = (await answer.json())["error"]
        assert answer.status == 400
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert param is None or param in error["message"]


async def test_null_is_as_good_as_nothing(talk: Talk) -> None:
    """As libraries have it that write out every field they know; and what an earlier answer refused."""
    function = {"name": "time", "description": None, "parameters": None, "strict": None}
    nothing = dict.fromkeys(("max_tokens", "stop", "tool_choice", "response_format", "parallel_tool_calls", "user"))
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "tool_calls": None}
    options = {"stream": True, "stream_options": {"include_usage": None}}
    body = nothing | options | {
        "messages": [*HELLO, refused, {"role": "user", "content": "Please."}],
        "tools": [{"type": "function", "function": function}],
    }  # fmt: skip
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{talk.server.url}/v1/chat/completions", json=body) as answer,
    ):
        assert (await answer.text()).endswith("data: [DONE]\n\n")
    assert [(m.role, m.content) for m in talk.fakes.llm.requests[0]][2:] == [("assistant", "No."), ("user", "Please.")]
    assert [tool.name for tool in talk.fakes.llm.tools[0]] == ["time"]


async def test_every_answer_has_an_id_to_ask_about(talk: Talk) -> None:
    answer = await talk.client.chat.completions.create(model="x", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as refusal:
        await talk.client.chat.completions.create(model="x", messages=[])
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")
    assert refusal.value.request_id not in (None, answer._request_id)


async def test_an_answer_in_json(talk: Talk) -> None:
    llm, schema = talk.fakes.llm, {"type": "object", "properties": {"city": {"type": "string"}}}
    named = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    asked: dict[str, Any] = {"model": "x", "messages": HELLO}
    llm.capabilities = replace(llm.capabilities, writes_json=True)
    for form, told in ((named, schema), ({"type": "json_object"}, {}), ({"type": "text"}, None)):
        await talk.client.chat.completions.create(**(asked | {"response_format": form}))
        assert llm.samplings[-1].schema == told
    llm.error = UnusableSchema("It cannot be held to that.")
    for form, param in (
        (named, "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "yaml"}, "response_format.type"),
    ):
        with pytest.raises(openai.BadRequestError) as refusal:
            await talk.client.chat.completions.create(**(asked | {"response_format": form}))
        assert refusal.value.param == param


async def test_failures_before_and_after_the_first_token(talk: Talk) -> None:
    create = talk.client.chat.completions.create
    for error, status in ((EngineFailed("broken"), 502), (Overloaded("busy"), 503), (ValueError("secret"), 502)):
        talk.fakes.llm.error, talk.fakes.llm.error_after = error, 0
        for stream in (True, False):
            with pytest.raises(openai.InternalServerError) as failure:
                await create(model="x", messages=HELLO, stream=stream)
            assert failure.value.status_code == status
            assert "secret" not in str(failure.value)
    talk.fakes.llm.error, talk.fakes.llm.error_after = EngineFailed("broken"), 2
    chunks = await create(model="x", messages=HELLO, stream=True)
    assert [(await anext(chunks)).choices[0].delta.content for _ in range(2)] == ["I", " am"]
    with pytest.raises(openai.APIError, match="broken"):
        await anext(chunks)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_model(tmp_path: Path, stream: bool) -> None:
    fakes = Fakes()
    fakes.llm.hang, fakes.llm.error_after = True, 2 * stream
    async with talking_openai(tmp_path, fakes) as talk:
        asking = asyncio.create_task(_read(talk, stream))
        await settled(lambda: fakes.llm.active == 1)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(1):
            await settled(lambda: fakes.llm.active == 0)


async def _read(talk: Talk, stream: bool) -> None:
    answer: Any = await talk.client.chat.completions.create(model="x", messages=HELLO, stream=stream)
    async for _ in answer:
        pass


async def test_one_request_too_many_is_told_to_come_back(tmp_path: Path) -> None:
    fakes = Fakes()
    fakes.llm.hang = True
    async with talking_openai(tmp_path, fakes, admission={"max_requests": 1, "wait_s": 0.05}) as talk:
        first = asyncio.create_task(_read(talk, False))
        await settled(lambda: fakes.llm.active == 1)
        with pytest.raises(openai.InternalServerError) as refusal:
            await talk.client.chat.completions.create(model="x", messages=HELLO)
        assert (refusal.value.status_code, refusal.value.code) == (503, "server_full")
        first.cancel()
        await asyncio.wait([first])


async def test_models(talk: Talk) -> None:
    models = [model.id async for model in await talk.client.models.list()]
    assert models == ["fake language model", "fake speech to text", "fake text to speech"]
    assert (await talk.client.models.retrieve(models[0])).owned_by == "avatar"
    with pytest.raises(openai.NotFoundError) as refusal:
        await talk.client.models.retrieve("gpt-9")
    assert refusal.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await talk.client.images.generate(prompt="a dog")


async def test_a_body_has_a_bound(tmp_path: Path) -> None:
    async with talking_openai(tmp_path, media={"max_upload_bytes": 10_000}) as talk:
        with pytest.raises(openai.APIStatusError) as refusal:
            await talk.client.chat.completions.create(model="x", messages=[{"role": "user", "content": "word " * 3000}])
        assert refusal.value.status_code == 413
