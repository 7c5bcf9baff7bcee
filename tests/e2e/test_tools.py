"""A tool called by a real model: its weights, a real MCP server, a real socket, real speech.

SmolLM2-135M calls no tool of its own accord: asked three times to add, it answered in words each time. Made to call it,
by the grammar that llama.cpp makes of the tool's schema, it writes the right arguments; so here it is made to.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avatar import choosing
from tests.integration.mcp_serving import COMMAND, ENV
from tests.integration.serving import Server, serving, settings_for, settled

pytestmark = pytest.mark.weights


def make_it_call(server: Server) -> None:
    house = server.service.house()
    reply = house.policy.reply
    forced = replace(reply, sampling=replace(reply.sampling, tool_choice="required"))
    server.service._house = replace(house, policy=replace(house.policy, reply=forced))


async def test_a_real_model_has_a_tool_called_and_speaks_on(tmp_path: Path, models_dir: Path) -> None:
    known = {"label": "tests", "command": list(COMMAND), "env": ENV, "allowed_tools": ["add"]}
    wishes = {"stt": {"model": "moonshine-tiny-en"}, "llm": {"model": "smollm2-135m-instruct"}}
    settings = settings_for(tmp_path, models_dir=models_dir, tools={"mcp_servers": [known]}, **wishes)
    async with serving(choosing.picks(choosing.survey(settings), settings), settings) as server:
        make_it_call(server)
        async with server.client() as client:
            await client.start(instructions="You are a helpful assistant. Keep answers short.")
            await client.send("text", text="What is 2 plus 3? Use the add tool.")
            call = await client.until("tool.call", 30)
            result = await client.until("tool.result")
            done = await client.until("reply.done", 30)
        assert (call["name"], json.loads(call["arguments"])) == ("add", {"a": 2, "b": 3})
        assert (result["text"], result["is_error"]) == ("5", False)
        assert done["status"] == "completed"
        assert "5" in done["heard_text"]
        assert client.audio
        await settled(lambda: server.service.sessions.active == 0)
