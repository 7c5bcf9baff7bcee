"""What leaves as synthetic speech says that it is: a header on every clip, and a mark in the sound where it is wanted.

Knows no route and no engine. What is hidden in the sound, and how well it keeps, is `core/watermark.py`'s.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from avatar.conversation.voices import Choice, Speech
from avatar.core import watermark

PROVENANCE = "X-Avatar-Provenance"
NOTICE = "X-Avatar-Notice"


@dataclass(frozen=True)
class Provenance:
    """`marks`: which speech carries the watermark; `key`: what draws it."""

    marks: Literal["off", "cloned", "all"] = "cloned"
    key: str = "avatar"

    async def mark(self, speech: Speech) -> Speech:
        """The speech, with the watermark if it is due one."""
        if not self._is_due(speech.choice):
            return speech
        return replace(speech, pcm=await asyncio.to_thread(watermark.embed, speech.pcm, speech.rate_hz, self.key))

    def marking(self, choice: Choice, rate_hz: int) -> watermark.Marking | None:
        """For speech that is sent as it is made; None if it is due no mark."""
        return watermark.Marking(rate_hz, self.key) if self._is_due(choice) else None

    def headers(self, engine: str, choice: Choice) -> dict[str, str]:
        """`X-Avatar-Provenance`: a structured field (RFC 9651) of the engine, the voice, whether it is a clone's and
        whether the sound is marked. `X-Avatar-Notice`, if there is something to tell: percent-encoded UTF-8."""
        flags = {"synthetic": True, "cloned": choice.cloned, "watermark": self._is_due(choice)}
        told = [f"{name}=?{int(value)}" for name, value in flags.items()]
        told += [f'engine="{_ascii(engine)}"', f'voice="{_ascii(choice.voice or "default")}"']
        return {PROVENANCE: ", ".join(told)} | ({NOTICE: quote(choice.notice, safe=" ,.;:()")} if choice.notice else {})

    def _is_due(self, choice: Choice) -> bool:
        return self.marks == "all" or (self.marks == "cloned" and choice.cloned)


def _ascii(text: str) -> str:
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in text)
