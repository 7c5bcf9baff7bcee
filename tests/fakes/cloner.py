"""A voice that clones: it hums, and remembers what it was taught and how often it was asked to work.

It holds to `tests/contract/test_tts_contract.py`, voices included.
"""

import asyncio

from avatar.core.errors import EngineFailed
from avatar.core.voices import Reference
from avatar.engines.base import Capabilities
from tests.fakes.tts import FakeTextToSpeech


class FakeCloner(FakeTextToSpeech):
    """Fills `ClonesVoices`. `trouble` is raised by `condition`, which waits while `hold` is not set."""

    capabilities = Capabilities(streams=True, clones=True, concurrent=8)
    conditioning_version = "fake-1"

    def __init__(self) -> None:
        super().__init__()
        self.conditioned: list[Reference] = []
        self.learned: dict[str, bytes] = {}
        self.trouble: Exception | None = None
        self.hold = asyncio.Event()
        self.hold.set()

    @property
    def voices(self) -> tuple[str, ...]:  # type: ignore[override]  # what is fixed there grows here
        return ("hum", "low hum", *self.learned)

    async def condition(self, reference: Reference) -> bytes:
        await self.hold.wait()
        self.conditioned.append(reference)
        if self.trouble is not None:
            raise self.trouble
        return f"{self.conditioning_version} {reference.pcm.size} {reference.text}".encode()

    def learn(self, voice: str, conditioning: bytes) -> None:
        if not conditioning.startswith(b"fake-"):
            raise EngineFailed("That is not what I made.")
        self.learned[voice] = conditioning

    def forget(self, voice: str) -> None:
        self.learned.pop(voice, None)
