"""`/v1/realtime` with the embedded default's real weights, by OpenAI's own clients: speech in, speech out."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeModelSendSessionUpdate

from avatar import choosing
from avatar.core.audio import INPUT_RATE_HZ, Pcm, pcm16_to_float, resample, silence
from tests.integration.agents_session import agent_at
from tests.integration.realtime_client import Line, calling
from tests.integration.serving import Server, serving, settings_for, settled
from tests.speech import ANSWER, CLEAR_VOICE, COUNTRY, MOST, QUESTION, share_heard, spoken, words

pytestmark = pytest.mark.weights

RATE_HZ = 24_000
QUIET = silence(2 * INPUT_RATE_HZ)
"""Longer than the longest wait for the end of a turn."""
NEVER_ENDING = "You write a novel of a thousand pages. Never stop."
"""With this the model talks until it is stopped, whatever it was asked and however it heard it."""
MAX_REPLY_TOKENS = 1500
"""Some 20 s of generating: whoever speaks over the reply does so before it is done, on a fast machine too."""
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest_asyncio.fixture
async def server(tmp_path: Path, models_dir: Path) -> AsyncIterator[Server]:
    wishes = {"stt": {"model": "moonshine-tiny-en"}, "llm": {"model": "smollm2-135m-instruct"}}
    conversation = {"max_reply_tokens": MAX_REPLY_TOKENS}
    settings = settings_for(tmp_path, models_dir=models_dir, conversation=conversation, **wishes)
    async with serving(choosing.picks(choosing.survey(settings), settings), settings) as running:
        yield running
        await settled(lambda: running.service.sessions.active == 0)


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_a_spoken_question_gets_a_spoken_answer(server: Server, detection: str) -> None:
    question = await spoken(QUESTION, voice=CLEAR_VOICE)
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    async with client, calling(client) as line:
        hearing = {"turn_detection": {"type": detection}, "transcription": {"model": "any"}}
        await line.update(audio={"input": hearing})
        await line.speak(question)
        await line.speak(QUIET)
        response = (await line.until("response.done"))["response"]
        heard = line.of("conversation.item.input_audio_transcription.completed")[0]
        assert words(heard["transcript"]) == words(QUESTION)
        item = response["output"][0]
        assert response["status"] == "completed"
        assert ANSWER in item["content"][0]["transcript"]
        stream = server.service.lineup.engines.stt.open("en")
        stream.accept(resample(pcm16_to_float(line.audio), RATE_HZ, INPUT_RATE_HZ))
        answer = (await stream.finish()).text
        await stream.aclose()
        assert share_heard(item["content"][0]["transcript"], answer) >= MOST
        all_ms = len(line.audio) / 2 / RATE_HZ * 1000
        await line.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=int(all_ms / 2))
        await line.until("conversation.item.truncated")
        await line.send("conversation.item.retrieve", item_id=item["id"])
        left = (await line.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
        assert item["content"][0]["transcript"].startswith(left)
        assert len(left) < len(item["content"][0]["transcript"])


async def test_a_whole_conversation(server: Server) -> None:
    """Found by its silences and interrupted, then turn by turn by hand, then in writing, then with a tool."""
    question = await spoken(QUESTION, voice=CLEAR_VOICE)
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    async with client, calling(client) as line:
        await line.update(
            audio={"input": {"turn_detection": {"type": "server_vad"}, "transcription": {"model": "any"}}}
        )
        await _interrupted(line, question)
        assert (
            ANSWER
            in (await line.until("response.done", timeout_s=30))["response"]["output"][0]["content"][0]["transcript"]
        )

        await line.update(audio={"input": {"turn_detection": None}})
        await line.speak(question)
        await line.send("input_audio_buffer.commit")
        await line.send("response.create")
        response = (await line.until("response.done", timeout_s=30))["response"]
        assert ANSWER in response["output"][0]["content"][0]["transcript"]
        heard = line.of("conversation.item.input_audio_transcription.completed")[-1]["transcript"]
        assert words(heard) == words(QUESTION)

        sound = len(line.audio)
        await line.update(output_modalities=["text"])
        await _write(line, "Which country is that city in?")
        await line.send("response.create")
        response = (await line.until("response.done", timeout_s=30))["response"]
        assert COUNTRY in response["output"][0]["content"][0]["text"]
        assert len(line.audio) == sound

        await line.update(tools=[WEATHER], tool_choice="required")
        await _write(line, "What is the weather in Berlin?")
        await line.send("response.create")
        response = (await line.until("response.done", timeout_s=30))["response"]
        call = response["output"][-1]
        assert (call["type"], call["name"]) == ("function_call", "weather")
        assert set(json.loads(call["arguments"])) == {"city"}
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It is sunny in Berlin."}
        await line.send("conversation.item.create", item=result)
        await line.send("response.create", response={"tool_choice": "none"})
        response = (await line.until("response.done", timeout_s=30))["response"]
        assert (response["status"], response["output"][0]["type"]) == ("completed", "message")


async def _interrupted(line: Line, question: Pcm) -> None:
    """Ask for a story, speak over it with a question, and say how much of it was played."""
    instructions = line.of("session.updated")[-1]["session"]["instructions"]
    await line.update(instructions=NEVER_ENDING)
    await line.speak(await spoken("Tell me a very long story about a dragon."))
    waiting = asyncio.create_task(line.speak(QUIET))
    while len(line.audio) < 2 * 2 * RATE_HZ:  # more than it will have played
        await line.until("response.output_audio.delta", timeout_s=30)
    waiting.cancel()
    await line.update(instructions=instructions)
    await line.speak(question)
    response = (await line.until("response.done", timeout_s=30))["response"]
    assert (response["status"], response["status_details"]["reason"]) == ("cancelled", "turn_detected")
    item, said = response["output"][0]["id"], response["output"][0]["content"][0]["transcript"]
    await line.send("conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1000)
    await line.until("conversation.item.truncated")
    await line.send("conversation.item.retrieve", item_id=item)
    left = (await line.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
    assert said.startswith(left)
    assert 0 < len(left) < len(said)
    await line.speak(QUIET)


async def _write(line: Line, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await line.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})


async def test_an_agent_calls_its_tool_and_is_interrupted(server: Server) -> None:
    asked: list[str] = []

    @function_tool
    async def capital(country: str) -> str:
        """The capital of a country."""
        asked.append(country)
        change = RealtimeModelSendSessionUpdate({"instructions": NEVER_ENDING})  # and offer no tools
        await call.session.model.send_event(change)
        return ANSWER

    agent: RealtimeAgent[Any] = RealtimeAgent(name="Guide", instructions="Answer.", tools=[capital])
    question = await spoken(QUESTION, voice=CLEAR_VOICE)
    async with agent_at(server.url, agent, {"tool_choice": "required"}) as call:
        await call.speak(question)
        await call.speak(QUIET)
        await call.until("tool_end", 30)
        assert len(asked) == 1
        await call.until("audio", 30)
        await call.speak(question)
        await call.until("audio_interrupted", 30)
        await call.speak(QUIET)
        await call.until("audio_end", 30)
        assert call.of("conversation.item.truncated")
    assert words(call.said[0][1]) == words(QUESTION)
