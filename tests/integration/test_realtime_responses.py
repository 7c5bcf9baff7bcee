"""Responses at `/v1/realtime` as OpenAI's own client finds them: in writing and in speech, cut short, with tools."""

import base64

import pytest

from avatar.core.audio import float_to_pcm16, resample
from avatar.core.errors import EngineLost
from avatar.engines.base import Message, ToolCall
from avatar.server.realtime.answers import MAX_ASIDES
from tests.integration.openai_client import Talk
from tests.integration.realtime_client import ANSWER, HELLO, MANUAL, QUIET, SERVER_VAD, SPEECH, TEXT, WEATHER, calling


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


async def test_there_are_only_so_many_responses_beside_the_conversation(talk: Talk) -> None:
    talk.fakes.llm.token_s = 0.05
    async with calling(talk.client) as line:
        await line.update(**TEXT)
        for number in range(MAX_ASIDES + 1):
            aside = {"conversation": "none", "input": [HELLO]}
            await line.send("response.create", response=aside, event_id=f"aside {number}")
        error = (await line.until("error"))["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
        assert error["event_id"] == f"aside {MAX_ASIDES}"
        await line.send("response.create")
        await line.until("response.done", MAX_ASIDES + 1)
        assert {done["response"]["status"] for done in line.of("response.done")} == {"completed"}


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


@pytest.mark.parametrize("piece_chars", [0, 4])
async def test_tools_in_parallel(talk: Talk, piece_chars: int) -> None:
    talk.fakes.llm.piece_chars = piece_chars
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


async def test_arguments_come_as_they_are_written(talk: Talk) -> None:
    talk.fakes.llm.calls = (ToolCall("call_a", "weather", '{"city": "Paris"}'), ToolCall("call_b", "weather", "{}"))
    talk.fakes.llm.replies, talk.fakes.llm.piece_chars, talk.fakes.llm.token_s = "", 3, 0.05
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER])
        await line.send("response.create")
        await line.until("response.function_call_arguments.delta")
        assert talk.fakes.llm.active == 1
        await line.until("response.done")
        told = [event["delta"] for event in line.of("response.function_call_arguments.delta")]
        assert told == ['{"c', "ity", '": ', '"Pa', "ris", '"}', "{}"]
        first, second = line.of("response.output_item.added")
        kinds = [event["type"] for event in line.events]
        assert kinds.index("response.output_item.done") < line.events.index(second)
        assert [first["output_index"], second["output_index"]] == [0, 1]


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_call_that_is_not_finished_is_incomplete(talk: Talk, hangs: bool) -> None:
    talk.fakes.llm.calls = (ToolCall("call_a", "weather", '{"city": "Paris"}'),)
    talk.fakes.llm.replies, talk.fakes.llm.piece_chars, talk.fakes.llm.error_after = "", 9, 2
    talk.fakes.llm.hang, talk.fakes.llm.error = hangs, None if hangs else EngineLost("The model is gone.")
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER])
        await line.send("response.create")
        await line.until("response.function_call_arguments.delta")
        if hangs:
            await line.send("response.cancel")
        response = (await line.until("response.done"))["response"]
        assert response["status"] == ("cancelled" if hangs else "failed")
        (item,) = response["output"]
        assert (item["status"], item["arguments"]) == ("incomplete", '{"city": ')
        talk.fakes.llm.hang, talk.fakes.llm.error, talk.fakes.llm.replies = False, None, ANSWER
        await line.send("response.create", response={"tools": []})
        assert (await line.until("response.done"))["response"]["status"] == "completed"
    assert all(not message.tool_calls for message in talk.fakes.llm.requests[-1])


@pytest.mark.parametrize("piece_chars", [0, 1])
async def test_tools_one_at_a_time(talk: Talk, piece_chars: int) -> None:
    talk.fakes.llm.calls = (ToolCall("call_a", "weather", "{}"), ToolCall("call_b", "weather", "{}"))
    talk.fakes.llm.replies, talk.fakes.llm.piece_chars = "", piece_chars
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER], parallel_tool_calls=False, **TEXT)
        await line.send("conversation.item.create", item=HELLO)
        await line.send("response.create")
        response = (await line.until("response.done"))["response"]
        assert [item["call_id"] for item in response["output"]] == ["call_a"]
        await line.send("response.create", response={"parallel_tool_calls": True})
        response = (await line.until("response.done"))["response"]
        assert [item["call_id"] for item in response["output"]] == ["call_a", "call_b"]


async def test_a_call_alone_is_an_answer(talk: Talk) -> None:
    talk.fakes.llm.calls, talk.fakes.llm.replies = (ToolCall("call_a", "weather", "{}"),), ""
    async with calling(talk.client) as line:
        await line.update(tools=[WEATHER], tool_choice="required", **SERVER_VAD)
        await line.speak(SPEECH)
        await line.speak(QUIET)
        response = (await line.until("response.done"))["response"]
        assert (response["status"], [item["type"] for item in response["output"]]) == ("completed", ["function_call"])


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
