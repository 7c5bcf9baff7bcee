"""Turns at `/v1/realtime` as OpenAI's own client finds them: where they begin and end, and when they are answered."""

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from avatar.core.audio import Pcm, float_to_pcm16, resample
from avatar.core.g711 import RATE_HZ, float_to_alaw, float_to_ulaw
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.tool_servers import ToolServers
from tests.integration.openai_client import Talk
from tests.integration.realtime_client import ANSWER, MANUAL, QUIET, SERVER_VAD, SPEECH, TEXT, calling
from tests.integration.realtime_events import SPOKEN_TURN
from tests.unit.conversation import tone


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


@pytest.mark.parametrize("form", ["RAW", "WAV"])
async def test_a_recording_sent_at_once(talk: Talk, form: str) -> None:
    """As it is, and as the file that many a script sends without a look at it."""
    pcm = resample(np.concatenate([tone(0.0, 320), SPEECH, tone(0.0, 1500)]), 16_000, 24_000)
    file = io.BytesIO()
    soundfile.write(file, pcm, 24_000, subtype="PCM_16", format=form)
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD, **TEXT)
        await line.send("input_audio_buffer.append", audio=base64.b64encode(file.getvalue()).decode())
        assert (await line.until("response.done"))["response"]["status"] == "completed"
        assert [event["audio_start_ms"] for event in line.of("input_audio_buffer.speech_started")] == [20]
        assert len(line.of("input_audio_buffer.committed")) == 1
        assert not line.of("error")


async def test_a_file_of_another_kind_counts_for_nothing(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(**SERVER_VAD, **TEXT)
        await line.send("input_audio_buffer.append", audio=base64.b64encode(b"OggS" + bytes(4796)).decode())
        assert (await line.until("error"))["error"]["code"] == "bad_audio"
        pcm = resample(np.concatenate([tone(0.0, 320), SPEECH, tone(0.0, 1500)]), 16_000, 24_000)
        await line.send("input_audio_buffer.append", audio=base64.b64encode(float_to_pcm16(pcm)).decode())
        await line.until("response.done")
        assert [event["audio_start_ms"] for event in line.of("input_audio_buffer.speech_started")] == [20]


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


async def test_an_owed_answer_that_cannot_be_is_refused_once(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    talk.fakes.llm.token_s = 0.8
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
        for _ in range(2):
            await line.speak(SPEECH)
            await line.speak(QUIET)

        def refuse(*_: Any) -> None:
            raise BadEvent("invalid_value", "No.")

        monkeypatch.setattr(ToolServers, "check", refuse)  # nothing else can come to be wrong so late
        await line.until("response.done")
        audio = base64.b64encode(float_to_pcm16(resample(SPEECH, 16_000, 24_000))).decode()
        content = [{"type": "input_audio", "audio": audio}]
        await line.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
        item_id = (await line.until("conversation.item.done"))["item"]["id"]
        words = None
        while words is None:  # when they are known, what is owed would be given
            await line.send("conversation.item.retrieve", item_id=item_id)
            words = (await line.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
        await line.send("input_audio_buffer.clear")
        await line.until("input_audio_buffer.cleared")
        assert len(line.of("error")) == 1


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


async def test_somebody_who_says_nothing_is_spoken_to(talk: Talk) -> None:
    async with calling(talk.client) as line:
        await line.update(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}}, **TEXT)
        await line.send("response.create")
        await line.until("response.done")
        triggered = await line.until("input_audio_buffer.timeout_triggered")
        assert (triggered["audio_start_ms"], triggered["audio_end_ms"]) == (0, 0)  # no microphone was sent
        await line.until("response.done")
