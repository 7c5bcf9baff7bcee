"""Recordings that come with a request, and speech that leaves as a WAV file."""

import io

import soundfile
from fastapi import Response, UploadFile

from avatar.conversation.voices import Speech
from avatar.core.errors import BadMessage, BufferLimit
from avatar.server.provenance import Provenance
from avatar.voices.library import MAX_UPLOAD_BYTES

PRIVATE = {"Cache-Control": "private, no-store"}
SAY_TIMEOUT_S = 60.0


def recording(upload: UploadFile | None) -> UploadFile:
    """The upload, if it is there and not too large. Raises `BadMessage`, `BufferLimit`."""
    if upload is None:
        raise BadMessage("There is no recording: send it as the form field `audio`.")
    if (upload.size or 0) > MAX_UPLOAD_BYTES:
        raise BufferLimit(f"The recording is larger than {MAX_UPLOAD_BYTES // 1_000_000} MB.")
    return upload


def wav_bytes(speech: Speech) -> bytes:
    """The speech as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, speech.pcm, speech.rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()


def wav(speech: Speech, provenance: Provenance) -> Response:
    """The speech as the response to a request, with where it comes from in its headers."""
    headers = PRIVATE | provenance.headers(speech.engine, speech.choice)
    return Response(wav_bytes(speech), media_type="audio/wav", headers=headers)
