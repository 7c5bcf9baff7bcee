"""`/v1/audio/speech`: a text, spoken, in the client's format, sent as it is made.

Knows the speech engine by its Protocol; nothing of a conversation.
"""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from avatar.conversation.opening import House
from avatar.conversation.voices import Choice, choose
from avatar.conversation.watch import Watchdog
from avatar.core.audio import Pcm, silence
from avatar.core.clauses import ClauseCutter
from avatar.core.errors import NotFound
from avatar.engines.base import TextToSpeech
from avatar.media.encoding import MEDIA_TYPES, RAW_FORMATS, Format, SpeechEncoder
from avatar.media.tempo import MAX_SPEED, MIN_SPEED
from avatar.server.openai import errors
from avatar.server.openai.body import Body
from avatar.server.openai.service import Service
from avatar.server.openai.streams import EVENT_STREAM, LiveResponse, begin, events

MAX_INPUT_CHARS = 4096
"""OpenAI's bound."""
TOKENS_PER_S = 20
"""What OpenAI counts for audio it makes: a token every 50 ms."""

LIGHT_SAMPLES = 1 << 15
"""Converting so many samples to raw PCM takes 0.2 ms."""

STOCK_VOICES = frozenset("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
"""OpenAI's own. Clients name one without having chosen it, so each is the default voice here."""


class VoiceId(Body):
    """A voice by its id."""

    id: Annotated[str, Field(min_length=1, max_length=128)]


class SpeechRequest(Body):
    """The body of a request; `model` and `instructions` change nothing: there is one engine, and it takes none."""

    input: Annotated[str, Field(min_length=1, max_length=MAX_INPUT_CHARS)]
    model: str = ""
    voice: Annotated[str, Field(max_length=128)] | VoiceId = ""
    instructions: str | None = None
    response_format: Format = "mp3"
    speed: Annotated[float, Field(ge=MIN_SPEED, le=MAX_SPEED)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter()

    @routes.post("/audio/speech")
    async def speech(asked: SpeechRequest, request: Request) -> Response:
        engines = service.house().engines
        choice = choose_voice(service.house(), engines.tts, asked.voice)
        pieces = await begin(request, speak(service, asked, choice))
        headers = service.provenance.headers(engines.tts.name, choice)
        if asked.stream_format == "sse":
            told = _tell(pieces, engines.llm.count_tokens(asked.input))
            return LiveResponse(events(told), EVENT_STREAM, service.send_timeout_s, headers)
        return LiveResponse(_data(pieces), MEDIA_TYPES[asked.response_format], service.send_timeout_s, headers)

    return routes


def choose_voice(house: House, tts: TextToSpeech, asked: str | VoiceId) -> Choice:
    """The voice a client means: an engine's own or an enrolled one. Raises `WrongField` for one that is not there."""
    name = asked if isinstance(asked, str) else asked.id
    stock = name in STOCK_VOICES and name not in tts.voices and house.voices.find(name) is None
    try:
        choice = choose(None if stock or not name else name, house.voices, tts)
    except NotFound as error:
        raise errors.WrongField("voice", str(error)) from None
    return Choice(house.voice) if choice == Choice(None) else choice


class Piece(NamedTuple):
    """Bytes of the file, and how long the speech is that went in since the piece before."""

    data: bytes
    seconds: float


async def speak(service: Service, asked: SpeechRequest, choice: Choice) -> AsyncGenerator[Piece, None]:
    """The file, bit by bit; each bit goes out as soon as the engine has made what is in it."""
    house = service.house()
    watchdog = Watchdog("speech engine", house.policy.reply.stall_timeout_s)
    async with service.at_work() as engines, _Writer.opened(asked, engines.tts.sample_rate_hz) as file:
        tts = engines.tts
        speech = tts.speak(_clauses(asked.input), voice=choice.voice, language=house.language)
        marking = service.provenance.marking(choice, tts.sample_rate_hz)
        async with aclosing(watchdog.watch(speech)) as chunks:
            async for chunk in chunks:
                pcm = await asyncio.to_thread(marking.push, chunk.pcm) if marking else chunk.pcm
                yield Piece(await file.push(pcm), chunk.pcm.size / tts.sample_rate_hz / asked.speed)
        rest = await file.push(marking.push(silence(0), last=True)) if marking else b""
        yield Piece(rest + await file.finish(), 0.0)


class _Writer:
    """An encoder at work: on the loop where that takes microseconds, in threads where it takes milliseconds.

    It is opened while the engine makes the first sound.
    """

    def __init__(self, opening: "asyncio.Future[SpeechEncoder]", light: bool) -> None:
        self._opening = opening
        self._light = light

    @classmethod
    @asynccontextmanager
    async def opened(cls, asked: SpeechRequest, rate_hz: int) -> "AsyncGenerator[_Writer, None]":
        loop = asyncio.get_running_loop()
        arguments = asked.response_format, rate_hz, asked.speed
        light = asked.response_format in RAW_FORMATS and asked.speed == 1.0
        if light:
            opening = loop.create_future()
            opening.set_result(SpeechEncoder(*arguments))
        else:
            opening = loop.run_in_executor(None, SpeechEncoder, *arguments)
        try:
            yield cls(opening, light)
        finally:
            await asyncio.wait([opening])

    async def push(self, pcm: Pcm) -> bytes:
        encoder = await self._opening
        if self._light and pcm.size <= LIGHT_SAMPLES:
            return encoder.push(pcm)
        return await asyncio.to_thread(encoder.push, pcm)

    async def finish(self) -> bytes:
        encoder = await self._opening
        return encoder.finish() if self._light else await asyncio.to_thread(encoder.finish)


async def _clauses(text: str) -> AsyncGenerator[str, None]:
    """The first is short, so that its sound is there early."""
    cutter = ClauseCutter()
    for clause in (*cutter.push(text), *cutter.flush()):
        if clause.spoken:
            yield clause.spoken


async def _data(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        async for piece in pieces:
            if piece.data:
                yield piece.data


async def _tell(pieces: AsyncGenerator[Piece, None], input_tokens: int) -> AsyncGenerator[dict[str, Any], None]:
    seconds = 0.0
    async with aclosing(pieces):
        async for piece in pieces:
            seconds += piece.seconds
            if piece.data:
                yield {"type": "speech.audio.delta", "audio": base64.b64encode(piece.data).decode()}
    output_tokens = round(seconds * TOKENS_PER_S)
    usage = {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": input_tokens + output_tokens}
    yield {"type": "speech.audio.done", "usage": usage}
