"""Tools in `/ws/chat`: a real MCP server, a real socket, a model that calls as the test says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from avatar.conversation.opening import Request
from avatar.conversation.outbox import Outbox
from avatar.engines.base import ToolCall
from tests.integration.mcp_serving import COMMAND, ENV
from tests.integration.serving import Server, WireClient, fake_engines, serving, settings_for, settled
from tests.unit.conversation import Fakes, tone

ADD = ToolCall("c1", "add", '{"a": 2, "b": 3}')
FAIL = ToolCall("c1", "fail", "{}")
SLEEP = ToolCall("c1", "sleep", '{"seconds": 60}')
CLOCK = {"name": "clock", "description": "The time on the user's watch."}


@pytest.fixture
def fakes() -> Fakes:
    fakes = Fakes()
    fakes.llm.replies, fakes.llm.calls = ["", "It is five.", "As I said."], (ADD,)
    return fakes


@pytest_asyncio.fixture
async def server(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Server]:
    known = {"label": "tests", "command": list(COMMAND), "env": ENV}
    tools = {"mcp_servers": [known], "approval_timeout_s": 1.0, "client_timeout_s": 1.0}
    async with serving(fake_engines(fakes), settings_for(tmp_path, tools=tools)) as running:
        yield running
        await settled(lambda: running.service.sessions.active == 0)


async def say(client: WireClient, text: str = "two and three?") -> None:
    await client.send("text", text=text)


def tool_messages(client: WireClient) -> list[dict[str, Any]]:
    return [message for message in client.messages if message["type"].startswith("tool.")]


async def test_a_read_only_tool_is_called_and_its_result_spoken(server: Server, fakes: Fakes) -> None:
    async with server.client() as client:
        ready = await client.start()
        await say(client)
        done = await client.until("reply.done")
        call, result = tool_messages(client)
        assert (call["server"], call["name"], call["needs_approval"]) == ("tests", "add", False)
        assert call["arguments"] == ADD.arguments
        assert {message["turn_id"] for message in (call, result)} == {done["turn_id"]}
        assert (result["call_id"], result["text"], result["is_error"]) == (call["call_id"], "5", False)
        assert done["heard_text"] == "It is five."
        assert done["metrics"]["tools_ms"] > 0
        assert client.audio
    assert [tool.name for tool in fakes.llm.tools[0]] == ["add", "fail", "sleep", "long", "die"]
    _, saved = await server.get(f"/api/conversations/{ready['conversation_id']}")
    (turn,) = saved["turns"]
    assert turn["calls"] == [{"id": "c1", "name": "add", "arguments": ADD.arguments, "result": "5"}]


async def test_a_conversation_that_is_taken_up_again_knows_its_calls(server: Server, fakes: Fakes) -> None:
    async with server.client() as client:
        ready = await client.start()
        await say(client)
        await client.until("reply.done")
    fakes.llm.calls = ()
    async with server.client() as client:
        await client.start(conversation_id=ready["conversation_id"])
        await say(client, "sure?")
        await client.until("reply.done")
    told = [(message.role, message.content) for message in fakes.llm.requests[-1]]
    assert told[-4:] == [("assistant", ""), ("tool", "5"), ("assistant", "It is five."), ("user", "sure?")]


@pytest.mark.parametrize(("approve", "text"), [(True, "executing"), (False, "does not want")])
async def test_leave_is_asked_for_a_tool_that_may_change_something(
    server: Server, fakes: Fakes, approve: bool, text: str
) -> None:
    fakes.llm.calls = (FAIL,)
    async with server.client() as client:
        await client.start()
        await say(client)
        call = await client.until("tool.call")
        assert call["needs_approval"]
        await client.send("tool.approve", call_id=call["call_id"], approve=approve)
        result = await client.until("tool.result")
        assert result["is_error"]
        assert text in result["text"]
        assert (await client.until("reply.done"))["status"] == "completed"
        for call_id in (call["call_id"], "unheard-of"):  # too late, and wrong
            await client.send("tool.approve", call_id=call_id, approve=True)
        await client.until("error")
        assert [message["code"] for message in client.messages if message["type"] == "error"] == ["NOT_FOUND"]


async def test_a_client_that_cannot_give_leave_is_not_waited_for_long(server: Server, fakes: Fakes) -> None:
    fakes.llm.calls = (FAIL,)
    async with server.client() as client:
        await client.start()
        await say(client)
        assert "in time" in (await client.until("tool.result"))["text"]
        assert (await client.until("reply.done"))["status"] == "completed"


async def test_an_interruption_ends_the_call_and_the_wait_for_leave(server: Server, fakes: Fakes) -> None:
    fakes.llm.calls = (SLEEP,)
    async with server.client() as client:
        await client.start()
        for approve in (True, False):
            await say(client)
            call = await client.until("tool.call")
            if approve:
                await client.send("tool.approve", call_id=call["call_id"], approve=True)
            await client.send("interrupt")
            result = await client.until("tool.result")
            assert (result["call_id"], result["is_error"]) == (call["call_id"], True)
            assert (await client.until("reply.done"))["status"] == "interrupted"


async def test_who_speaks_over_a_call_ends_it(server: Server, fakes: Fakes) -> None:
    fakes.llm.calls = (SLEEP,)
    async with server.client() as client:
        await client.start(mode="live")
        await client.speak(tone(0.3, 800))
        await client.speak(tone(0.0, 800))
        call = await client.until("tool.call")
        await client.send("tool.approve", call_id=call["call_id"], approve=True)
        fakes.llm.calls = ()
        await client.speak(tone(0.3, 800))
        await client.speak(tone(0.0, 800))
        assert (await client.until("tool.result"))["is_error"]
        assert (await client.until("reply.done"))["status"] == "interrupted"
        assert (await client.until("reply.done"))["status"] == "completed"


async def test_the_client_brings_tools_and_answers_their_calls(server: Server, fakes: Fakes) -> None:
    fakes.llm.calls = (ToolCall("c1", "clock", "{}"),)
    async with server.client() as client:
        await client.start(tools=[CLOCK])
        await say(client)
        call = await client.until("tool.call")
        assert "server" not in call
        await client.send("tool.result", call_id=call["call_id"], text="five o'clock")
        assert (await client.until("tool.result"))["text"] == "five o'clock"
        await client.until("reply.done")
        assert fakes.llm.requests[1][-1].content == "five o'clock"
        await say(client)
        assert "in time" in (await client.until("tool.result"))["text"]
        await client.until("reply.done")
    assert fakes.llm.tools[0][0].description == CLOCK["description"]


async def test_a_server_that_dies_in_a_call_is_told_to_the_model(server: Server, fakes: Fakes) -> None:
    fakes.llm.calls = (ToolCall("c1", "die", "{}"),)
    async with server.client() as client:
        await client.start()
        for _ in range(2):  # it is started again
            await say(client)
            call = await client.until("tool.call")
            await client.send("tool.approve", call_id=call["call_id"], approve=True)
            assert "cannot be reached" in (await client.until("tool.result"))["text"]
            assert (await client.until("reply.done"))["status"] == "completed"


async def test_a_session_without_a_server_that_is_wanted_says_so_and_goes_on(tmp_path: Path, fakes: Fakes) -> None:
    fakes.llm.replies = "Hello."
    gone = {"label": "gone", "command": ["/nonexistent/server"]}
    settings = settings_for(tmp_path, tools={"mcp_servers": [gone]})
    async with serving(fake_engines(fakes), settings) as server, server.client() as client:
        await client.start()
        error = await client.until("error")
        assert (error["code"], error["fatal"]) == ("TOOLS_UNAVAILABLE", False)
        await say(client)
        assert (await client.until("reply.done"))["status"] == "completed"
        assert fakes.llm.tools == [()]


async def test_a_session_whose_closing_is_cut_short_asks_no_server_any_more(server: Server) -> None:
    opened = await server.service.house().open(Request(tools=()), Outbox())
    opened.session.say("hello")
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(opened.session.aclose())
    await asyncio.sleep(0)  # it waits for the turn to be saved
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert "tools of tests" not in {task.get_name() for task in asyncio.all_tasks()}
    speech = server.service.lineup.seats["tts"].loaded
    assert speech is not None
    assert speech.holds == 0
    await opened.session.aclose()
