"""`/v1/realtime` as OpenAI's own client finds it: its sessions, items, errors and earlier names."""

import base64
import json

import aiohttp
import numpy as np
import pytest

from avatar.core.errors import EngineFailed
from tests.integration.openai_client import Talk
from tests.integration.realtime_client import HELLO, QUIET, SERVER_VAD, SPEECH, TEXT, calling
from tests.unit.conversation import tone


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


async def test_an_item_that_says_it_is_growing_is_complete(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.send("conversation.item.create", item=HELLO | {"status": "in_progress", "id": "mine"})
        done = await line.until("conversation.item.done")
        assert (done["item"]["id"], done["item"]["status"]) == ("mine", "completed")


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
    several = {"OpenAI-Beta": "assistants=v2, realtime=v1"}
    async with aiohttp.ClientSession() as http, http.ws_connect(url.partition("?")[0], headers=several) as socket:
        assert "modalities" in json.loads((await socket.receive(5)).data)["session"]
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}&intent=transcription") as socket:
        session = {"input_audio_format": "pcm16", "input_audio_transcription": {"model": "any"}, "turn_detection": None}
        await socket.send_json({"type": "transcription_session.update", "session": session})
        told = [json.loads((await socket.receive(5)).data) for _ in range(2)]
        assert [event["type"] for event in told] == ["transcription_session.created", "transcription_session.updated"]
        assert told[1]["session"]["turn_detection"] is None
