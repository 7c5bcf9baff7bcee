"""Calls over WebRTC: an aiortc client holds conversations with a real server, over real ICE, DTLS, SCTP and Opus."""

import asyncio
import base64
import json
from typing import Any

import pytest

from avatar.core.audio import float_to_pcm16, resample
from tests.integration.openai_client import Talk
from tests.integration.realtime_client import ANSWER, HELLO, MANUAL, SERVER_VAD, SPEECH
from tests.integration.realtime_events import SPOKEN_TURN
from tests.integration.webrtc_client import calling

LONG = "One two three four five. Six seven eight nine ten. Eleven twelve thirteen fourteen fifteen."
PLAYING = {"output_audio_buffer.started", "output_audio_buffer.stopped"}


async def test_a_spoken_conversation(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        assert caller.location.startswith("/v1/realtime/calls/rtc_")
        await caller.update(**SERVER_VAD)
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped")
        told = [type_ for type_ in caller.order[3:] if type_ not in PLAYING]
        assert told == [type_ for type_ in SPOKEN_TURN if type_ != "response.output_audio.delta"]
        await asyncio.sleep(0.5)  # what the client's own buffer holds back
        assert caller.sounding_s == pytest.approx(0.05 * (len(ANSWER) - 1), abs=0.1)
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped", 2)
    assert talk.asked == [("user", "hello there"), ("assistant", ANSWER), ("user", "hello there")]


@pytest.mark.parametrize("token_s", [0.0, 0.3], ids=["all made", "being made"])
async def test_speech_over_the_reply_clears_it_and_what_was_not_heard_is_gone(talk: Talk, token_s: float) -> None:
    talk.fakes.llm.replies = LONG
    talk.fakes.llm.token_s = token_s
    async with calling(talk.server.url) as caller:
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.started")
        await asyncio.sleep(0.6)
        await caller.speak(SPEECH)
        cut = await caller.until("conversation.item.truncated")
        order = caller.order
        assert (
            order.index("output_audio_buffer.cleared")
            == len(order) - 1 - order[::-1].index("input_audio_buffer.speech_started") + 1
        )
        done = await caller.until("response.done")
        expected = ("completed", None) if token_s == 0 else ("cancelled", "turn_detected")
        reason = (done["response"]["status_details"] or {}).get("reason")
        assert (done["response"]["status"], reason) == expected
        assert 600 <= cut["audio_end_ms"] < 2500
        caller.send("conversation.item.retrieve", item_id=cut["item_id"])
        heard = (await caller.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
        assert LONG.startswith(heard)
        if token_s == 0:
            assert len(heard) * 50 == pytest.approx(cut["audio_end_ms"], abs=50 * len(" thirteen"))
        talk.fakes.llm.token_s = 0.0
        await caller.until("response.done", 2)
        told = [message.content for message in talk.fakes.llm.requests[-1] if message.role == "assistant"]
        assert told == ([heard] if heard else [])
        await caller.until("output_audio_buffer.started", 2)
        _, page = await talk.server.get("/api/conversations")
        _, saved = await talk.server.get(f"/api/conversations/{page['items'][0]['id']}")
        assert saved["turns"][0]["heard_text"] == heard


async def test_not_a_sample_of_a_reply_is_sent_after_it_was_cleared(talk: Talk) -> None:
    talk.fakes.llm.replies = [LONG, "Yes."]
    async with calling(talk.server.url) as caller:
        caller.send("conversation.item.create", item=HELLO)
        caller.send("response.create")
        await caller.until("output_audio_buffer.started")
        await asyncio.sleep(0.5)
        caller.send("response.cancel")  # it is made already
        caller.send("output_audio_buffer.clear")
        cleared = await caller.until("output_audio_buffer.cleared")
        assert cleared["response_id"] == caller.of("response.done")[0]["response"]["id"]
        await caller.until("conversation.item.truncated")
        await asyncio.sleep(0.5)  # the client's own buffer runs dry
        sounded_s = caller.sounding_s
        assert sounded_s < 2
        await asyncio.sleep(0.5)
        assert caller.sounding_s == sounded_s
        caller.send("output_audio_buffer.clear")  # there is nothing to clear
        caller.send("response.create")
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(0.5)
        assert caller.sounding_s - sounded_s == pytest.approx(0.2, abs=0.05)
        assert [event["error"]["code"] for event in caller.of("error")] == ["response_cancel_not_active"]


async def test_who_may_not_interrupt_does_not(talk: Talk) -> None:
    talk.fakes.llm.replies = [LONG, "Yes."]
    async with calling(talk.server.url) as caller:
        await caller.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.started")
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped", 2)
        assert caller.of("output_audio_buffer.cleared") == caller.of("conversation.item.truncated") == []
        responses = [event["response_id"] for event in caller.events if event["type"] in PLAYING]
        assert [responses[0], responses[2]] == [responses[1], responses[3]]  # one after another


async def test_manual_turns_by_microphone_and_by_events(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.update(**MANUAL)
        caller.send("input_audio_buffer.clear")
        await caller.speak(SPEECH)
        await asyncio.sleep(0.3)
        caller.send("input_audio_buffer.commit")
        caller.send("response.create")
        await caller.until("output_audio_buffer.stopped")
        said = await caller.until("conversation.item.input_audio_transcription.completed")
        assert said["transcript"] == "hello there"
        caller.send("input_audio_buffer.clear")
        audio = base64.b64encode(float_to_pcm16(resample(SPEECH, 16_000, 24_000))).decode()
        caller.send("input_audio_buffer.append", audio=audio)
        caller.send("input_audio_buffer.commit")
        await caller.until("conversation.item.input_audio_transcription.completed", 2)


@pytest.mark.parametrize("form", [{"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 16_000}], ids=str)
async def test_sound_is_opus_whatever_the_sessions_format(talk: Talk, form: dict[str, Any]) -> None:
    async with calling(talk.server.url) as caller:
        await caller.update(audio={"input": {"format": form}, "output": {"format": form}})
        await caller.speak(SPEECH)
        await caller.until("output_audio_buffer.stopped")
        await asyncio.sleep(0.5)
        assert caller.sounding_s == pytest.approx(0.05 * (len(ANSWER) - 1), abs=0.1)
        caller.events = json.loads(json.dumps(caller.events).replace('"rate": 16000', '"rate": 24000'))


async def test_a_turn_ends_although_the_microphone_was_switched_off(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.speak(SPEECH)
        await caller.until("input_audio_buffer.speech_started")
        caller.peer.getSenders()[0].replaceTrack(None)
        await caller.until("response.done")


async def test_text_only(talk: Talk) -> None:
    async with calling(talk.server.url) as caller:
        await caller.update(output_modalities=["text"])
        caller.send("conversation.item.create", item=HELLO)
        caller.send("response.create")
        await caller.until("response.done")
        assert not {type_ for type_ in caller.order if type_.startswith("output_audio")}
        assert caller.sounding_s == 0
