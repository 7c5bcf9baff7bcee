"""Enrolled voices over HTTP, under the paths that clients of earlier systems call; all of them over one library.

Thin: the library enrols, `conversation/voices.py` chooses who speaks, and whoever includes the router keeps the doors.
"""

import base64
import io
import json
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import Annotated, Any, Literal

import numpy as np
import soundfile
from fastapi import APIRouter, File, Form, Path, Response, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from avatar.conversation.voices import Choice, Speech, choose, default_voice, say
from avatar.core.errors import AvatarError, BadAudio, BadMessage, BufferLimit, Unsupported, describe
from avatar.core.voices import VoiceStatus
from avatar.engines.base import ClonesVoices, TextToSpeech
from avatar.media.formats import HEAD_BYTES, NOT_TAKEN, parser_for
from avatar.server import problems
from avatar.server.provenance import Provenance
from avatar.voices.embedding import DIMENSIONS
from avatar.voices.library import MAX_UPLOAD_BYTES, NewVoice, VoiceLibrary

UPLOADS = ("/api/voice-profile", "/api/tts/qwen3/voices", "/api/v1/")
"""Prefixes of the paths that take a recording."""

_PRIVATE = {"Cache-Control": "private, no-store"}

MAX_TEXT_CHARS = 2_000
MAX_BATCH = 20
SAY_TIMEOUT_S = 60.0

Id = Annotated[str, Path(max_length=64)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)]
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$", max_length=16)]
Spoken = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TEXT_CHARS)]


class VoiceOut(BaseModel):
    """A voice. Only a `ready` one speaks; `problem` says why another does not."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    status: VoiceStatus
    created_at: datetime
    updated_at: datetime
    language: str | None
    reference_text: str | None
    consent_statement: str
    consent_date: date
    owner: str
    is_default: bool
    quality: dict[str, Any] | None
    problem_code: str | None
    problem: str | None


class VoiceList(BaseModel):
    """Voices, the newest first."""

    voices: list[VoiceOut]


class VoiceChange(BaseModel):
    """What is absent stays. `is_default`: true makes it the voice of those who choose none."""

    model_config = ConfigDict(extra="forbid")

    name: Line | None = None
    language: Language | None = None
    reference_text: Words | None = None
    is_default: bool | None = None


class EnrolmentOut(BaseModel):
    """How far an enrolment is. `step` is one of decode, trim, quality, embedding, transcribe, conditioning."""

    voice_id: str
    status: VoiceStatus
    step: str
    progress: float
    attempts: int
    problem_code: str | None
    problem: str | None


class Preview(BaseModel):
    """What to say in the voice; unset: the text of its recording."""

    model_config = ConfigDict(extra="forbid")

    text: Spoken | None = None


class EmbeddingOut(BaseModel):
    """256 numbers, a vector of length 1, and the seconds of audio it was made of."""

    embedding: list[float]
    duration: float
    model: str


class Batch(BaseModel):
    """Texts to say in one voice."""

    model_config = ConfigDict(extra="forbid")

    texts: Annotated[list[Spoken], Field(min_length=1, max_length=MAX_BATCH)]
    voice: Line | None = None
    language: Language | None = None


class BatchItem(BaseModel):
    """One text: its WAV file in base64, or why there is none."""

    index: int
    audio: str | None = None
    duration: float | None = None
    problem: str | None = None


class BatchOut(BaseModel):
    """As many items as texts, in their order."""

    items: list[BatchItem]
    notice: str = ""


class SpeakerOut(BaseModel):
    """A voice by the name that other requests take: the engine's own, or an enrolled one."""

    id: str
    object: Literal["voice"] = "voice"
    name: str
    kind: Literal["builtin", "enrolled"]
    language: str | None = None
    is_default: bool = False
    available: bool = Field(
        True, description="False: the speech engine that serves now cannot make this voice; its default would speak."
    )


class SpeakerList(BaseModel):
    """All voices that are ready."""

    object: Literal["list"] = "list"
    data: list[SpeakerOut]


LibraryNow = Callable[[], VoiceLibrary]
Speaker = Callable[[], AbstractContextManager[TextToSpeech]]


def router(library: LibraryNow, speaker: Speaker, provenance: Provenance) -> APIRouter:
    """The routes. `library` and `speaker` are asked at each request, and raise while the server starts; a speech engine
    is kept for as long as the context that `speaker` gives."""
    routes = APIRouter(tags=["voices"], responses=problems.RESPONSES)
    for path in ("/api/voice-profile", "/api/voice-profiles", "/api/tts/qwen3/voices/upload"):
        routes.add_api_route(path, _upload(library), methods=["POST"], response_model=VoiceOut, status_code=202)
    for prefix in ("/api/voice-profiles", "/api/tts/qwen3/voices"):
        routes.include_router(_profiles(library, speaker, provenance), prefix=prefix)
    routes.include_router(_once(library, speaker, provenance), prefix="/api/v1")

    @routes.get("/v1/voices")
    async def speakers() -> SpeakerList:
        enrolled = [profile for profile in library().all() if profile.status == "ready"]
        with speaker() as tts:
            known, default = tts.voices, default_voice(library(), tts)
        own = [voice for voice in known if not voice.startswith("voice_")]
        return SpeakerList(
            data=[
                SpeakerOut(
                    id=p.id,
                    name=p.name,
                    kind="enrolled",
                    language=p.language,
                    is_default=p is default,
                    available=p.id in known,
                )
                for p in enrolled
            ]
            + [SpeakerOut(id=v, name=v, kind="builtin", is_default=default is None and v == own[0]) for v in own]
        )

    return routes


def _upload(library: LibraryNow) -> Callable[..., Any]:
    async def upload(
        response: Response,
        name: Annotated[str, Form(max_length=200)],
        consent_statement: Annotated[Words, Form()],
        consent_date: Annotated[date, Form()],
        audio: Annotated[UploadFile | None, File()] = None,
        file: Annotated[UploadFile | None, File()] = None,
        language: Annotated[Language | None, Form()] = None,
        reference_text: Annotated[Words | None, Form()] = None,
        owner: Annotated[Line, Form()] = "",
    ) -> object:
        """Save a recording and begin its enrolment. The same recording once more answers 200 with the voice it is."""
        new = NewVoice(
            name=name,
            consent_statement=consent_statement,
            consent_date=consent_date,
            language=language,
            reference_text=reference_text,
            owner=owner,
        )
        recording = await _recording(audio or file)
        profile, is_new = await library().add(recording.file, new)
        response.status_code = 202 if is_new or profile.status in ("queued", "enrolling") else 200
        return profile

    return upload


def _profiles(library: LibraryNow, speaker: Speaker, provenance: Provenance) -> APIRouter:
    routes = APIRouter()

    @routes.get("", response_model=VoiceList)
    async def list_voices(status: VoiceStatus | Literal["all"] | None = None) -> object:
        """Voices that are ready or on their way; `status` asks for others."""
        hidden = () if status else ("failed", "cancelled")
        wanted = (status,) if status and status != "all" else None
        found = [p for p in library().all() if p.status not in hidden and (wanted is None or p.status in wanted)]
        return {"voices": found}

    @routes.get("/{voice_id}", response_model=VoiceOut)
    async def read(voice_id: Id) -> object:
        return library().get(voice_id)

    @routes.patch("/{voice_id}", response_model=VoiceOut)
    async def change(voice_id: Id, change: VoiceChange) -> object:
        return await library().change(voice_id, **change.model_dump())

    @routes.delete("/{voice_id}", status_code=204)
    async def delete(voice_id: Id, delete_files: bool = True) -> None:
        """Remove a voice; without `delete_files` its files are set aside in the data folder."""
        await library().delete(voice_id, keep_files=not delete_files)

    @routes.get("/{voice_id}/audio", response_class=FileResponse)
    async def audio(voice_id: Id) -> FileResponse:
        """The recording as it was enrolled, a WAV file."""
        return FileResponse(library().reference_path(voice_id), media_type="audio/wav", headers=_PRIVATE)

    @routes.post("/{voice_id}/preview", response_class=Response)
    async def preview(voice_id: Id, wanted: Preview) -> Response:
        """Speak in the voice: a WAV file."""
        profile = library().ready(voice_id)
        text = wanted.text or (profile.reference_text or "")[:MAX_TEXT_CHARS] or profile.name
        with speaker() as tts:
            choice = choose(voice_id, library(), tts)
            speech = await say(tts, text, choice, None if wanted.text else profile.language, SAY_TIMEOUT_S)
        return _wav(await provenance.mark(speech), provenance)

    @routes.post("/{voice_id}/clone", response_model=EnrolmentOut, status_code=202)
    async def clone(voice_id: Id) -> object:
        """Enrol again what failed or was cancelled; otherwise, how far it is."""
        await library().enrol(voice_id)
        return _enrolment(library(), voice_id)

    @routes.delete("/{voice_id}/clone", response_model=EnrolmentOut)
    async def cancel(voice_id: Id) -> object:
        """Cancel the enrolment."""
        await library().cancel(voice_id)
        return _enrolment(library(), voice_id)

    @routes.get("/{voice_id}/clone-status", response_model=EnrolmentOut)
    async def status(voice_id: Id) -> object:
        return _enrolment(library(), voice_id)

    return routes


def _once(library: LibraryNow, speaker: Speaker, provenance: Provenance) -> APIRouter:
    """What needs no profile: a recording comes with the request and is not kept."""
    routes = APIRouter()

    @routes.post("/extract-embedding")
    async def extract(audio: Annotated[UploadFile, File()]) -> EmbeddingOut:
        data = await (await _recording(audio)).read()
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
        data = await (await _recording(audio)).read()
        with speaker() as tts:
            speech = await _like(library(), tts, data, reference_text, text, language)
        return _wav(await provenance.mark(speech), provenance)

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
    async def batch(wanted: Batch) -> BatchOut:
        """Speak several texts, one after the other; one that fails does not end the others."""
        with speaker() as tts:
            choice = choose(wanted.voice, library(), tts)
            items = [
                await _item(tts, index, text, choice, wanted.language, provenance)
                for index, text in enumerate(wanted.texts)
            ]
        return BatchOut(items=items, notice=choice.notice)

    return routes


async def _recording(upload: UploadFile | None) -> UploadFile:
    if upload is None:
        raise BadMessage("There is no recording: send it as the form field `audio`.")
    head = await upload.read(HEAD_BYTES)
    await upload.seek(0)
    if parser_for(head) is None:
        raise BadAudio(NOT_TAKEN)
    if (upload.size or 0) > MAX_UPLOAD_BYTES:
        raise BufferLimit(f"The recording is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB.")
    return upload


def _enrolment(library: VoiceLibrary, voice_id: str) -> EnrolmentOut:
    profile, progress = library.get(voice_id), library.progress(voice_id)
    return EnrolmentOut(
        voice_id=voice_id,
        status=profile.status,
        step=progress.step,
        progress=progress.fraction or 0.0,
        attempts=profile.attempts,
        problem_code=profile.problem_code,
        problem=profile.problem,
    )


async def _like(
    library: VoiceLibrary, tts: TextToSpeech, data: bytes, said: str | None, text: str, language: str | None
) -> Speech:
    studied = await library.enrolment.study(data, lambda step: None)
    if not (isinstance(tts, ClonesVoices) and tts.capabilities.clones):
        notice = f"{tts.name} clones no voices. The default voice speaks instead."
        return await say(tts, text, Choice(None, notice=notice), language, SAY_TIMEOUT_S)
    voice = f"voice_{secrets.token_urlsafe(16)}"
    tts.learn(voice, await tts.condition(studied.as_reference(said, language)))
    try:
        return await say(tts, text, Choice(voice, cloned=True), language, SAY_TIMEOUT_S)
    finally:
        tts.forget(voice)


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
    audio = base64.b64encode(_wav_bytes(speech)).decode()
    return BatchItem(index=index, audio=audio, duration=round(speech.pcm.size / speech.rate_hz, 3))


def _wav_bytes(speech: Speech) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speech.pcm, speech.rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _wav(speech: Speech, provenance: Provenance) -> Response:
    headers = _PRIVATE | provenance.headers(speech.engine, speech.choice)
    return Response(_wav_bytes(speech), media_type="audio/wav", headers=headers)
