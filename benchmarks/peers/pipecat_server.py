"""Pipecat as a server: the bot its own command line generates, on AVATAR's engines, over a WebSocket.

    PYTHONPATH=src python benchmarks/peers/pipecat_server.py --models DIR --port 8990

Runs in an environment of its own (`requirements.txt`). Owns the three services that let Pipecat call AVATAR's adapters,
and nothing of turns: voice activity, end of turn, aggregation and transport are Pipecat's, as it ships them. Each
choice, and whom it favours, is in `README.md`.
"""

import argparse
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService, STTService
from pipecat.services.tts_service import TTSService
from pipecat.transcriptions.language import Language
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

from avatar.core.audio import INPUT_RATE_HZ, float_to_pcm16, pcm16_to_float
from avatar.engines.base import Message, Sampling, TranscriptStream
from avatar.engines.llm.llama_cpp import LlamaCpp
from avatar.engines.stt.moonshine import Moonshine
from avatar.engines.tts.espeak import Espeak


class MoonshineService(SegmentedSTTService):  # type: ignore[misc]  # Pipecat is not installed where types are checked
    """AVATAR's Moonshine, given Pipecat's segments."""

    def __init__(self, engine: Moonshine) -> None:
        super().__init__(settings=STTSettings(model="moonshine-tiny-en", language=Language.EN))
        self._engine = engine

    @property
    def wants_wav_segments(self) -> bool:
        return False

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        stream = self._engine.open()
        try:
            stream.accept(pcm16_to_float(audio))
            transcript = await stream.finish()
        finally:
            await stream.aclose()
        if transcript.text:
            yield TranscriptionFrame(transcript.text, self._user_id, time_now_iso8601(), Language.EN)


class PlainMoonshineService(STTService):  # type: ignore[misc]
    """The same as a service for any engine that takes audio as it comes: nothing says that its transcript is final."""

    def __init__(self, engine: Moonshine) -> None:
        super().__init__(settings=STTSettings(model="moonshine-tiny-en", language=Language.EN))
        self._engine = engine
        self._utterance = engine.open()
        self._before = bytearray()
        self._speaking = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self._speaking = True
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._speaking = False
            self.create_task(self._transcribe(self._utterance))
            self._utterance = self._engine.open()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Take a piece of audio; before speech, only the last second is kept."""
        self._before += audio
        if self._speaking:
            self._utterance.accept(pcm16_to_float(bytes(self._before)))
            self._before.clear()
        del self._before[: -2 * INPUT_RATE_HZ]
        yield None

    async def _transcribe(self, utterance: TranscriptStream) -> None:
        transcript = await utterance.finish()
        await utterance.aclose()
        if transcript.text:
            await self.push_frame(TranscriptionFrame(transcript.text, "", time_now_iso8601(), Language.EN))


class LlamaCppService(LLMService):  # type: ignore[misc]
    """AVATAR's llama.cpp, asked with Pipecat's context."""

    def __init__(self, engine: LlamaCpp, instructions: str, sampling: Sampling) -> None:
        super().__init__(
            settings=LLMSettings(
                **dict.fromkeys(("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed")),
                model="smollm2-135m-instruct",
                system_instruction=instructions,
                max_tokens=sampling.max_tokens,
                filter_incomplete_user_turns=False,
                user_turn_completion_config=None,
            )
        )
        self._engine = engine
        self._system = Message("system", instructions)
        self._sampling = sampling

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        await self.push_frame(LLMFullResponseStartFrame())
        try:
            await self._answer(frame.context)
        except Exception as error:
            await self.push_error("the language model failed", exception=error)
        finally:
            await self.push_frame(LLMFullResponseEndFrame())

    async def _answer(self, context: LLMContext) -> None:
        said = [Message(message["role"], str(message["content"])) for message in context.get_messages()]
        async with aclosing(self._engine.stream((self._system, *said), sampling=self._sampling)) as deltas:
            async for delta in deltas:
                if delta.text:
                    await self._push_llm_text(delta.text)


class EspeakService(TTSService):  # type: ignore[misc]
    """AVATAR's espeak-ng, given Pipecat's sentences."""

    def __init__(self, engine: Espeak) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=engine.sample_rate_hz,
            settings=TTSSettings(model="espeak-ng", voice=None, language=Language.EN),
        )
        self._engine = engine

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        async def piece() -> AsyncIterator[str]:
            yield text

        async with aclosing(self._engine.speak(piece())) as chunks:
            async for chunk in chunks:
                yield TTSAudioRawFrame(float_to_pcm16(chunk.pcm), self._engine.sample_rate_hz, 1, context_id=context_id)


class Bot:
    """The engines, loaded once for all sessions, and the pipeline that each session gets."""

    def __init__(self, models: Path, instructions: str, sampling: Sampling, *, plain_stt: bool) -> None:
        self._listener = PlainMoonshineService if plain_stt else MoonshineService
        self._stt = Moonshine(models / "moonshine-tiny-en")
        self._llm = LlamaCpp(next((models / "smollm2-135m-instruct").glob("*.gguf")))
        self._tts = Espeak()
        self._instructions = instructions
        self._sampling = sampling

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        engines = (self._stt, self._llm, self._tts)
        for engine in engines:
            await engine.warm_up()
        yield
        for engine in engines:
            await engine.aclose()

    async def talk(self, websocket: WebSocket) -> None:
        """One session, from accepting the socket until the client has gone."""
        await websocket.accept()
        transport = FastAPIWebsocketTransport(
            websocket,
            FastAPIWebsocketParams(
                audio_in_enabled=True,
                audio_out_enabled=True,
                add_wav_header=False,
                serializer=ProtobufFrameSerializer(),
            ),
        )
        user, assistant = LLMContextAggregatorPair(
            LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
        )
        services = (
            *(transport.input(), self._listener(self._stt), user),
            *(LlamaCppService(self._llm, self._instructions, self._sampling), EspeakService(self._tts)),
            *(transport.output(), assistant),
        )
        worker = PipelineWorker(
            Pipeline(list(services)), params=PipelineParams(audio_out_sample_rate=self._tts.sample_rate_hz)
        )
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)

        @transport.event_handler("on_client_disconnected")  # type: ignore[untyped-decorator]
        async def on_client_disconnected(transport: Any, client: Any) -> None:
            await runner.cancel()

        await runner.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder of the weights, as AVATAR lays it out")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--instructions", required=True, help="system prompt")
    parser.add_argument("--max-tokens", type=int, required=True, help="longest answer")
    parser.add_argument("--plain-stt", action="store_true", help="transcripts that nobody calls final")
    options = parser.parse_args()
    bot = Bot(
        options.models, options.instructions, Sampling(max_tokens=options.max_tokens), plain_stt=options.plain_stt
    )
    app = FastAPI(lifespan=bot.running)
    app.add_api_websocket_route("/ws", bot.talk)
    uvicorn.run(app, port=options.port, ws="websockets-sansio", ws_per_message_deflate=False, log_level="warning")


if __name__ == "__main__":
    main()
