"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a recording as text, with times, sentence by sentence.

Voice activity says where somebody speaks; each such segment is transcribed by itself, so times come with every engine
and text comes early. The recording is decoded in a child process alone. Knows engines by their Protocols.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from avatar.conversation.opening import House
from avatar.conversation.watch import within
from avatar.core.audio import INPUT_RATE_HZ, Pcm
from avatar.core.errors import BadAudio
from avatar.core.languages import name_of, space_in
from avatar.core.segments import find_speech
from avatar.core.subtitles import Caption, srt, vtt
from avatar.engines.base import (
    SpeechToText,
    SpeechTranslation,
    TimedWord,
    Transcript,
    TranscriptStream,
    VoiceActivity,
    WordTiming,
)
from avatar.server.openai import errors
from avatar.server.openai.service import Service
from avatar.server.openai.streams import EVENT_STREAM, LiveResponse, begin, events, while_connected
from avatar.server.openai.uploads import TranscriptForm, Upload, read_upload

VOICE_BLOCK_S = 30
"""Voice activity is asked for so much at once, in a thread: a tenth of a second's work, then one may leave."""


@dataclass(frozen=True)
class Spoken:
    """What was said from `start_s` to `end_s`; `text` begins with what stands between it and the text before."""

    start_s: float
    end_s: float
    text: str
    voice: float
    words: Sequence[TimedWord] = ()
    """Their times are from the beginning of the recording."""


@dataclass
class Listening:
    """A recording being transcribed; `duration_s`, `language` and `spoken` grow as it is."""

    house: House
    upload: Upload
    translate: bool
    duration_s: float = 0.0
    language: str | None = None
    spoken: list[Spoken] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(part.text for part in self.spoken)

    async def listen(self, service: Service) -> AsyncGenerator[Spoken, None]:
        """What is said, in order. Raises `CapacityError`, `WrongField`, `BufferLimit` and the engines' errors."""
        async with service.at_work() as engines:
            if self.times_words and not isinstance(engines.stt, WordTiming):
                why = (
                    f"{engines.stt.name} cannot tell when each word was said; faster-whisper can. Or ask for `segment`."
                )
                raise errors.unsupported("timestamp_granularities", why)
            try:
                pcm = await self.house.decoder.decode(self.upload.data, max_s=service.max_upload_s)
            except BadAudio as error:  # which is HTTP 400 here
                raise errors.WrongField("file", str(error)) from None
            self.duration_s = pcm.size / INPUT_RATE_HZ
            self.language = self.upload.language
            frame = engines.vad.frame_samples
            for segment in find_speech(await _voice(engines.vad, pcm)):
                start, end = segment.start * frame, segment.end * frame
                heard = await self._transcribe(engines.stt, pcm[start:end])
                if said := heard.text.strip():
                    space = space_in("en" if self.translate else self.language) if self.spoken else ""
                    start_s, end_s = start / INPUT_RATE_HZ, end / INPUT_RATE_HZ
                    words = [TimedWord(one.text, start_s + one.start_s, start_s + one.end_s) for one in heard.words]
                    part = Spoken(start_s, end_s, space + said, segment.voice, words)
                    self.spoken.append(part)
                    yield part

    async def _transcribe(self, stt: SpeechToText, pcm: Pcm) -> Transcript:
        """One segment; the language of the first that has one is that of the rest."""
        if self.times_words:
            assert isinstance(stt, WordTiming)
            transcript = await self._in_time(stt.time_words(pcm, self.language))
        else:
            stream = self._open(stt)
            try:
                stream.accept(pcm)
                transcript = await self._in_time(stream.finish())
            finally:
                await stream.aclose()
        self.language = self.language or transcript.language
        return transcript

    async def _in_time(self, transcript: Awaitable[Transcript]) -> Transcript:
        return await within(self.house.policy.stt_timeout_s, transcript, "speech recognition")

    @property
    def times_words(self) -> bool:
        """Whether it is asked when each word was said."""
        return "word" in self.upload.timestamp_granularities and not self.translate

    def _open(self, stt: SpeechToText) -> TranscriptStream:
        if not self.translate:
            return stt.open(self.language)
        assert isinstance(stt, SpeechTranslation)
        return stt.open_translation(self.language)


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.post("/audio/transcriptions")
    async def transcriptions(request: Request) -> Response:
        return await _answer(service, request, translate=False)

    @routes.post("/audio/translations")
    async def translations(request: Request) -> Response:
        stt = service.house().engines.stt
        if not (stt.capabilities.translates and isinstance(stt, SpeechTranslation)):
            raise errors.unsupported(
                "model", f"{stt.name} cannot translate speech. faster-whisper with a multilingual model can."
            )
        return await _answer(service, request, translate=True)

    return routes


async def _answer(service: Service, request: Request, *, translate: bool) -> Response:
    upload = await read_upload(request)
    listening = Listening(service.house(), upload, translate)
    if upload.stream and not translate:
        told = await begin(request, _tell(service, listening))
        return LiveResponse(events(told), EVENT_STREAM, service.send_timeout_s)
    await while_connected(request, _hear_all(service, listening))
    return _FORMS[upload.response_format](listening)


async def _hear_all(service: Service, listening: Listening) -> None:
    async with aclosing(listening.listen(service)) as parts:
        async for _ in parts:
            pass


async def _tell(service: Service, listening: Listening) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(listening.listen(service)) as parts:
        async for part in parts:
            yield {"type": "transcript.text.delta", "delta": part.text}
    tokens = listening.house.engines.llm.count_tokens(listening.text)
    usage = {"type": "tokens", "input_tokens": 0, "output_tokens": tokens, "total_tokens": tokens}
    yield {"type": "transcript.text.done", "text": listening.text, "usage": usage}


async def _voice(vad: VoiceActivity, pcm: Pcm) -> list[float]:
    """Of speech, for every whole frame of `pcm`."""
    stream = vad.open()
    step = VOICE_BLOCK_S * INPUT_RATE_HZ // vad.frame_samples * vad.frame_samples
    whole = pcm[: pcm.size - pcm.size % vad.frame_samples]
    probabilities: list[float] = []
    for start in range(0, whole.size, step):
        probabilities += await asyncio.to_thread(stream.probabilities, whole[start : start + step])
    return probabilities


# --- forms --------------------------------------------------------------------------------------


def _as_json(heard: Listening) -> Response:
    body: dict[str, Any] = {"text": heard.text}
    if not heard.translate:
        body["usage"] = {"type": "duration", "seconds": heard.duration_s}
    return JSONResponse(body)


def _as_verbose_json(heard: Listening) -> Response:
    """What no engine here tells is as if it were sure: `avg_logprob` and `temperature` are 0, `tokens` empty."""
    body: dict[str, Any] = {
        "task": "translate" if heard.translate else "transcribe",
        "language": name_of("en" if heard.translate else heard.language or "unknown"),
        "duration": heard.duration_s,
        "text": heard.text,
    }
    if heard.times_words:
        words = (word for part in heard.spoken for word in part.words)
        body["words"] = [
            {"word": word.text, "start": round(word.start_s, 3), "end": round(word.end_s, 3)} for word in words
        ]
    if not heard.times_words or "segment" in heard.upload.timestamp_granularities:
        body["segments"] = [_segment(number, part) for number, part in enumerate(heard.spoken)]
    if not heard.translate:
        body["usage"] = {"type": "duration", "seconds": heard.duration_s}
    return JSONResponse(body)


def _segment(number: int, part: Spoken) -> dict[str, Any]:
    written = part.text.encode()
    return {
        "id": number,
        "seek": round(part.start_s * 100),  # Whisper's frames of 10 ms
        "start": round(part.start_s, 3),
        "end": round(part.end_s, 3),
        "text": part.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": 0.0,
        "compression_ratio": len(written) / len(zlib.compress(written)),
        "no_speech_prob": round(1 - part.voice, 3),
    }


def _captions(heard: Listening) -> list[Caption]:
    return [Caption(part.start_s, part.end_s, part.text) for part in heard.spoken]


_FORMS: dict[TranscriptForm, Callable[[Listening], Response]] = {
    "json": _as_json,
    "verbose_json": _as_verbose_json,
    "text": lambda heard: PlainTextResponse(heard.text + "\n"),
    "srt": lambda heard: PlainTextResponse(srt(_captions(heard))),
    "vtt": lambda heard: PlainTextResponse(vtt(_captions(heard))),
}
