"""Voices people brought: upload, list, change, delete, preview, enrolment."""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Path, Response, UploadFile
from fastapi.responses import FileResponse

from avatar.conversation.voices import choose, say
from avatar.core.voices import VoiceStatus
from avatar.server.provenance import Provenance
from avatar.server.voices.bodies import (
    MAX_TEXT_CHARS,
    EnrolmentOut,
    Language,
    Line,
    Preview,
    VoiceChange,
    VoiceList,
    VoiceOut,
    Words,
)
from avatar.server.voices.clips import PRIVATE, SAY_TIMEOUT_S, recording, wav
from avatar.server.voices.needs import LibraryNow, Speaker
from avatar.voices.library import NewVoice, VoiceLibrary

Id = Annotated[str, Path(max_length=64)]


def upload(library: LibraryNow) -> Callable[..., Any]:
    """The route that takes a recording."""

    async def take(
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
        sent = recording(audio or file)
        profile, is_new = await library().add(sent.file, new)
        response.status_code = 202 if is_new or profile.status in ("queued", "enrolling") else 200
        return profile

    return take


def profiles(library: LibraryNow, speaker: Speaker, provenance: Provenance) -> APIRouter:
    """The routes below a prefix."""
    routes = APIRouter()

    @routes.get("", response_model=VoiceList)
    async def list_voices(status: Literal[VoiceStatus, "all"] | None = None) -> object:
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
        return FileResponse(library().reference_path(voice_id), media_type="audio/wav", headers=PRIVATE)

    @routes.post("/{voice_id}/preview", response_class=Response)
    async def preview(voice_id: Id, wanted: Preview | None = None) -> Response:
        """Speak in the voice: a WAV file."""
        profile = library().ready(voice_id)
        given = wanted and wanted.text
        text = given or (profile.reference_text or "")[:MAX_TEXT_CHARS] or profile.name
        with speaker() as tts:
            choice = choose(voice_id, library(), tts)
            speech = await say(tts, text, choice, None if given else profile.language, SAY_TIMEOUT_S)
        return wav(await provenance.mark(speech), provenance)

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
