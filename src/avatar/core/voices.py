"""Voices people brought, as records that enrolment, store, engines and the edge pass to each other.

No `repr` shows what was said or by whom. Knows no file, no engine and no clock.
"""

import unicodedata
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from avatar.core.audio import Pcm
from avatar.core.errors import BadMessage

VoiceStatus = Literal["queued", "enrolling", "ready", "failed", "cancelled"]
UNFINISHED: frozenset[VoiceStatus] = frozenset({"queued", "enrolling"})

MAX_NAME_CHARS = 80
_NAME_MARKS = " .,:'’()&+-_·"


@dataclass(frozen=True, kw_only=True)
class VoiceProfile:
    """One voice. Times are UTC; only a `ready` one can speak."""

    id: str
    name: str = field(repr=False)
    status: VoiceStatus
    created_at: datetime
    updated_at: datetime
    content_sha256: str
    """Of the recording as it was uploaded."""
    language: str | None = None
    """ISO 639-1, of the recording."""
    reference_text: str | None = field(default=None, repr=False)
    """What is said in the recording."""
    consent_statement: str = field(repr=False)
    consent_date: date
    owner: str = field(default="", repr=False)
    attempts: int = 0
    """Times this enrolment was begun."""
    problem_code: str | None = None
    problem: str | None = None
    """Why it failed, for people; for a ready voice, what they should know."""
    quality: dict[str, Any] | None = None
    """What was measured of the recording: see `voices/quality.py`."""
    is_default: bool = False


@dataclass(frozen=True)
class Reference:
    """A recording to speak like: `pcm` float32[n], mono, -1…1, and what is known of what is said in it."""

    pcm: Pcm = field(repr=False)
    rate_hz: int
    text: str = field(default="", repr=False)
    language: str | None = None


def check_name(name: str) -> str:
    """`name` in one line, normalised (NFC). Raises `BadMessage`: letters, digits and a few marks of any language."""
    name = " ".join(filter(None, unicodedata.normalize("NFC", name).split(" ")))
    if not name or len(name) > MAX_NAME_CHARS:
        raise BadMessage(f"A voice's name has 1 to {MAX_NAME_CHARS} characters.")
    if not all(char in _NAME_MARKS or unicodedata.category(char)[0] in "LMN" for char in name) or ".." in name:
        raise BadMessage(f"A voice's name is made of letters, digits, spaces and {_NAME_MARKS.strip()}.")
    return name
