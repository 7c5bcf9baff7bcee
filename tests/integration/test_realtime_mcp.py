"""MCP servers as tools of `/v1/realtime`, by a real server and OpenAI's own client; the grammar watches the streams."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from avatar.engines.base import ToolCall
from tests.integration.mcp_serving import COMMAND, ENV, served
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.realtime_client import Line, calling
from tests.integration.serving import settled
from tests.unit.conversation import Fakes

HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One and two?"}]}
TEXT: dict[str, Any] = {"output_modalities": ["text"]}
TESTS: dict[str, Any] = {"type": "mcp", "server_label": "tests", "require_approval": "never"}
ADD = ToolCall("call_a", "tests-add", '{"a": 1, "b": 2}')
FAIL = ToolCall("call_b", "tests-fail", "{}")


@asynccontextmanager
async def talking_to_tools(folder: Path, fakes: Fakes, **tools: Any) -> AsyncIterator[Talk]:
    known = {"label": "tests", "command": list(COMMAND), "env": ENV}
    async with talking_openai(folder, fakes, tools={"mcp_servers": [known], **tools}) as talk:
        yield talk
        await settled(lambda: talk.server.service.sessions.active == 0)


@pytest.fixture
def fakes() -> Fakes:
    fakes = Fakes()
    fakes.llm.replies = ["", "Three."]
    fakes.llm.calls = (ADD,)
    return fakes


@pytest_asyncio.fixture
async def talk(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Talk]:
    async with talking_to_tools(tmp_path, fakes) as talk:
        yield talk


async def ask(line: Line, **response: Any) -> dict[str, Any]:
    await line.send("conversation.item.create", item=HELLO)
    await line.send("response.create", response=response)
    told: dict[str, Any] = (await line.until("response.done"))["response"]
    return told


async def listed(line: Line, **session: Any) -> dict[str, Any]:
    """Have the session use MCP servers, and wait for what they offer."""
    await line.update(**session)
    item: dict[str, Any] = (await line.until("conversation.item.done"))["item"]
    assert item["type"] == "mcp_list_tools"
    return item


async def called(line: Line, count: int = 1) -> dict[str, Any]:
    """The item of a call that has ended."""
    while True:
        item: dict[str, Any] = (await line.until("conversation.item.done"))["item"]
        count -= item["type"] == "mcp_call"
        if count == 0:
            return item


async def test_a_call_and_the_answer_made_of_it(talk: Talk) -> None:
    async with calling(talk.client) as line:
        item = await listed(line, tools=[TESTS], **TEXT)
        assert item["server_label"] == "tests"
        assert {tool["name"] for tool in item["tools"]} == {"add", "fail", "sleep", "long", "die"}
        assert line.order[-4:] == [
            "conversation.item.added",
            "mcp_list_tools.in_progress",
            "mcp_list_tools.completed",
            "conversation.item.done",
        ]
        response = await ask(line)
        await called(line)
        assert response["status"] == "completed"
        assert [(item["type"], item["output"]) for item in response["output"]] == [("mcp_call", None)]
        assert line.order[-11:] == [
            "response.created",
            "rate_limits.updated",
            "response.output_item.added",
            "conversation.item.added",
            "response.mcp_call_arguments.delta",
            "response.mcp_call_arguments.done",
            "response.mcp_call.in_progress",
            "response.output_item.done",
            "response.done",
            "response.mcp_call.completed",
            "conversation.item.done",
        ]
        done = line.events[-1]["item"]
        assert (done["name"], done["arguments"], done["output"], done["error"]) == ("add", ADD.arguments, "3", None)
        await line.send("response.create")
        response = (await line.until("response.done"))["response"]
        assert response["output"][0]["content"][0]["text"] == "Three."
    assert [(m.role, m.content, [call.name for call in m.tool_calls]) for m in talk.fakes.llm.requests[-1]][1:] == [
        ("user", "One and two?", []),
        ("assistant", "", ["tests-add"]),
        ("tool", "3", []),
    ]


async def test_a_server_that_the_client_brings(tmp_path: Path, fakes: Fakes) -> None:
    async with served() as server:
        url = server.url
        async with (
            talking_to_tools(tmp_path, fakes, mcp_allowed_urls=[url]) as talk,
            calling(talk.client) as line,
        ):
            brought = TESTS | {"server_url": url, "authorization": "secret", "headers": {"X-Key": "secret"}}
            await listed(line, tools=[brought], **TEXT)
            assert "secret" not in json.dumps(line.events)
            await ask(line)
            assert (await called(line))["output"] == "3"
            for bad in ({"server_url": url.replace("/mcp", "/other")}, {"server_url": None, "server_label": "none"}):
                await line.send("session.update", session={"type": "realtime", "tools": [brought | bad]})
                error = (await line.until("error"))["error"]
                assert error["param"].startswith("session.tools[0].server_")


async def test_the_client_is_asked(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await listed(line, tools=[TESTS | {"require_approval": "always"}], **TEXT)
        response = await ask(line)
        assert [item["type"] for item in response["output"]] == ["mcp_call", "mcp_approval_request"]
        request = response["output"][1]
        assert (request["name"], request["arguments"]) == ("add", ADD.arguments)
        assert not line.of("response.mcp_call.in_progress")
        answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
        await line.send("conversation.item.create", item=answer, previous_item_id=request["id"])
        assert (await called(line))["output"] == "3"
        await line.send("conversation.item.create", item=answer)
        assert (await line.until("error"))["error"]["param"] == "item.approval_request_id"


async def test_the_client_declines(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await listed(line, tools=[{"type": "mcp", "server_label": "tests"}], **TEXT)  # asked is the default
        request = (await ask(line))["output"][1]
        answer = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": False}
        await line.send("conversation.item.create", item=answer | {"reason": "Too dear.", "id": "mine"})
        item = await called(line)
        assert item["error"]["type"] == "tool_execution_error"
        assert line.of("response.mcp_call.failed")
        await line.send("response.create")
        await line.until("response.done")
    assert "Too dear." in talk.fakes.llm.requests[-1][-1].content


async def test_who_is_asked_for_which_tool(talk: Talk) -> None:
    talk.fakes.llm.calls = (ADD, FAIL)
    rule = {"always": {"tool_names": ["fail"]}, "never": {"read_only": True}}
    async with calling(talk.client) as line:
        await listed(line, tools=[TESTS | {"require_approval": rule}], **TEXT)
        response = await ask(line)
        kinds = [(item["type"], item["name"]) for item in response["output"]]
        assert kinds == [("mcp_call", "add"), ("mcp_call", "fail"), ("mcp_approval_request", "fail")]
        assert (await called(line))["name"] == "add"


async def test_calls_that_fail(talk: Talk) -> None:
    talk.fakes.llm.calls = (FAIL, ADD, ToolCall("call_c", "tests-add", "[1"))
    async with calling(talk.client) as line:
        await listed(line, tools=[TESTS], **TEXT)
        await ask(line)
        await called(line, 3)
        failed = [event["item"] for event in line.of("conversation.item.done") if (event["item"].get("error"))]
        assert [(item["name"], item["error"]["type"]) for item in failed if item["arguments"] == "{}"] == [
            ("fail", "tool_execution_error")
        ]
        assert len(failed) == 2
        await line.send("response.create")
        await line.until("response.done")
    assert [message.role for message in talk.fakes.llm.requests[-1]][1:] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "tool",
    ]


async def test_a_server_that_is_not_there(tmp_path: Path, fakes: Fakes) -> None:
    url = "http://127.0.0.1:9/mcp"
    async with talking_to_tools(tmp_path, fakes, mcp_allowed_urls=[url]) as talk, calling(talk.client) as line:
        item = await listed(line, tools=[TESTS | {"server_url": url}], **TEXT)
        assert item["tools"] == []
        assert line.of("mcp_list_tools.failed")
        talk.fakes.llm.calls, talk.fakes.llm.replies = (), "I cannot."
        assert (await ask(line))["output"][0]["content"][0]["text"] == "I cannot."


async def test_which_tools_the_model_gets(talk: Talk) -> None:
    function = {"type": "function", "name": "weather"}
    talk.fakes.llm.calls = ()
    talk.fakes.llm.replies = "Well."
    async with calling(talk.client) as line:
        await line.update(**TEXT)
        tools = [function, TESTS | {"allowed_tools": ["add", "fail"]}]
        await ask(line, tools=tools)  # asked for only then, and waited for
        assert [tool.name for tool in talk.fakes.llm.tools[-1]] == ["weather", "tests-add", "tests-fail"]
        await ask(line, tools=[function, TESTS | {"allowed_tools": {"read_only": True}}])
        assert [tool.name for tool in talk.fakes.llm.tools[-1]] == ["weather", "tests-add"]
        await ask(line, tools=tools, tool_choice="none")
        assert not talk.fakes.llm.tools[-1]
        await ask(line, tools=tools, tool_choice={"type": "mcp", "server_label": "tests"})
        assert [tool.name for tool in talk.fakes.llm.tools[-1]] == ["tests-add", "tests-fail"]
        assert talk.fakes.llm.samplings[-1].tool_choice == "required"
        await ask(line, tools=tools, tool_choice={"type": "mcp", "server_label": "tests", "name": "add"})
        assert talk.fakes.llm.samplings[-1].tool_choice == "tests-add"
        response = await ask(line, tools=tools, tool_choice={"type": "mcp", "server_label": "tests", "name": "long"})
        assert response["status"] == "failed"
        assert response["status_details"]["error"]["type"] == "invalid_request_error"
        await line.send("response.create", response={"tool_choice": {"type": "mcp", "server_label": "x"}})
        await line.until("error")
        await line.send("response.create", response={"conversation": "none", "tools": [TESTS]})
        assert (await line.until("error"))["error"]["param"] == "response.tools"


async def test_of_a_long_result_the_model_is_told_the_beginning(talk: Talk) -> None:
    talk.fakes.llm.context_tokens, words = 1000, "word " * 5000
    talk.fakes.llm.calls = (ToolCall("call_a", "weather", "{}"),)
    async with calling(talk.client) as line:
        await line.update(tools=[{"type": "function", "name": "weather"}], instructions="", **TEXT)
        call = (await ask(line))["output"][0]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": words}
        await line.send("conversation.item.create", item=output)
        await line.send("response.create")
        assert (await line.until("response.done"))["response"]["status"] == "completed"
    told = talk.fakes.llm.requests[-1]
    assert [message.role for message in told] == ["user", "assistant", "tool"]
    assert words.startswith(told[-1].content.removesuffix(" (cut off)"))
    assert 200 < talk.fakes.llm.count_tokens(told[-1].content) < 500


async def test_what_is_said_first_and_a_call_that_outlives_its_response(talk: Talk) -> None:
    talk.fakes.llm.calls = (ToolCall("call_a", "tests-sleep", '{"seconds": 0.5}'),)
    talk.fakes.llm.replies = ["One moment.", "Still asleep.", "Awake."]
    async with calling(talk.client) as line:
        await listed(line, tools=[TESTS])
        response = await ask(line)
        assert [item["type"] for item in response["output"]] == ["message", "mcp_call"]
        talk.fakes.llm.calls = ()
        await line.send("response.create")
        await line.until("response.done")
        assert not line.of("response.mcp_call.completed")
        assert (await called(line))["output"] == "awake"
        await line.send("response.create")
        await line.until("response.done")
    roles = [[message.role for message in request][1:] for request in talk.fakes.llm.requests]
    assert roles[1:] == [
        ["user", "assistant", "user"],  # in the end "(Go on.)": the model had the last word
        ["user", "assistant", "tool", "assistant", "user"],
    ]
