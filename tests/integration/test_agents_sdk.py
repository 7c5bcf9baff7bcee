"""OpenAI's Agents SDK as a client: tools that it calls itself, and speech over the reply."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from agents import function_tool
from agents.realtime import RealtimeAgent, realtime_handoff
from agents.realtime.config import RealtimeTurnDetectionConfig

from avatar.engines.base import ToolCall
from tests.integration.agents_session import agent_at
from tests.integration.openai_client import Talk, talking_openai
from tests.integration.serving import settled
from tests.unit.conversation import Fakes, tone

SPEECH, QUIET = tone(0.3, 800), tone(0.0, 900)
LISTENING = tone(0.0, 600)
"""Until some words of the reply have been played."""
LONG = "One two three. Four five six. Seven eight nine. Ten eleven twelve. Thirteen."
SERVER_VAD: RealtimeTurnDetectionConfig = {"type": "server_vad", "silence_duration_ms": 400, "interrupt_response": True}


@pytest_asyncio.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    async with talking_openai(tmp_path, Fakes()) as talk:
        yield talk
        await settled(lambda: talk.server.service.sessions.active == 0)


@pytest.mark.parametrize("piece_chars", [0, 3])
async def test_its_tool_is_called_and_the_result_is_spoken(talk: Talk, piece_chars: int) -> None:
    asked: list[str] = []

    @function_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "sunny"

    talk.fakes.llm.calls = (ToolCall("call_a", "weather", '{"city": "Paris"}'),)
    talk.fakes.llm.replies, talk.fakes.llm.piece_chars = ["", "Sunny."], piece_chars
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Guide", instructions="Be brief.", tools=[weather])
    async with agent_at(talk.server.url, agent) as call:
        await call.speak(SPEECH)
        await call.speak(QUIET)
        ended = await call.until("tool_end")
        await call.until("audio_end")
        await call.until("agent_end")
        assert (asked, ended.output) == (["Paris"], "sunny")
        assert call.said == [("user", "hello there"), ("assistant", "Sunny.")]
        assert len(call.audio) == 2 * 24 * 50 * len("Sunny.")
    assert talk.fakes.llm.tools[0][0].description == "The weather in a city."
    assert [(message.role, message.content) for message in talk.fakes.llm.requests[-1]] == [
        ("system", "Be brief."),
        ("user", "hello there"),
        ("assistant", ""),
        ("tool", "sunny"),
    ]


async def test_speech_over_the_reply_interrupts_it_and_leaves_what_was_heard(talk: Talk) -> None:
    talk.fakes.llm.replies, talk.fakes.llm.token_s = LONG, 0.3
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Counter", instructions="Count.")
    async with agent_at(talk.server.url, agent, {"turn_detection": SERVER_VAD}) as call:
        await call.speak(SPEECH)
        await call.speak(QUIET)
        await call.until("audio")
        await call.speak(LISTENING)
        await call.speak(SPEECH)
        await call.until("audio_interrupted")
        await call.until("agent_end")
        response = call.of("response.done")[-1]["response"]
        assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "turn_detected")
        await call.speak(QUIET)
        await call.until("audio")
        assert len(call.of("conversation.item.truncated")) == 1
        heard = call.said[1][1]
        assert LONG.startswith(heard)
        assert len(heard) < len(LONG)
    assert talk.asked == [("user", "hello there"), ("assistant", heard), ("user", "hello there")]


async def test_a_typed_message_and_an_interruption_by_hand(talk: Talk) -> None:
    talk.fakes.llm.replies, talk.fakes.llm.token_s = [LONG, "Yes?"], 0.3
    agent: RealtimeAgent[Any] = RealtimeAgent(name="Counter", instructions="Count.")
    async with agent_at(talk.server.url, agent, {"turn_detection": None}) as call:
        await call.session.send_message("Count to thirteen.")
        await call.until("audio")
        await call.session.interrupt()
        await call.until("agent_end")
        assert call.of("response.done")[-1]["response"]["status_details"]["reason"] == "client_cancelled"
        await call.session.send_message("Stop.")
        await call.until("agent_end")
        assert call.said[-1] == ("assistant", "Yes?")


async def test_a_handoff_to_another_agent(talk: Talk) -> None:
    clerk: RealtimeAgent[Any] = RealtimeAgent(name="Clerk", instructions="You are the clerk.")
    doorman: RealtimeAgent[Any] = RealtimeAgent(
        name="Doorman", instructions="You are the doorman.", handoffs=[realtime_handoff(clerk)]
    )
    talk.fakes.llm.calls = (ToolCall("call_a", "transfer_to_clerk", "{}"),)
    talk.fakes.llm.replies = ["", "The clerk speaks."]
    async with agent_at(talk.server.url, doorman) as call:
        await call.session.send_message("The clerk, please.")
        await call.until("handoff")
        await call.until("audio_end")
        await call.until("agent_end")
        assert call.said[-1] == ("assistant", "The clerk speaks.")
    assert talk.fakes.llm.requests[-1][0].content == "You are the clerk."
