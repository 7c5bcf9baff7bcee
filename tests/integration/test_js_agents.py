"""`@openai/agents` in a Node process as a client: tools that it calls itself, and speech over the reply."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avatar.engines.base import Message, ToolCall
from tests import realtime_grammar
from tests.integration.openai_client import talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import Fakes

CLIENTS = Path(__file__).parents[1] / "js"
LONG = "One two three. Four five six. Seven eight nine. Ten eleven twelve. Thirteen."
KEY = "a-key-of-the-tests"


async def node(script: str, *arguments: str) -> list[dict[str, Any]]:
    """Run a script of `tests/js` to its end; the JSON objects that it printed. Raises if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # set-up may have put Node into the venv
    program = shutil.which("node", path=path)
    if program is None or not (CLIENTS / "node_modules").is_dir():
        raise FileNotFoundError("The JavaScript clients are not there: run `python3 scripts/setup.py --dev`.")
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(
        program, CLIENTS / script, *arguments, cwd=CLIENTS, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(40):
            told, complaints = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    assert running.returncode == 0, complaints.decode()
    return [json.loads(line) for line in told.splitlines()]


def words_of(item: dict[str, Any]) -> str:
    return "".join(part.get("transcript") or part.get("text") or "" for part in item["content"])


async def test_a_tool_an_interruption_and_what_is_left_of_it(tmp_path: Path) -> None:
    fakes = Fakes()

    def reply(messages: Sequence[Message]) -> str:
        if messages[-1].role == "tool":
            fakes.llm.calls, fakes.llm.token_s = (), 0.3
            return "Sunny."
        return "" if fakes.llm.calls else LONG

    fakes.llm.calls, fakes.llm.replies = (ToolCall("call_a", "weather", '{"city": "Paris"}'),), reply
    async with talking_openai(tmp_path, fakes, server={"api_keys": [KEY]}) as talk:
        url = f"{talk.server.url.replace('http', 'ws')}/v1/realtime?model=any"
        told = await node("talk.mjs", url, KEY)
        await settled(lambda: talk.server.service.sessions.active == 0)
    events = [one["about"] for one in told if one["what"] == "event"]
    realtime_grammar.check(events, ended=False)
    assert [one["about"] for one in told if one["what"] == "tool called"] == ["Paris"]
    done = [event["response"] for event in events if event["type"] == "response.done"]
    assert [response["status"] for response in done][:3] == ["completed", "completed", "cancelled"]
    assert done[2]["status_details"]["reason"] == "turn_detected"
    assert any(event["type"] == "conversation.item.truncated" for event in events)
    (history,) = [one["about"] for one in told if one["what"] == "history"]
    said = [(item["role"], words_of(item)) for item in history if item["type"] == "message"]
    heard = said[3][1]
    assert said[:5] == [
        ("user", "hello there"),
        ("assistant", "Sunny."),
        ("user", "hello there"),
        ("assistant", heard),
        ("user", "hello there"),
    ]
    assert LONG.startswith(heard)
    assert len(heard) < len(LONG)
    assert ("assistant", heard) in [(message.role, message.content) for message in fakes.llm.requests[-1]]
