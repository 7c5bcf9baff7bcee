"""How `OpenAICompatible` takes a server that refuses, hangs, talks nonsense or goes away: over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from aiohttp import web

from avatar.core.errors import EngineError, EngineFailed, EngineLost, EngineTimeout, Overloaded, PromptTooLong
from avatar.engines.base import Delta, Message, Sampling, Tool, ToolCall, ToolCallPiece
from avatar.engines.llm.openai_compatible import OpenAICompatible
from tests.fakes.llm import FakeLanguageModel
from tests.fakes.openai_server import OpenAIServer, refusal, send, start_stream

HELLO = (Message("user", "Hello."),)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer(FakeLanguageModel("One two three four.")).running() as server:
        yield server


@pytest_asyncio.fixture
async def engine(server: OpenAIServer) -> AsyncIterator[OpenAICompatible]:
    engine = OpenAICompatible(server.base_url, read_timeout_s=0.3)
    try:
        await engine.warm_up()
        yield engine
    finally:
        await engine.aclose()


async def answer(engine: OpenAICompatible, **options: object) -> list[Delta]:
    async with aclosing(engine.stream(HELLO, **options)) as deltas:  # type: ignore[arg-type]
        return [delta async for delta in deltas]


async def test_the_model_is_found_when_none_is_named(engine: OpenAICompatible, server: OpenAIServer) -> None:
    await answer(engine, sampling=Sampling(max_tokens=7, temperature=0.5, seed=3))
    body = server.requests[-1]
    assert "fake" in engine.name
    assert (body["model"], body["stream"], body["max_tokens"]) == ("fake", True, 7)
    assert (body["temperature"], body["seed"]) == (0.5, 3)
    assert "top_p" not in body
    assert "tools" not in body


async def test_the_server_s_limit_on_the_context_is_kept(server: OpenAIServer) -> None:
    server.models[0]["max_model_len"] = 1000
    engine = OpenAICompatible(server.base_url)
    await engine.warm_up()
    assert engine.context_tokens == 1000
    await engine.aclose()


async def test_a_model_the_server_has_not_got_is_refused_with_those_it_has(server: OpenAIServer) -> None:
    engine = OpenAICompatible(server.base_url, model="other")
    with pytest.raises(EngineFailed, match=r"no model 'other'.*fake"):
        await engine.warm_up()
    await engine.aclose()


@pytest.mark.parametrize(
    ("status", "text", "error", "advice"),
    [
        (401, "Invalid key", EngineFailed, "llm.api_key"),
        (404, "No such model", EngineFailed, "llm.base_url"),
        (429, "Slow down", Overloaded, "busy"),
        (503, "Loading", Overloaded, "busy"),
        (400, "maximum context length is 2048 tokens", PromptTooLong, "context"),
        (400, "what is this", EngineFailed, "refused"),
        (500, "oops", EngineFailed, "HTTP 500"),
    ],
)
async def test_each_refusal_says_what_to_do(
    engine: OpenAICompatible, server: OpenAIServer, status: int, text: str, error: type[EngineError], advice: str
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return refusal(status, text)

    server.misbehave = refuse
    with pytest.raises(error, match=advice) as caught:
        await answer(engine)
    assert type(caught.value) is error
    assert len(server.requests) == 1, "a refusal is not asked for twice"


async def test_no_server_is_overloaded_at_once() -> None:
    engine = OpenAICompatible("http://127.0.0.1:9/v1", model="any")
    with pytest.raises(Overloaded, match="start it"):
        await answer(engine)
    with pytest.raises(EngineFailed, match="start it"):
        await engine.warm_up()
    await engine.aclose()


async def test_a_connection_that_was_closed_meanwhile_goes_unnoticed(
    engine: OpenAICompatible, server: OpenAIServer
) -> None:
    async def hang_up_once(request: web.Request) -> web.StreamResponse | None:
        if len(server.requests) > 1:
            return None
        assert request.transport
        request.transport.abort()
        raise ConnectionResetError

    server.misbehave = hang_up_once
    assert (await answer(engine))[-1].finish_reason == "stop"
    assert len(server.requests) == 2


async def test_silence_before_the_first_token_is_a_timeout(engine: OpenAICompatible, server: OpenAIServer) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    server.misbehave = hang
    with pytest.raises(EngineTimeout, match=r"0\.3 s"):
        await answer(engine)
    assert len(server.requests) == 1


async def _cut(response: web.StreamResponse, request: web.Request) -> None:
    assert request.transport
    request.transport.abort()


async def _hang(response: web.StreamResponse, request: web.Request) -> None:
    await asyncio.Event().wait()


async def _garbage(response: web.StreamResponse, request: web.Request) -> None:
    await response.write(b"data: {not json\n\n")


async def _not_utf8(response: web.StreamResponse, request: web.Request) -> None:
    await response.write(b"data: \xff\xfe\n\n")


async def _wrong_shape(response: web.StreamResponse, request: web.Request) -> None:
    await response.write(b'data: {"choices": [{"delta": {"tool_calls": [5]}}]}\n\n')


async def _end(response: web.StreamResponse, request: web.Request) -> None:
    await response.write(b"data: [DONE]\n\n")


async def _error(response: web.StreamResponse, request: web.Request) -> None:
    await response.write(b'data: {"error": {"message": "out of memory"}}\n\n')


@pytest.mark.parametrize("trouble", [_cut, _hang, _garbage, _not_utf8, _wrong_shape, _end, _error])
@pytest.mark.parametrize("tokens", [0, 2])
async def test_trouble_is_a_failure_before_the_first_token_and_a_loss_after_it(
    engine: OpenAICompatible, server: OpenAIServer, trouble: object, tokens: int
) -> None:
    async def misbehave(request: web.Request) -> web.StreamResponse:
        response = await start_stream(request)
        for _ in range(tokens):
            await send(response, {"content": "word "})
        await trouble(response, request)  # type: ignore[operator]
        return response

    server.misbehave = misbehave
    stream = engine.stream(HELLO)
    assert [(await anext(stream)).text for _ in range(tokens)] == ["word "] * tokens
    with pytest.raises(EngineLost if tokens else EngineError) as caught:
        await anext(stream)
    assert str(caught.value).endswith((".", "again."))
    assert len(server.requests) == 1, "what has begun is not begun again"


async def test_the_server_sees_at_once_that_the_generator_is_closed(
    engine: OpenAICompatible, server: OpenAIServer
) -> None:
    server.model = FakeLanguageModel("word " * 1000, hang=True, error_after=1)  # writes nothing more: no write can fail
    stream = engine.stream(HELLO)
    await anext(stream)
    assert not server.gone.is_set()
    await stream.aclose()
    await server.gone.wait()


async def test_the_server_sees_a_request_cancelled_before_its_first_token(
    engine: OpenAICompatible, server: OpenAIServer
) -> None:
    server.model = FakeLanguageModel(hang=True)
    task = asyncio.create_task(answer(engine))
    await server.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.gone.wait()


async def test_tool_calls_come_in_pieces_and_whole_with_the_last_delta(
    engine: OpenAICompatible, server: OpenAIServer
) -> None:
    async def call_tools(request: web.Request) -> web.StreamResponse:
        response = await start_stream(request)
        await send(response, {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "now", "arguments": ""}}]})
        await send(response, {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "weather"}}]})
        await send(response, {"tool_calls": [{"index": 1, "function": {"arguments": '{"city": '}}]})
        await send(response, {"tool_calls": [{"index": 1, "function": {"arguments": '"Oslo"}'}}]})
        await send(response, {}, "tool_calls")
        return response

    server.misbehave = call_tools
    deltas = await answer(engine, tools=(Tool("now", "The time.", {"type": "object", "properties": {}}),))
    calls = (ToolCall("a", "now", "{}"), ToolCall("b", "weather", '{"city": "Oslo"}'))
    # whether `now` is to have arguments is not known before the end: `weather` waits for it
    assert deltas == [
        Delta(call_pieces=(ToolCallPiece("a", "now", ""),)),
        Delta(tool_calls=calls, finish_reason="tool_calls"),
    ]
    assert server.requests[-1]["tools"][0]["function"]["name"] == "now"
