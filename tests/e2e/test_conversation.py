"""The embedded default with its real weights: speech in, speech out, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from avatar import choosing
from avatar.core.audio import INPUT_RATE_HZ, Pcm, resample, silence
from avatar.engines.base import SpeechToText
from avatar.media.opus import encode_ogg_opus
from tests.integration.serving import Server, WireClient, serving, settings_for, settled
from tests.speech import ANSWER, CLEAR_VOICE, COUNTRY, MOST, QUESTION, beckett, share_heard, spoken, words

pytestmark = pytest.mark.weights

QUIET = silence(2 * INPUT_RATE_HZ)
"""Longer than the longest wait for the end of a turn: a microphone goes on when its user is silent."""


@pytest_asyncio.fixture
async def server(tmp_path: Path, models_dir: Path) -> AsyncIterator[Server]:
    wishes = {"stt": {"model": "moonshine-tiny-en"}, "llm": {"model": "smollm2-135m-instruct"}}
    settings = settings_for(tmp_path, models_dir=models_dir, **wishes)
    engines = choosing.picks(choosing.survey(settings), settings)
    async with serving(engines, settings) as running:
        yield running
        await settled(lambda: running.service.sessions.active == 0)


async def ask(client: WireClient, question: Pcm) -> dict[str, object]:
    await client.speak(np.concatenate([question, QUIET]))
    return await client.until("reply.done", 30)


async def transcribe(stt: SpeechToText, pcm: Pcm, rate_hz: int) -> str:
    stream = stt.open("en")
    stream.accept(resample(pcm, rate_hz, INPUT_RATE_HZ))
    text = (await stream.finish()).text
    await stream.aclose()
    return text


async def test_a_spoken_question_gets_a_spoken_answer(server: Server) -> None:
    question = await spoken(QUESTION, voice=CLEAR_VOICE)
    async with server.client() as client:
        ready = await client.start(mode="live")
        await client.speak(QUIET[:4800])
        done = await ask(client, question)
        heard = next(m for m in client.messages if m["type"] == "transcript" and m["is_final"])
        assert words(heard["text"]) == words(QUESTION)
        assert done["status"] == "completed"
        assert ANSWER in str(done["heard_text"])
        answer = await transcribe(server.service.lineup.engines.stt, client.pcm, ready["output"]["sample_rate"])
        assert share_heard(str(done["heard_text"]), answer) >= MOST
    status, saved = await server.get(f"/api/conversations/{ready['conversation_id']}")
    assert status == 200
    assert saved["turns"][0]["has_user_audio"]
    assert saved["turns"][0]["has_reply_audio"]


async def test_push_to_talk_and_a_follow_up_that_needs_the_history(server: Server) -> None:
    async with server.client() as client:
        await client.start()
        await client.ws.send_bytes(encode_ogg_opus(await spoken(QUESTION, voice=CLEAR_VOICE), INPUT_RATE_HZ))
        await client.send("audio.end")
        done = await client.until("reply.done", 30)
        assert ANSWER in done["heard_text"]
        await client.send("text", text="Which country is that city in?")
        done = await client.until("reply.done", 30)
        assert COUNTRY in done["heard_text"]


async def test_speaking_over_the_answer_stops_it(server: Server) -> None:
    story = await spoken("Tell me a very long story about a dragon.")
    question = await spoken(QUESTION, voice=CLEAR_VOICE)
    async with server.client() as client:
        await client.start(mode="live")
        await client.speak(np.concatenate([story, QUIET]))
        await client.until("reply.audio", 30)
        await client.speak(np.concatenate([QUIET, question, QUIET]))
        first = await client.until("reply.done", 30)
        second = await client.until("reply.done", 30)
    assert (first["status"], second["status"]) == ("interrupted", "completed")
    assert first["heard_text"]
    assert ANSWER in second["heard_text"]


async def test_a_human_voice_is_understood(server: Server) -> None:
    async with server.client() as client:
        await client.start(mode="live")
        speaking = client.speak(np.concatenate([beckett()[: 3 * INPUT_RATE_HZ], QUIET, QUIET]))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speaking)
            while (await client.until("reply.done", 30))["status"] != "completed":
                pass  # he pauses between sentences, so this may be more than one turn
    said = [
        word
        for message in client.messages
        if message["type"] == "transcript" and message["is_final"]
        for word in words(message["text"])
    ]
    assert {"tried", "failed"} <= set(said)


async def test_noise_and_silence_start_nothing(server: Server) -> None:
    hiss = np.random.default_rng(7).normal(0, 0.01, 3 * INPUT_RATE_HZ).astype(np.float32)
    async with server.client() as client:
        await client.start(mode="live")
        await client.speak(np.concatenate([QUIET, hiss]))
        await client.send("ping")
        await client.until("pong")
    assert [message["type"] for message in client.messages] == ["session.ready", "pong"]
