"""MCP servers as tools, against a real one over both transports."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import pytest
import pytest_asyncio
from mcp.shared.exceptions import MCPError

from avatar.core.errors import BadMessage, EngineFailed, NotFound
from avatar.tools.mcp_servers import MAX_RESULT_CHARS, McpConnection, McpServer, McpServers
from tests.integration.mcp_serving import served, stdio


@pytest_asyncio.fixture(params=["stdio", "http"])
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[McpConnection]:
    async with served() if request.param == "http" else _nothing() as server:
        connection = McpConnection(server or stdio())
        try:
            yield connection
        finally:
            await connection.aclose()
            await connection.aclose()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield None


async def test_tools_and_calls(connection: McpConnection) -> None:
    tools = {tool.name: tool for tool in await connection.tools()}
    assert set(tools) == {"add", "fail", "sleep", "long", "die"}
    assert (tools["add"].description, tools["add"].read_only, tools["fail"].read_only) == ("The sum.", True, False)
    assert tools["add"].parameters["required"] == ["a", "b"]
    calls = [connection.call("add", json.dumps({"a": 1, "b": number})) for number in range(5)]
    assert [outcome.text for outcome in await asyncio.gather(*calls)] == ["1", "2", "3", "4", "5"]
    failed = await connection.call("fail", "")
    assert failed.failure is not None
    assert failed.failure.kind == "tool_execution_error"
    assert "fail" in failed.text
    assert len((await connection.call("long", "{}")).text) == MAX_RESULT_CHARS


@pytest.mark.parametrize("arguments", ["{", "[]", "5", '{"a": 1}', '{"a": "x", "b": 2}'])
async def test_wrong_arguments_are_an_outcome(arguments: str) -> None:
    connection = McpConnection(stdio())
    outcome = await connection.call("add", arguments)
    assert outcome.failure is not None
    assert outcome.text
    assert (await connection.call("add", '{"a": 1, "b": 1}')).text == "2"
    await connection.aclose()


async def test_what_is_not_allowed_is_neither_offered_nor_called() -> None:
    connection = McpConnection(stdio(allowed_tools=frozenset({"add"})))
    assert [tool.name for tool in await connection.tools()] == ["add"]
    outcome = await connection.call("die", "{}")
    assert outcome.failure is not None
    assert outcome.failure.kind == "protocol_error"
    assert (await connection.call("add", '{"a": 1, "b": 1}')).text == "2"
    await connection.aclose()


async def test_a_server_that_dies_is_started_again() -> None:
    connection = McpConnection(stdio())
    assert (await connection.call("add", '{"a": 1, "b": 1}')).text == "2"
    lost = await connection.call("die", "{}")
    assert lost.failure is not None
    assert lost.failure.kind == "http_error"
    assert (await connection.call("add", '{"a": 1, "b": 2}')).text == "3"
    await connection.aclose()


async def test_a_call_has_a_limit_and_can_be_cancelled() -> None:
    connection = McpConnection(stdio())
    await connection.tools()
    hurried = McpConnection(stdio(timeout_s=3.0))
    await hurried.tools()
    began = time.monotonic()
    late = await hurried.call("sleep", '{"seconds": 60}')
    assert late.failure is not None
    assert time.monotonic() - began < 10
    waiting = asyncio.create_task(connection.call("sleep", '{"seconds": 60}'))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await connection.call("add", '{"a": 1, "b": 1}')).text == "2"
    await asyncio.gather(connection.aclose(), hurried.aclose())


@pytest.mark.parametrize("failing", ["a listing in vain", "a lost connection"])
async def test_what_fails_for_one_ends_nothing_of_the_others(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = McpConnection(stdio())
    first = await connection._connected()
    running = asyncio.create_task(connection.call("sleep", '{"seconds": 1}'))
    await asyncio.sleep(0.1)
    closed = MCPError(-32_000 if failing == "a lost connection" else -32_603, "no")
    monkeypatch.setattr(first.client, "list_tools", AsyncMock(side_effect=closed))
    monkeypatch.setattr(first.client, "call_tool", AsyncMock(side_effect=closed))
    if failing == "a listing in vain":
        with pytest.raises(EngineFailed):
            await connection.tools()
    else:
        assert (await connection.call("add", '{"a": 1, "b": 1}')).failure is not None
    assert (await connection.call("add", '{"a": 1, "b": 2}')).text == "3", "by a new connection"
    assert not first.holder.done(), "while a call runs on it"
    assert (await running).text == "awake"
    async with asyncio.timeout(10):
        await first.holder
    assert (await connection.call("add", '{"a": 2, "b": 2}')).text == "4"
    await connection.aclose()


@pytest.mark.parametrize(
    "server",
    [
        McpServer("gone", command=("/no/such/command",), timeout_s=5),
        McpServer("mute", command=(sys.executable, "-c", "pass"), timeout_s=5),
        McpServer("away", url="http://127.0.0.1:9/mcp", timeout_s=5),
    ],
    ids=lambda server: server.label,
)
async def test_a_server_that_is_not_there(server: McpServer) -> None:
    connection = McpConnection(server)
    with pytest.raises(EngineFailed, match=server.label):
        await connection.tools()
    outcome = await connection.call("add", "{}")
    assert outcome.failure is not None
    await connection.aclose()


async def test_which_servers_there_are() -> None:
    servers = McpServers([stdio()], ["https://tools.example/team", "http://127.0.0.1:9"])
    assert servers.labels == ("tests",)
    assert servers.known("tests").server.label == "tests"
    with pytest.raises(NotFound):
        servers.known("other")
    for url in ("https://tools.example/team", "https://tools.example/team/mcp", "http://127.0.0.1:9/mcp"):
        assert servers.brought(McpServer("x", url=url)).server.url == url
    for url in (
        "https://tools.example/teams",
        "https://tools.example/team/../other",
        "https://tools.example.evil.example/team",
        "https://tools.example@evil.example/team",
        "http://tools.example/team",
        "http://127.0.0.1:90/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "",
    ):
        with pytest.raises(BadMessage):
            servers.brought(McpServer("x", url=url))
    with pytest.raises(BadMessage):
        servers.brought(stdio())
    await servers.aclose()
