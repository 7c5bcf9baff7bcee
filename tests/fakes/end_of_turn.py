"""End of turn as the test says, after as long as the test says."""

import asyncio
from collections.abc import Callable

from avatar.core.audio import Pcm
from avatar.engines.base import Capabilities


class FakeEndOfTurn:
    """Fills `EndOfTurn`. `calls` holds the audio of every question asked."""

    name = "fake end of turn"
    capabilities = Capabilities()

    def __init__(self, probability: float | Callable[[Pcm], float] = 0.9, delay_s: float = 0.0) -> None:
        self.calls: list[Pcm] = []
        self._probability = probability
        self._delay_s = delay_s

    async def warm_up(self) -> None: ...

    async def aclose(self) -> None: ...

    async def probability(self, pcm: Pcm) -> float:
        self.calls.append(pcm)
        await asyncio.sleep(self._delay_s)
        return self._probability(pcm) if callable(self._probability) else self._probability
