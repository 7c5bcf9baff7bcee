"""`/v1/realtime` as OpenAI's own client finds it; every stream is held to the protocol's grammar."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio

from avatar.core.audio import Pcm, float_to_pcm16, resample
from avatar.core.errors import EngineFailed
from avatar.core.g711 import RATE_HZ, float_to_alaw, float_to_ulaw
from avatar.engines.base import Message, ToolCall
from tests.integration.openai_client import Talk, talking_alone
from tests.integration.realtime_client import calling
from tests.integration.realtime_events import SPOKEN_TURN
from tests.unit.conversation import Fakes, tone

SPEECH, QUIET = tone(0.3, 800), tone(0.0, 900)
ANSWER = "I am fine. How are you?"
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
HELLO = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
MANUAL: dict[str, Any] = {"audio": {"input": {"turn_detection": None, "transcription": {"model": "any"}}}}
SERVER_VAD: dict[str, Any] = {"audio": {"input": {"transcription": {"model": "any"}}}}
TEXT: dict[str, Any] = {"output_modalities": ["text"]}


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest_asyncio.fixture
async def talk(tmp_path: Path, fakes: Fakes) -> AsyncIterator[Talk]:
    async with talking_alone(tmp_path, fakes) as talk:
        yield talk


@pytest.mark.parametrize(
    "detection",
    [{"type": "server_vad", "silence_duration_ms": 400}, {"type": "semantic_vad", "eagerness": "high"}],
    ids=lambda detection: detection["type"],
)
async def test_a_spoken_conversation(talk: Talk, detection: dict[str, Any]) -> None:
    async with calling(talk.client) as line:
        session = await line.update(audio={"input": {"turn_detection": detection, "transcription": {"model": "any"}}})
        assert session["audio"]["input"]["turn_detection"]["type"] == detection["type"]
        await line.speak(SPEECH)
        await line.speak(QUIET)
        done = await line.until("response.done")
        assert done["response"]["status"] == "completed"
        assert line.order[3:] == SPOKEN_TURN
        item = done["response"]["output"][0]
        assert item["content"] == [{"type": "output_audio", "transcript": ANSWER}]
        assert len(line.audio) == 2 * 24 * 50 * len(ANSWER) - 2 * 24 * 50  # the space between sentences is not spoken
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("response.done")
    assert talk.asked == [("user", "hello there"), ("assistant", ANSWER), ("user", "hello there")]


@pytest.mark.parametrize(
    ("form", "encode", "rate_hz"),
    [
        ({"type": "audio/pcm", "rate": 16_000}, float_to_pcm16, 16_000),
        ({"type": "audio/pcmu"}, float_to_ulaw, RATE_HZ),
        ({"type": "audio/pcma"}, float_to_alaw, RATE_HZ),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
async def test_other_audio(talk: Talk, form: dict[str, Any], encode: Callable[[Pcm], bytes], rate_hz: int) -> None:
    async with calling(talk.client) as line:
        audio = {"input": {"format": form, **SERVER_VAD["audio"]["input"]}, "output": {"format": form}}
        await line.update(audio=audio)
        await line.speak(SPEECH, encode, rate_hz)
        await line.speak(QUIET, encode, rate_hz)
        done = await line.until("response.done")
        assert done["response"]["audio"]["output"]["format"]["type"] == form["type"]
        seconds = len(line.audio) / rate_hz / (2 if form["type"] == "audio/pcm" else 1)
        assert seconds == pytest.approx(0.05 * (len(ANSWER) - 1), abs=0.01)


async def test_manual_turns(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(**MANUAL)
        await line.send("input_audio_buffer.commit", event_id="mine")
        error = (await line.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
        await line.speak(SPEECH)
        await line.send("input_audio_buffer.commit")
        await line.send("response.create")
        done = await line.until("response.done")
        assert done["response"]["status"] == "completed"
        assert line.of("conversation.item.input_audio_transcription.completed")[0]["transcript"] == "hello there"
        assert [message.content for message in talk.fakes.llm.requests[0]][1:] == ["hello there"]
        await line.speak(SPEECH)
        await line.send("input_audio_buffer.clear")
        await line.until("input_audio_buffer.cleared")
        await line.send("input_audio_buffer.commit")
        await line.until("error")


async def test_committing_while_the_server_looks_for_turns(talk: Talk) -> None:
    """As a client does it that turned nothing off: all at once, nothing but silence, or in the middle of a word."""
    audio = base64.b64encode(float_to_pcm16(resample(SPEECH, 16_000, 24_000))).decode()
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD, **TEXT)
        await line.send("input_audio_buffer.append", audio=audio)
        await line.send("input_audio_buffer.commit")
        await line.send("response.create")
        await line.until("response.done")
        assert len(line.of("input_audio_buffer.committed")) == len(line.of("response.created")) == 1
        assert [message.content for message in talk.fakes.llm.requests[-1]][1:] == ["hello there"]
        await line.send("input_audio_buffer.append", audio=base64.b64encode(bytes(9600)).decode())
        await line.send("input_audio_buffer.commit")
        await line.until("conversation.item.input_audio_transcription.completed")
        await line.speak(SPEECH)
        began = await line.until("input_audio_buffer.speech_started")
        await line.send("input_audio_buffer.commit")
        done = await line.until("conversation.item.input_audio_transcription.completed")
        assert done["item_id"] == began["item_id"]
        await line.speak(QUIET)
        await line.send("input_audio_buffer.commit")
        await line.until("input_audio_buffer.committed")
        assert not line.of("error")
        assert len(line.of("response.created")) == 1  # nobody asked for more
        assert len(line.of("input_audio_buffer.speech_stopped")) == len(line.of("input_audio_buffer.speech_started"))


async def test_much_audio_in_one_event(talk: Talk) -> None:
    url = talk.server.url.replace("http", "ws") + "/v1/realtime"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as socket:

        async def append(data_bytes: int) -> None:
            audio = base64.b64encode(bytes(data_bytes)).decode()
            await socket.send_json({"type": "input_audio_buffer.append", "audio": audio})

        session = {"type": "realtime", **MANUAL}
        await socket.send_json({"type": "session.update", "session": session})
        await append(2 << 20)
        await socket.send_json({"type": "input_audio_buffer.commit"})
        await append(15 << 20)
        await append((15 << 20) + 2)
        await socket.send_json({"type": "input_audio_buffer.clear"})
        types, codes = [], []
        while "input_audio_buffer.cleared" not in types:
            event = json.loads((await socket.receive(10)).data)
            types.append(event["type"])
            codes += [event["error"]["code"]] if event["type"] == "error" else []
        assert "input_audio_buffer.committed" in types
        assert codes == ["buffer_limit", "string_above_max_length"]


async def test_the_sound_of_items_can_be_had(talk: Talk) -> None:
    talk.fakes.llm.replies = "One two three four five."
    async with calling(talk.client) as line:

        async def sound_of(item_id: str) -> bytes:
            await line.send("conversation.item.retrieve", item_id=item_id)
            content = (await line.until("conversation.item.retrieved"))["item"]["content"]
            return base64.b64decode(content[0]["audio"])

        await line.update(**SERVER_VAD)
        await line.speak(tone(0.0, 600))
        await line.speak(SPEECH)
        await line.speak(QUIET)
        answer = (await line.until("response.done"))["response"]["output"][0]
        began = line.of("input_audio_buffer.speech_started")[0]
        ended_ms = line.of("input_audio_buffer.speech_stopped")[0]["audio_end_ms"]
        heard = await sound_of(began["item_id"])
        assert len(heard) / 48 == pytest.approx(ended_ms - began["audio_start_ms"], abs=2)
        loud = np.abs(np.frombuffer(heard, "<i2")) > 3000
        assert np.flatnonzero(loud)[0] / 24 == pytest.approx(300, abs=40)  # after `prefix_padding_ms`
        assert await sound_of(answer["id"]) == line.audio
        await line.send("conversation.item.truncate", item_id=answer["id"], content_index=0, audio_end_ms=100)
        assert await sound_of(answer["id"]) == line.audio[:4800]
        await line.update(audio={"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}}})
        ulaw = bytes(range(256)) * 8
        await line.send("input_audio_buffer.append", audio=base64.b64encode(ulaw).decode())
        await line.send("input_audio_buffer.commit")
        committed = await line.until("input_audio_buffer.committed")
        assert len(await sound_of(committed["item_id"])) == len(ulaw)
        part = {"type": "input_audio", "audio": base64.b64encode(ulaw).decode()}
        item = {"id": "mine", "type": "message", "role": "user", "content": [part]}
        await line.send("conversation.item.create", item=item)
        assert await sound_of("mine") == ulaw


async def test_the_sound_of_a_turn_is_its_own_also_after_the_microphone_was_cut_off(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD, **TEXT)
        await line.speak(SPEECH)
        await line.until("response.done")
        await line.speak(tone(0.0, 1200))
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("response.done")
        began_ms = [event["audio_start_ms"] for event in line.of("input_audio_buffer.speech_started")]
        assert began_ms == pytest.approx([0, 1700], abs=100)
        for committed in line.of("input_audio_buffer.committed"):
            await line.send("conversation.item.retrieve", item_id=committed["item_id"])
            told = await line.until("conversation.item.retrieved")
            sound = np.frombuffer(base64.b64decode(told["item"]["content"][0]["audio"]), "<i2")
            assert np.count_nonzero(np.abs(sound) > 3000) / 24 == pytest.approx(800, abs=60)


async def test_text_in_and_text_out(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(instructions="Be brief.", **TEXT)
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create", response={"metadata": {"topic": "hello"}, "max_output_tokens": 2})
        response = (await line.until("response.done"))["response"]
        assert response["metadata"] == {"topic": "hello"}
        assert (response["status"], response["status_details"]["reason"]) == ("incomplete", "max_output_tokens")
        assert response["usage"]["output_tokens"] == 2
        assert not line.audio
        await line.send("response.create")
        response = (await line.until("response.done"))["response"]
        assert response["output"][0]["content"] == [{"type": "output_text", "text": ANSWER}]
    assert talk.fakes.tts.requests == []
    assert talk.fakes.llm.requests[0][0].content == "Be brief."


async def test_a_response_that_nobody_said_anything_for(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(**TEXT)
        for last in ("(The conversation begins.)", "(Go on.)"):
            await line.send("response.create")
            assert (await line.until("response.done"))["response"]["status"] == "completed"
            assert talk.fakes.llm.requests[-1][-1] == Message("user", last)


async def test_a_response_outside_the_conversation_goes_on_beside_another(talk: Talk) -> None:
    talk.fakes.llm.token_s = 0.05
    async with calling(talk.client) as line:
        await line.update(**TEXT)
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create")
        aside = {"conversation": "none", "input": [HELLO], "instructions": "Classify.", "metadata": {"a": "b"}}
        await line.send("response.create", response=aside)
        await line.send("response.create", event_id="third")
        await line.until("response.done", 2)
        error = line.of("error")[0]["error"]
        assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", "third")
        outside = [event["response"] for event in line.of("response.done") if event["response"]["metadata"]]
        assert [response["conversation_id"] for response in outside] == [None]
        assert [message.content for message in talk.fakes.llm.requests[1]] == ["Classify.", "Hello."]
        assert len(line.of("conversation.item.done")) == 2


async def test_a_response_hears_its_own_input(talk: Talk) -> None:
    """What is said in it, and what is said in a turn that it refers to, though that is not understood yet."""
    talk.fakes.stt.delay_s = 0.3
    sound = base64.b64encode(float_to_pcm16(resample(SPEECH, 16_000, 24_000))).decode()
    spoken = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound}]}
    async with calling(talk.client) as line:
        await line.update(**MANUAL, **TEXT)
        await line.send("input_audio_buffer.append", audio=sound)
        await line.send("input_audio_buffer.commit")
        turn = {"type": "item_reference", "id": (await line.until("input_audio_buffer.committed"))["item_id"]}
        await line.send("response.create", response={"conversation": "none", "input": [turn, HELLO, spoken]})
        await line.until("response.done")
        assert talk.fakes.llm.requests[-1][1].content == "hello there\nHello.\nhello there"
        for wrong, param in (
            ({"type": "item_reference", "id": "item_x"}, "response.input[1].id"),
            (spoken | {"content": [{"type": "input_audio", "audio": "?"}]}, "response.input[1].content[0].audio"),
        ):
            await line.send("response.create", response={"input": [HELLO, wrong]})
            assert (await line.until("error"))["error"]["param"] == param


async def test_a_response_waits_for_no_words_that_it_is_not_about(talk: Talk) -> None:
    talk.fakes.stt.delay_s = 3.0
    async with calling(talk.client) as line:
        await line.update(**MANUAL, **TEXT)
        await line.send("input_audio_buffer.append", audio=base64.b64encode(float_to_pcm16(SPEECH)).decode())
        await line.send("input_audio_buffer.commit")
        for conversation in ("none", "auto"):
            await line.send("response.create", response={"conversation": conversation, "input": [HELLO]})
            await line.until("response.done")
        assert talk.asked == [("user", "Hello.")]
        assert not line.of("conversation.item.input_audio_transcription.completed")
        await line.send("response.create")
        await line.until("response.done")
        assert ("user", "hello there") in talk.asked


async def test_cancelling(talk: Talk) -> None:
    talk.fakes.llm.token_s = 0.2
    async with calling(talk.client) as line:
        await line.send("response.cancel", event_id="early")
        error = (await line.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("response_cancel_not_active", "early")
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create")
        await line.until("response.output_audio_transcript.delta")
        await line.send("response.cancel")
        await line.send("response.create", response={"instructions": "Again."})
        cancelled = (await line.until("response.done"))["response"]
        assert (cancelled["status"], cancelled["status_details"]["reason"]) == ("cancelled", "client_cancelled")
        await line.until("response.done")


async def test_barge_in_and_truncation_to_the_word(talk: Talk) -> None:
    talk.fakes.llm.replies = "One two three. Four five six. Seven eight nine. Ten eleven twelve. Thirteen."
    talk.fakes.llm.token_s = 0.3
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD)
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("response.output_audio.delta")
        await line.speak(SPEECH)
        cancelled = (await line.until("response.done"))["response"]
        assert (cancelled["status"], cancelled["status_details"]["reason"]) == ("cancelled", "turn_detected")
        item = cancelled["output"][0]
        await line.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=60_000)
        assert (await line.until("error"))["error"]["param"] == "audio_end_ms"
        heard_ms = 50 * len("One two")
        await line.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=heard_ms)
        await line.until("conversation.item.truncated")
        await line.send("conversation.item.retrieve", item_id=item["id"])
        told = (await line.until("conversation.item.retrieved"))["item"]
        assert told["content"][0]["transcript"] == "One two"
        await line.speak(QUIET)
        await line.until("response.created")
        assert "One two" in [message.content for message in talk.fakes.llm.requests[-1]]
        _, page = await talk.server.get("/api/conversations")
        _, saved = await talk.server.get(f"/api/conversations/{page['items'][0]['id']}")
        assert saved["turns"][0]["heard_text"] == "One two"


async def test_tools_in_parallel(talk: Talk) -> None:
    talk.fakes.llm.calls = (ToolCall("call_a", "weather", '{"city": "Paris"}'), ToolCall("call_b", "weather", "{}"))
    talk.fakes.llm.replies = ["One moment.", "It is sunny."]
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER])
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create")
        response = (await line.until("response.done"))["response"]
        assert [item["type"] for item in response["output"]] == ["message", "function_call", "function_call"]
        assert line.of("response.function_call_arguments.done")[0]["arguments"] == '{"city": "Paris"}'
        for call in ("call_a", "call_b"):
            output = {"type": "function_call_output", "call_id": call, "output": "sunny"}
            await line.send("conversation.item.create", item=output)
        await line.send("response.create")
        response = (await line.until("response.done"))["response"]
        assert response["output"][0]["content"][0]["transcript"] == "It is sunny."
    assert [message.role for message in talk.fakes.llm.requests[-1]][1:] == ["user", "assistant", "tool", "tool"]


async def test_tools_one_at_a_time(talk: Talk) -> None:
    talk.fakes.llm.calls = (ToolCall("call_a", "weather", "{}"), ToolCall("call_b", "weather", "{}"))
    talk.fakes.llm.replies = ""
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER], parallel_tool_calls=False, **TEXT)
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create")
        response = (await line.until("response.done"))["response"]
        assert [item["call_id"] for item in response["output"]] == ["call_a"]
        await line.send("response.create", response={"parallel_tool_calls": True})
        response = (await line.until("response.done"))["response"]
        assert [item["call_id"] for item in response["output"]] == ["call_a", "call_b"]


@pytest.mark.parametrize(("prefix_ms", "silence_ms"), [(0, 300), (250, 500)])
async def test_where_the_audio_of_a_turn_begins_and_ends(talk: Talk, prefix_ms: int, silence_ms: int) -> None:
    detection = {"type": "server_vad", "prefix_padding_ms": prefix_ms, "silence_duration_ms": silence_ms}
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": detection, "transcription": {"model": "any"}}}, **TEXT)
        await line.speak(tone(0.0, 600))
        await line.speak(SPEECH)
        await line.speak(QUIET)
        done = await line.until("conversation.item.input_audio_transcription.completed")
        began = line.of("input_audio_buffer.speech_started")[0]["audio_start_ms"]
        ended = line.of("input_audio_buffer.speech_stopped")[0]["audio_end_ms"]
        assert began == pytest.approx(600 - prefix_ms, abs=40)
        assert ended == pytest.approx(600 + 800 + silence_ms, abs=40)
        assert done["usage"]["seconds"] == pytest.approx((ended - began) / 1000, abs=0.002)


async def test_a_recording_sent_at_once(talk: Talk) -> None:
    pcm = resample(np.concatenate([SPEECH, tone(0.0, 1500)]), 16_000, 24_000)
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD, **TEXT)
        audio = base64.b64encode(float_to_pcm16(pcm)).decode()
        await line.send("input_audio_buffer.append", audio=audio)
        assert (await line.until("response.done"))["response"]["status"] == "completed"
        assert len(line.of("input_audio_buffer.committed")) == 1
        assert not line.of("error")


async def test_an_item_that_says_it_is_growing_is_complete(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.send("conversation.item.create", item=HELLO | {"status": "in_progress", "id": "mine"})
        done = await line.until("conversation.item.done")
        assert (done["item"]["id"], done["item"]["status"]) == ("mine", "completed")


async def test_a_call_alone_is_an_answer(talk: Talk) -> None:
    talk.fakes.llm.calls, talk.fakes.llm.replies = (ToolCall("call_a", "weather", "{}"),), ""
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER], tool_choice="required", **SERVER_VAD)
        await line.speak(SPEECH)
        await line.speak(QUIET)
        response = (await line.until("response.done"))["response"]
        assert (response["status"], [item["type"] for item in response["output"]]) == ("completed", ["function_call"])


async def test_no_answer_unless_asked(talk: Talk) -> None:
    detection = {"type": "server_vad", "create_response": False}
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": detection, "transcription": {"model": "any"}}})
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("conversation.item.input_audio_transcription.completed")
        assert talk.fakes.llm.requests == []
        await line.send("response.create")
        assert (await line.until("response.done"))["response"]["status"] == "completed"
        assert [message.content for message in talk.fakes.llm.requests[0]][1:] == ["hello there"]


async def test_who_may_not_interrupt_is_answered_afterwards(talk: Talk) -> None:
    talk.fakes.llm.token_s = 0.4
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("response.created")
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("response.done", 2)
        assert [event["response"]["status"] for event in line.of("response.done")] == ["completed", "completed"]
        assert len(line.of("input_audio_buffer.committed")) == 2


async def test_an_owed_answer_comes_also_when_the_words_of_an_item_are_known_last(talk: Talk) -> None:
    talk.fakes.llm.token_s = 0.8
    detection = {"type": "server_vad", "interrupt_response": False}
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": detection, "transcription": {"model": "any"}}}, **TEXT)
        for _ in range(2):
            await line.speak(SPEECH)
            await line.speak(QUIET)
            await line.until("conversation.item.input_audio_transcription.completed")
        talk.fakes.stt.delay_s, talk.fakes.llm.token_s = 6.0, 0.01
        audio = base64.b64encode(float_to_pcm16(resample(SPEECH, 16_000, 24_000))).decode()
        content = [{"type": "input_audio", "audio": audio}]
        await line.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        await line.until("response.done")
        assert len(line.of("response.created")) == 1
        await line.until("response.done")
    assert [words for _, words in talk.asked][-1] == "hello there\nhello there"


async def test_a_transcription_session(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.send("session.update", session={"type": "transcription"})
        session = (await line.until("session.updated"))["session"]
        assert session["object"] == "realtime.transcription_session"
        await line.speak(SPEECH)
        await line.speak(QUIET)
        done = await line.until("conversation.item.input_audio_transcription.completed")
        assert done["transcript"] == "hello there"
        await line.send("response.create")
        await line.until("error")
    assert talk.fakes.llm.requests == []


async def test_what_fails(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD)
        talk.fakes.llm.error = EngineFailed("It broke.")
        await line.speak(SPEECH)
        await line.speak(QUIET)
        response = (await line.until("response.done"))["response"]
        why = response["status_details"]["error"]
        assert (response["status"], why["type"], why["code"]) == ("failed", "server_error", "engine_failed")
        assert why["message"]
        assert not line.of("error")  # once is enough: to Pipecat each is the end
        talk.fakes.stt.error = EngineFailed("It broke.")
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("conversation.item.input_audio_transcription.failed")
        await line.send("conversation.item.delete", item_id="item_x", event_id="e1")
        error = (await line.until("error"))["error"]
        while error["event_id"] != "e1":
            error = (await line.until("error"))["error"]
        assert error["code"] == "item_delete_invalid_item_id"


async def test_bad_events_leave_the_session_alive(talk: Talk) -> None:
    url = talk.server.url.replace("http", "ws") + "/v1/realtime"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, protocols=["realtime"]) as socket:
        assert socket.protocol == "realtime"
        for bad in (
            "{",
            "[]",
            '{"type": "nothing", "event_id": "x"}',
            '{"type": "input_audio_buffer.append", "audio": "?"}',
        ):
            await socket.send_str(bad)
        await socket.send_str(json.dumps({"type": "session.update", "session": {"type": "realtime", **TEXT}}))
        types = [json.loads((await socket.receive(5)).data) for _ in range(7)]
        assert [event["type"] for event in types] == [
            "session.created", "conversation.created", *["error"] * 4, "session.updated"
        ]  # fmt: skip
        assert types[4]["error"]["event_id"] == "x"
        async with http.ws_connect(url) as second:
            refusal = json.loads((await second.receive(5)).data)
            assert refusal["error"]["code"] == "session_limit_reached"
            await second.receive(5)
            assert second.close_code == 1013


async def test_the_betas_names(talk: Talk) -> None:
    url = talk.server.url.replace("http", "ws") + "/v1/realtime?beta=1"
    async with aiohttp.ClientSession() as http, http.ws_connect(url) as socket:
        for event in (
            {"type": "conversation.item.create", "item": HELLO},
            {"type": "response.create", "response": {"modalities": ["text"]}},
        ):
            await socket.send_str(json.dumps(event))
        types = []
        while "response.done" not in types:
            types.append(json.loads((await socket.receive(5)).data)["type"])
        assert "response.text.delta" in types
        assert "response.output_text.delta" not in types
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}&intent=transcription") as socket:
        session = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "any"}, "turn_detection": None}
        await socket.send_json({"type": "transcription_session.update", "session": session})
        told = [json.loads((await socket.receive(5)).data) for _ in range(2)]
        assert [event["type"] for event in told] == ["transcription_session.created", "transcription_session.updated"]
        assert told[1]["session"]["turn_detection"] is None


async def test_somebody_who_says_nothing_is_spoken_to(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}}, **TEXT)
        await line.send("response.create")
        await line.until("response.done")
        triggered = await line.until("input_audio_buffer.timeout_triggered")
        assert (triggered["audio_start_ms"], triggered["audio_end_ms"]) == (0, 0)  # no microphone was sent
        await line.until("response.done")


async def test_speed_and_voice(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(audio={"output": {"speed": 1.5, "voice": "low hum"}})
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create")
        await line.until("response.done")
        assert len(line.audio) / 48_000 == pytest.approx(0.05 * len(ANSWER) / 1.5, rel=0.1)
        await line.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "hum"}}})
        assert (await line.until("error"))["error"]["code"] == "cannot_update_voice"
        await line.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": "nobody"}}})
        assert (await line.until("error"))["error"]["param"] == "session.audio.output.voice"
    assert talk.fakes.tts.requests[0][0] == "low hum"


async def test_words_that_were_not_understood_yet_when_their_speaker_went_on_are_not_lost(talk: Talk) -> None:
    talk.fakes.stt.delay_s = 1.0
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD)
        await line.speak(SPEECH)
        await line.speak(tone(0.0, 700))
        await line.speak(SPEECH)
        await line.speak(QUIET)
        await line.until("response.done")
        assert len(line.of("conversation.item.input_audio_transcription.completed")) == 2
        assert len(line.of("response.created")) == 1
    assert [message.content for message in talk.fakes.llm.requests[-1] if message.role == "user"] == [
        "hello there\nhello there"
    ]
