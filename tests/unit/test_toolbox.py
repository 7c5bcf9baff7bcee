"""The tools of a session: their names, the leave to call them, and the client's own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from avatar.conversation.outbox import Outbox
from avatar.conversation.terms import ToolPolicy
from avatar.conversation.tool_use import CallOutcome
from avatar.conversation.toolbox import (
    ASK_AGAIN_S,
    INTERRUPTED,
    LISTING_S,
    NO_SUCH_TOOL,
    NOT_ANSWERED,
    NOT_APPROVED,
    REFUSED,
    Toolbox,
)
from avatar.core.errors import EngineFailed, NotFound
from avatar.core.events import ErrorOccurred, SessionEvent, ToolCalled, ToolReturned
from avatar.engines.base import Tool, ToolCall
from avatar.tools.mcp_servers import MAX_TOOLS, Failure, McpConnection, McpServer, McpServers, McpTool, Outcome

OBJECT: dict[str, object] = {"type": "object", "properties": {}}
LOOK = Tool("look", "Looks.", OBJECT)


class ScriptedConnection(McpConnection):
    """Lists and calls as the test says; `called` are the names it was asked for, `listed` how often it was to list."""

    def __init__(self, server: McpServer, tools: Sequence[McpTool], listing_s: float = 0.0) -> None:
        super().__init__(server)
        self.on_offer = list(tools)
        self.listing_s = listing_s
        self.error: Exception | None = None
        self.called: list[tuple[str, str]] = []
        self.listed = 0

    async def tools(self) -> list[McpTool]:
        self.listed += 1
        await asyncio.sleep(self.listing_s)
        if self.error is not None:
            raise self.error
        return self.on_offer

    async def call(self, name: str, arguments: str) -> Outcome:
        self.called.append((name, arguments))
        if name == "fail":
            return Outcome("no luck", Failure("tool_execution_error", "no luck"))
        await asyncio.sleep(1)
        return Outcome(f"{name} done")


class Servers(McpServers):
    def __init__(self, *connections: ScriptedConnection) -> None:
        super().__init__([connection.server for connection in connections])
        self._known = {connection.server.label: connection for connection in connections}


def tool(name: str, *, read_only: bool = False) -> McpTool:
    return McpTool(name, f"Does {name}.", dict(OBJECT), read_only)


def house(*tools: McpTool, listing_s: float = 0.0) -> ScriptedConnection:
    return ScriptedConnection(McpServer("house", ("run",)), tools, listing_s)


class Box:
    """A toolbox, and what its client was told."""

    def __init__(self, *connections: ScriptedConnection, own: Sequence[Tool] = ()) -> None:
        self.outbox = Outbox()
        self.tools = Toolbox(Servers(*connections), own, ToolPolicy(10, 5), self.outbox)

    @property
    def told(self) -> list[SessionEvent]:
        return list(self.outbox._control)

    def call(self, name: str, arguments: str = "{}") -> "asyncio.Task[CallOutcome]":
        return asyncio.create_task(self.tools.call("t1", ToolCall("c1", name, arguments)))

    async def asked(self) -> ToolCalled:
        """The last call that the client was told of."""
        await asyncio.sleep(0)
        last = self.told[-1]
        assert isinstance(last, ToolCalled)
        return last

    async def names(self) -> list[str]:
        return [tool.name for tool in await self.tools.offer()]


@asynccontextmanager
async def box(*connections: ScriptedConnection, own: Sequence[Tool] = ()) -> AsyncIterator[Box]:
    made = Box(*connections, own=own)
    try:
        yield made
    finally:
        await made.tools.aclose()


async def test_tools_are_offered_by_names_that_models_take_and_none_twice() -> None:
    other = ScriptedConnection(McpServer("yard", ("run",)), [tool("look"), tool("feel"), tool("go/out.now" + "w" * 80)])
    async with box(house(tool("look"), tool("feel")), other, own=[LOOK]) as made:
        names = await made.names()
        assert names == ["look", "house-look", "feel", "yard-look", "yard-feel", "go_out_now" + "w" * 54]
        call = made.call("yard-look")
        made.tools.approve((await made.asked()).call_id, True)
        await call
    assert other.called == [("look", "{}")]


async def test_who_is_slow_to_say_what_it_offers_is_not_waited_for_again() -> None:
    began_s = asyncio.get_running_loop().time()
    async with box(house(tool("look"), listing_s=10), own=[LOOK]) as made:
        assert await made.names() == ["look"]
        assert asyncio.get_running_loop().time() - began_s == LISTING_S
        await made.names()
        assert asyncio.get_running_loop().time() - began_s == LISTING_S
        await asyncio.sleep(8)
        assert await made.names() == ["look", "house-look"]


async def test_a_server_that_is_not_there_is_told_of_once_and_asked_again_after_a_while() -> None:
    server = house(tool("look"))
    server.error = EngineFailed("The MCP server house cannot be reached; see that it runs.")
    async with box(server) as made:
        for _ in range(int(2.5 * ASK_AGAIN_S)):  # as drafts ask
            assert await made.names() == []
            await asyncio.sleep(1)
        assert server.listed == 3
        (error,) = made.told
        assert isinstance(error, ErrorOccurred)
        assert (error.problem.code, error.problem.fatal) == ("TOOLS_UNAVAILABLE", False)
        server.error = None
        await asyncio.sleep(ASK_AGAIN_S)
        await made.names()
        await asyncio.sleep(1)
        assert await made.names() == ["look"]


async def test_a_server_that_has_too_many_tools_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    many = [tool(f"look_{number}") for number in range(MAX_TOOLS)]
    async with box(ScriptedConnection(McpServer("crowd", ("run",)), many), own=[LOOK]) as made:
        for _ in range(3):
            assert len(await made.names()) == MAX_TOOLS
    assert [record.getMessage() for record in caplog.records] == [
        "the MCP server crowd has more tools than can be offered"
    ]


async def test_a_tool_that_changes_nothing_is_called_at_once() -> None:
    server = house(tool("look", read_only=True))
    async with box(server) as made:
        await made.tools.offer()
        assert await made.call("look", '{"a": 1}') == CallOutcome("look done")
        called, returned = made.told
    assert isinstance(called, ToolCalled)
    assert called == ToolCalled("t1", called.call_id, "look", '{"a": 1}', "house", needs_approval=False)
    assert returned == ToolReturned("t1", called.call_id, "look done")


async def test_no_leave_is_asked_where_the_settings_say_so() -> None:
    server = ScriptedConnection(McpServer("house", ("run",), require_approval="never"), [tool("open")])
    async with box(server) as made:
        await made.tools.offer()
        assert await made.call("open") == CallOutcome("open done")


@pytest.mark.parametrize("approve", [True, False])
async def test_a_tool_that_may_change_something_wants_leave(approve: bool) -> None:
    server = house(tool("open"))
    async with box(server) as made:
        await made.tools.offer()
        call = made.call("open")
        asked = await made.asked()
        assert asked.needs_approval
        await asyncio.sleep(3)
        assert server.called == []
        made.tools.approve(asked.call_id, approve)
        assert await call == (CallOutcome("open done") if approve else REFUSED)
        made.tools.approve(asked.call_id, True)
        assert server.called == ([("open", "{}")] if approve else [])


async def test_leave_that_nobody_gives_is_refused_after_a_while() -> None:
    server = house(tool("open"))
    async with box(server) as made:
        await made.tools.offer()
        began_s = asyncio.get_running_loop().time()
        assert await made.call("open") == NOT_APPROVED
        assert asyncio.get_running_loop().time() - began_s == 10
        assert made.told[-1] == ToolReturned("t1", getattr(made.told[0], "call_id", ""), NOT_APPROVED.text, True)
    assert server.called == []


async def test_leave_in_the_instant_of_an_interruption_calls_nothing() -> None:
    server = house(tool("open"))
    async with box(server) as made:
        await made.tools.offer()
        call = made.call("open")
        asked = await made.asked()
        made.tools.approve(asked.call_id, True)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert made.told[-1] == ToolReturned("t1", asked.call_id, INTERRUPTED, True)
        made.tools.approve(asked.call_id, True)
    assert server.called == []


async def test_the_clients_own_tool_is_the_clients_to_answer() -> None:
    async with box(own=[LOOK]) as made:
        await made.tools.offer()
        call = made.call("look")
        asked = await made.asked()
        assert (asked.server, asked.needs_approval) == (None, False)
        made.tools.approve(asked.call_id, True)
        made.tools.result(asked.call_id, "rain", False)
        made.tools.result(asked.call_id, "sun", False)
        with pytest.raises(NotFound):
            made.tools.result("x", "", False)
        with pytest.raises(NotFound):
            made.tools.approve("x", True)
        assert await call == CallOutcome("rain")
        assert made.told[-1] == ToolReturned("t1", asked.call_id, "rain")
        assert await made.call("look") == NOT_ANSWERED


async def test_failures_are_results() -> None:
    async with box(house(tool("fail", read_only=True))) as made:
        await made.tools.offer()
        assert await made.call("fail") == CallOutcome("no luck", is_error=True)
        assert await made.call("nothing") == NO_SUCH_TOOL


async def test_two_calls_of_one_id_are_told_apart() -> None:
    async with box(own=[LOOK]) as made:
        await made.tools.offer()
        calls = [made.call("look"), made.call("look")]
        await asyncio.sleep(0)
        first, second = made.told
        assert isinstance(first, ToolCalled)
        assert isinstance(second, ToolCalled)
        made.tools.result(second.call_id, "second", False)
        made.tools.result(first.call_id, "first", True)
        assert await asyncio.gather(*calls) == [CallOutcome("first", is_error=True), CallOutcome("second")]
