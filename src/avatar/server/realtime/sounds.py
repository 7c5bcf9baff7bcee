"""The sound of a conversation's items, as it came and went: what `conversation.item.retrieve` gives back."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import TypeVar

from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.formats import AudioFormat, rate_hz, sample_bytes
from avatar.server.realtime.items import InputAudio, OutputAudio
from avatar.server.realtime.model import Strict

ItemT = TypeVar("ItemT", bound=Strict)

MAX_BYTES = 4 << 20
"""Of one conversation: a minute and a half of `audio/pcm`."""


MAX_HEAD_BYTES = 4096
"""Of a WAV file: most have 44, and some a few notes besides."""


@dataclass
class _Sound:
    form: AudioFormat
    data: bytearray = field(default_factory=bytearray)


class Sounds:
    """By item. Of more than `most_bytes` in all the oldest are forgotten, and no more is taken of those: what there is
    of an item is all of it."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._sounds: dict[str, _Sound] = {}
        self._crowded_out: set[str] = set()

    def add(self, item_id: str, form: AudioFormat, data: bytes) -> None:
        """More sound of an item, in its format."""
        if item_id in self._crowded_out:
            return
        self._sounds.setdefault(item_id, _Sound(form)).data += data
        self._bytes += len(data)
        while self._bytes > self._most_bytes:
            oldest = next(iter(self._sounds))
            self.forget(oldest)
            self._crowded_out.add(oldest)

    def cut(self, item_id: str, end_ms: int) -> None:
        """What comes after `end_ms` is gone."""
        if (sound := self._sounds.get(item_id)) is not None:
            kept = sample_bytes(sound.form) * (rate_hz(sound.form) * end_ms // 1000)
            self._bytes -= len(sound.data) - len(sound.data[:kept])
            del sound.data[kept:]

    def forget(self, item_id: str) -> None:
        """All of it is gone, if there was any."""
        self._crowded_out.discard(item_id)
        if (sound := self._sounds.pop(item_id, None)) is not None:
            self._bytes -= len(sound.data)

    def of(self, item_id: str) -> str | None:
        """In base64; None if there is none, or none any more."""
        sound = self._sounds.get(item_id)
        return base64.b64encode(sound.data).decode() if sound is not None else None


def decoded(audio: str, param: str) -> bytes:
    """From base64. Raises `BadEvent`."""
    try:
        return _without_head(base64.b64decode(audio, validate=True))
    except (binascii.Error, ValueError):
        raise BadEvent("invalid_value", f"Invalid '{param}': expected base64 audio.", param) from None


def _without_head(data: bytes) -> bytes:
    """The samples of a WAV file: clients send such files as they are, and OpenAI's server hears the head as a click."""
    is_wav = data.startswith(b"RIFF") and data[8:12] == b"WAVE"
    at = data.find(b"data", 12, MAX_HEAD_BYTES) if is_wav else -1
    return data if at < 0 else data[at + 8 :]  # the chunk's name and its length


def without_sound(item: ItemT, param: str) -> tuple[ItemT, bytes]:
    """The item, which stands at `param`, and the sound that a client put into it. Raises `BadEvent`."""
    sound, parts = b"", []
    for place, part in enumerate(getattr(item, "content", ())):
        if isinstance(part, InputAudio | OutputAudio) and part.audio:
            sound += decoded(part.audio, f"{param}.content[{place}].audio")
            part = part.model_copy(update={"audio": None})
        parts.append(part)
    return (item.model_copy(update={"content": parts}) if sound else item), sound
