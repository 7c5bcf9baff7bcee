"""What the routes of voices take and give, as models."""

import unicodedata
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from avatar.core.voices import VoiceStatus

MAX_TEXT_CHARS = 2_000
MAX_BATCH = 20


def _plain(text: str) -> str:
    """As it is. Raises for NUL and its kin, which nobody types."""
    if any(unicodedata.category(char) == "Cc" and not char.isspace() for char in text):
        raise PydanticCustomError("control_characters", "It holds control characters: send plain text")
    return text


Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=80), AfterValidator(_plain)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000), AfterValidator(_plain)]
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
    owner: Line | None = None
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
