"""What needs no profile: a recording or a text comes with the request, and nothing of it is kept."""

import base64
import json
import logging
import secrets
from typing import Annotated

import numpy as np
from fastapi import APIRouter, File, Form, Response, UploadFile

from avatar.conversation.voices import Choice, Speech, choose, say
from avatar.core.errors import AvatarError, BadMessage, EngineError, Unsupported, describe
from avatar.engines.base import ClonesVoices, TextToSpeech
from avatar.server.provenance import Provenance
from avatar.server.voices.bodies import Batch, BatchItem, BatchOut, EmbeddingOut, Language, Spoken, Words
from avatar.server.voices.clips import SAY_TIMEOUT_S, recording, wav, wav_bytes
from avatar.server.voices.needs import LibraryNow, Speaker
from avatar.voices.embedding import DIMENSIONS
from avatar.voices.enrolment import Studied
from avatar.voices.library import VoiceLibrary

logger = logging.getLogger(__name__)


def once(library: LibraryNow, speaker: Speaker, provenance: Provenance) -> APIRouter:
    """The routes below `/api/v1`."""
    routes = APIRouter()

    @routes.post("/extract-embedding")
    async def extract(audio: Annotated[UploadFile, File()]) -> EmbeddingOut:
        data = await recording(audio).read()
        embedding, duration_s = await library().enrolment.embed(data)
        return EmbeddingOut(embedding=embedding.tolist(), duration=round(duration_s, 3), model="ge2e-speaker")

    @routes.post("/clone-voice", response_class=Response)
    async def clone(
        audio: Annotated[UploadFile, File()],
        text: Annotated[Spoken, Form()],
        language: Annotated[Language | None, Form()] = None,
        reference_text: Annotated[Words | None, Form()] = None,
    ) -> Response:
        """Speak `text` like the recording: a WAV file."""
        data = await recording(audio).read()
        with speaker() as tts:
            speech = await _like(library(), tts, data, reference_text, text, language)
        return wav(await provenance.mark(speech), provenance)

    @routes.post("/synthesize-with-embedding", response_class=Response)
    async def from_embedding(embedding: Annotated[str, Form()], text: Annotated[Spoken, Form()]) -> Response:
        """Refused, with what to do instead, by engines that cannot speak from a GE2E embedding: all there are here."""
        _check_embedding(embedding)
        with speaker() as tts:
            raise Unsupported(
                f"The speech engine {tts.name} cannot speak from a GE2E embedding. Send the recording to "
                "/api/v1/clone-voice, or enrol it and speak with its voice."
            )

    @routes.post("/batch-synthesize")
    async def batch(wanted: Batch, response: Response) -> BatchOut:
        """Speak several texts, one after the other; one that fails does not end the others."""
        with speaker() as tts:
            choice = choose(wanted.voice, library(), tts)
            response.headers.update(provenance.headers(tts.name, choice))
            items = [
                await _item(tts, index, text, choice, wanted.language, provenance)
                for index, text in enumerate(wanted.texts)
            ]
        return BatchOut(items=items, notice=choice.notice)

    return routes


async def _like(
    library: VoiceLibrary, tts: TextToSpeech, data: bytes, said: str | None, text: str, language: str | None
) -> Speech:
    studied = await library.enrolment.study(data, lambda step: None)
    if not (isinstance(tts, ClonesVoices) and tts.capabilities.clones):
        notice = f"{tts.name} clones no voices. The default voice speaks instead."
        return await say(tts, text, Choice(None, notice=notice), language, SAY_TIMEOUT_S)
    said_in = language
    if said is None:
        said, said_in = await _words(library, studied)
    voice = f"voice_{secrets.token_urlsafe(16)}"
    tts.learn(voice, await tts.condition(studied.as_reference(said, said_in)))
    try:
        return await say(tts, text, Choice(voice, cloned=True), language, SAY_TIMEOUT_S)
    finally:
        tts.forget(voice)


async def _words(library: VoiceLibrary, studied: Studied) -> tuple[str | None, str | None]:
    """What is said in the recording, and in which language. None when it cannot be found out: most engines clone
    without, and those that cannot say so."""
    try:
        return await library.enrolment.transcribe(studied.speech, None)
    except EngineError as error:
        logger.warning("a recording is cloned without its words: %s", type(error).__name__)
        return None, None


def _check_embedding(text: str) -> None:
    try:
        numbers = np.array(json.loads(text), np.float32)
    except (ValueError, TypeError, RecursionError):
        numbers = np.zeros(0, np.float32)
    if numbers.shape != (DIMENSIONS,) or not np.isfinite(numbers).all():
        raise BadMessage(f"`embedding` is a JSON list of {DIMENSIONS} numbers, as /api/v1/extract-embedding gives it.")


async def _item(
    tts: TextToSpeech, index: int, text: str, choice: Choice, language: str | None, provenance: Provenance
) -> BatchItem:
    try:
        speech = await provenance.mark(await say(tts, text, choice, language, SAY_TIMEOUT_S))
    except AvatarError as error:
        return BatchItem(index=index, problem=describe(error).message)
    audio = base64.b64encode(wav_bytes(speech)).decode()
    return BatchItem(index=index, audio=audio, duration=round(speech.pcm.size / speech.rate_hz, 3))
