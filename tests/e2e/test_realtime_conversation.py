"""`/v1/realtime` with the embedded default's real weights, by OpenAI's own client: speech in, speech out."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio

from avatar import choosing
from avatar.core.audio import INPUT_RATE_HZ, pcm16_to_float, resample, silence
from tests.integration.realtime_client import calling
from tests.integration.serving import Server, serving, settings_for, settled
from tests.speech import spoken, words

pytestmark = pytest.mark.weights

RATE_HZ = 24_000


@pytest_asyncio.fixture
async def server(tmp_path: Path, models_dir: Path) -> AsyncIterator[Server]:
    wishes = {"stt": {"model": "moonshine-tiny-en"}, "llm": {"model": "smollm2-135m-instruct"}}
    settings = settings_for(tmp_path, models_dir=models_dir, **wishes)
    async with serving(choosing.picks(choosing.survey(settings), settings), settings) as running:
        yield running
        await settled(lambda: running.service.sessions.active == 0)


@pytest.mark.parametrize("detection", ["server_vad", "semantic_vad"])
async def test_a_spoken_question_gets_a_spoken_answer(server: Server, detection: str) -> None:
    question = await spoken("What is the capital of France?")
    client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    async with client, calling(client) as line:
        hearing = {"turn_detection": {"type": detection}, "transcription": {"model": "any"}}
        await line.update(audio={"input": hearing})
        await line.speak(question)
        await line.speak(silence(2 * INPUT_RATE_HZ))
        response = (await line.until("response.done"))["response"]
        heard = line.of("conversation.item.input_audio_transcription.completed")[0]
        assert words(heard["transcript"]) == ["what", "is", "the", "capital", "of", "france"]
        item = response["output"][0]
        assert response["status"] == "completed"
        assert "Paris" in item["content"][0]["transcript"]
        stream = server.service.lineup.engines.stt.open("en")
        stream.accept(resample(pcm16_to_float(line.audio), RATE_HZ, INPUT_RATE_HZ))
        answer = (await stream.finish()).text
        await stream.aclose()
        assert "paris" in words(answer)
        all_ms = len(line.audio) / 2 / RATE_HZ * 1000
        await line.send("conversation.item.truncate", item_id=item["id"], content_index=0, audio_end_ms=int(all_ms / 2))
        await line.until("conversation.item.truncated")
        await line.send("conversation.item.retrieve", item_id=item["id"])
        left = (await line.until("conversation.item.retrieved"))["item"]["content"][0]["transcript"]
        assert item["content"][0]["transcript"].startswith(left)
        assert len(left) < len(item["content"][0]["transcript"])
