"""Who gets in: a bounded number of sessions, and a look at GPU memory before each.

Knows neither sockets nor engines.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from avatar.core.errors import GpuMemory, ServerFull


class SessionManager:
    """Hands out session slots.

    `vram_fraction` gives the used share of GPU memory (0…1), or None where there is no GPU; it is asked off the loop.
    """

    def __init__(
        self,
        max_sessions: int,
        wait_s: float,
        max_vram_fraction: float = 1.0,
        vram_fraction: Callable[[], float | None] | None = None,
        what: str = "conversations",
    ) -> None:
        self._what = what
        self._max_sessions = max_sessions
        self._wait_s = wait_s
        self._max_vram_fraction = max_vram_fraction
        self._vram_fraction = vram_fraction
        self._slots = asyncio.Semaphore(max_sessions)
        self.active = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot for the body, however it ends.

        Raises `ServerFull` when none is free within `wait_s`, `GpuMemory` when VRAM use is above the threshold.
        """
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise ServerFull(
                f"All {self._max_sessions} {self._what} of this server are in use. Try again in a moment."
            ) from None
        try:
            await self._check_vram()
            self.active += 1
            try:
                yield
            finally:
                self.active -= 1
        finally:
            self._slots.release()

    async def _check_vram(self) -> None:
        if self._vram_fraction is None:
            return
        used = await asyncio.to_thread(self._vram_fraction)
        if used is not None and used > self._max_vram_fraction:
            raise GpuMemory(
                f"The GPU's memory is {used:.0%} full, above the limit of {self._max_vram_fraction:.0%} for new "
                "conversations. Try again when another one has ended."
            )
