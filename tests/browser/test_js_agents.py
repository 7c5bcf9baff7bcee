"""`@openai/agents` in a page, with an ephemeral key: over WebRTC and a real microphone, and over a WebSocket."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page

from avatar.engines.base import Message, ToolCall
from tests import realtime_grammar
from tests.browser.stranger import WAIT_MS, ephemeral_key, keyed_server, listening_page
from tests.integration.serving import Server, settled
from tests.unit.conversation import Fakes

pytestmark = pytest.mark.browser

SDK = Path(__file__).parents[1] / "js/node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.umd.js"
LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."
START = """
const { RealtimeAgent, RealtimeSession, tool } = OpenAIAgentsRealtime;
window.told = { events: [], cities: [], errors: [] };
window.start = async (transport, apiKey, url) => {
  const weather = tool({
    name: "weather",
    description: "The weather in a city.",
    parameters: {
      type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false,
    },
    execute: ({ city }) => { told.cities.push(city); return "sunny"; },
  });
  const agent = new RealtimeAgent({ name: "Guide", instructions: "Be brief.", tools: [weather] });
  const config = { audio: { input: { turnDetection: { type: "server_vad", interruptResponse: true } } } };
  window.session = new RealtimeSession(agent, { transport, config });
  session.on("transport_event", event => told.events.push(event));
  session.on("error", ({ error }) => told.errors.push(JSON.stringify(error)));
  await session.connect({ apiKey, url });
};
"""


@pytest.fixture
def fakes() -> Fakes:
    """The model calls the tool once, and then counts."""
    fakes = Fakes()

    def reply(messages: Sequence[Message]) -> str:
        if messages[-1].role == "tool":
            fakes.llm.calls = ()
            return "Sunny."
        return "" if fakes.llm.calls else LONG

    fakes.llm.calls, fakes.llm.replies = (ToolCall("call_a", "weather", '{"city": "Paris"}'),), reply
    return fakes


@pytest_asyncio.fixture
async def server(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Server]:
    async with keyed_server(tmp_path, fakes) as server:
        yield server


@pytest_asyncio.fixture
async def page(server: Server, tmp_path: Path) -> AsyncIterator[Page]:
    """A page with the SDK in it; the microphone is silent for three seconds, then hums for one, three times."""
    async with listening_page(tmp_path / "said.wav", 3, 3, 3, 20) as page:
        await page.goto(f"{server.url}/healthz")  # a page of the server's that needs no key and has no policy
        await page.add_script_tag(path=SDK)
        await page.add_script_tag(content=START)
        yield page


async def until(page: Page, condition: str) -> None:
    """Wait until `condition` of what the SDK told holds; if it does not, say what was told."""
    try:
        await page.wait_for_function(condition, timeout=WAIT_MS)
    except Exception as error:
        told = await page.evaluate("({...told, events: told.events.map(event => event.type)})")
        raise AssertionError(f"Not so: {condition}. Told: {told}") from error


def came(type_: str, count: int = 1) -> str:
    """So many events of that type."""
    return f"told.events.filter(event => event.type === '{type_}').length >= {count}"


async def leave(page: Page, server: Server) -> list[dict[str, Any]]:
    """Hang up; the events that came, which are grammatical, and no error among them."""
    events: list[dict[str, Any]] = await page.evaluate("told.events")
    assert await page.evaluate("told.errors") == []
    realtime_grammar.check(events, ended=False)
    await page.evaluate("session.close()")
    await settled(lambda: server.service.sessions.active == 0)
    return events


async def test_a_call_with_a_tool_and_an_interruption(page: Page, server: Server, fakes: Fakes) -> None:
    url = f"{server.url}/v1/realtime/calls"
    await page.evaluate("([key, url]) => start('webrtc', key, url)", [await ephemeral_key(server, model="any"), url])
    await until(page, "told.cities.length > 0")
    await until(page, came("conversation.item.truncated"))
    await until(page, came("response.done", 4))
    events = await leave(page, server)
    types = [event["type"] for event in events]
    assert types.index("output_audio_buffer.cleared") < types.index("conversation.item.truncated")
    (heard,) = {
        message.content for message in fakes.llm.requests[-1] if message.content and LONG.startswith(message.content)
    }
    assert len(heard) < len(LONG)


async def test_a_websocket_with_an_ephemeral_key(page: Page, server: Server) -> None:
    url = f"{server.url.replace('http', 'ws')}/v1/realtime?model=any"
    await page.evaluate("([key, url]) => start('websocket', key, url)", [await ephemeral_key(server, model="any"), url])
    await page.evaluate("session.sendMessage('What is the weather in Paris?')")
    await until(page, came("response.done", 2))
    assert await page.evaluate("told.cities") == ["Paris"]
    events = await leave(page, server)
    said = [event["transcript"] for event in events if event["type"] == "response.output_audio_transcript.done"]
    assert said == ["Sunny."]
