"""Runs a job for each key: a few at a time, each within a limit of time, again after a pause if it may succeed later.

What a job is, and where its state outlives the process, is its owner's. Time comes from the event loop.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from avatar.core.errors import AvatarError, ClientError, EngineTimeout, Overloaded, SetupError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobPolicy:
    """`attempts` in all; after the first failure a pause of `back_off_s`, then of four times that, and so on."""

    workers: int = 1
    timeout_s: float = 60.0
    attempts: int = 3
    back_off_s: float = 1.0
    max_waiting: int = 1000


class Jobs:
    """`work(key, attempt)` does one attempt, the first being 1, and records its own success and that it began.
    `failed(key, error, again)` records a failure; with `again` another attempt follows. What it raises is logged."""

    def __init__(
        self,
        work: Callable[[str, int], Awaitable[None]],
        failed: Callable[[str, BaseException, bool], Awaitable[None]],
        policy: JobPolicy,
    ) -> None:
        self._work = work
        self._failed = failed
        self._policy = policy
        self._slots = asyncio.Semaphore(policy.workers)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._renewed: set[str] = set()

    def check_room(self) -> None:
        """Raises `Overloaded` when too many wait."""
        if len(self._tasks) >= self._policy.max_waiting:
            raise Overloaded("Too many voices are being enrolled at the moment; try again in a few minutes.")

    def submit(self, key: str, attempts_before: int = 0) -> None:
        """Run the job of `key`. One that waits is enough; one that runs may know what it is about no more: it is begun
        anew, with all its attempts."""
        running = self._tasks.get(key)
        if running is not None and not running.done():
            self._renewed.add(key)
        else:
            task = asyncio.create_task(self._run(key, attempts_before), name=f"job {key}")
            self._tasks[key] = task
            task.add_done_callback(partial(self._forget, key))

    def _forget(self, key: str, task: asyncio.Task[None]) -> None:
        if self._tasks[key] is task:
            del self._tasks[key]

    async def cancel(self, key: str) -> bool:
        """End the job of `key`; whether there was one. It has ended when this returns."""
        task = self._tasks.get(key)
        if task is None:
            return False
        await _end(task)
        return True

    async def aclose(self) -> None:
        """End all jobs where they are; their owner knows which to take up again."""
        await asyncio.gather(*(_end(task) for task in tuple(self._tasks.values())))

    async def _run(self, key: str, attempt: int) -> None:
        while True:
            attempt += 1
            try:
                async with self._slots, asyncio.timeout(self._policy.timeout_s):
                    self._renewed.discard(key)
                    await self._work(key, attempt)
                may_pass = False
            except Exception as error:
                may_pass = await self._tell(key, attempt, error)
            if key in self._renewed:  # nothing that was tried counts
                attempt = 0
            elif may_pass:
                await asyncio.sleep(self._policy.back_off_s * 4 ** (attempt - 1))
            else:
                return

    async def _tell(self, key: str, attempt: int, error: Exception) -> bool:
        """Tell of a failed attempt; whether another may do better."""
        logger.log(
            logging.DEBUG if isinstance(error, ClientError) else logging.WARNING,
            "attempt %d of the job %s failed: %s",
            attempt,
            key,
            type(error).__name__,
            exc_info=None if isinstance(error, AvatarError) else error,
        )
        told = self._in_our_words(error)
        may_pass = attempt < self._policy.attempts and not isinstance(told, ClientError | SetupError)
        try:
            await self._failed(key, told, may_pass or key in self._renewed)
        except Exception:
            logger.exception("that the job %s failed could not be recorded", key)
        return may_pass

    def _in_our_words(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError):
            return EngineTimeout(
                f"It was not done within {self._policy.timeout_s:g} s: there is too much to do here. Try again later."
            )
        return error


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
