"""One loaded model and the threads that may use it: keeps blocking inference off the event loop.

Owns loading (once, on first use), the threads and the errors of both. Knows nothing of what the model does.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from avatar.core.errors import AvatarError, EngineFailed

M_co = TypeVar("M_co", covariant=True)
T = TypeVar("T")

_log = logging.getLogger(__name__)


class ModelThreads(Generic[M_co]):
    """Runs functions of one model in threads of its own; more calls than `threads` wait in line.

    `load` makes the model and runs it once; it is called in one of the threads, at the first `run`.
    """

    def __init__(self, name: str, load: Callable[[], M_co], threads: int = 1) -> None:
        self._name = name
        self._load = load
        self._loading = threading.Lock()
        self._model: M_co | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._busy = 0
        self._aside: threading.Event | None = None
        self._closed = False

    async def run(self, work: Callable[[M_co], T]) -> T:
        """`work(model)`, in one of the threads.

        Raises `EngineFailed` for whatever is raised from outside our own tree, and once closed. Cancelling drops work
        that has not begun; work that has must be told by other means.
        """
        if self._aside is not None:
            self._aside.set()
        return await self._run(work)

    async def run_aside(self, work: Callable[[M_co], T], stop: threading.Event) -> T | None:
        """`work(model)` if nothing else is asked of the model; None at once otherwise.

        `stop` is set as soon as `run` is called, and `work` must then end soon: it delays nothing somebody waits for.
        """
        if self._busy:
            return None
        self._aside = stop
        try:
            return await self._run(work)
        finally:
            self._aside = None

    async def _run(self, work: Callable[[M_co], T]) -> T:
        if self._closed:
            raise EngineFailed(f"{self._name} has been closed.")
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._call, work)
        finally:
            self._busy -= 1

    async def warm_up(self) -> None:
        """Load the model if it is not loaded. Raises `EngineFailed`."""
        await self.run(_nothing)

    async def aclose(self) -> None:
        """Drop what waits, let what runs end, free the model. Idempotent."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        self._model = None

    def _call(self, work: Callable[[M_co], T]) -> T:
        try:
            with self._loading:
                if self._model is None:
                    self._model = self._load()
            return work(self._model)
        except AvatarError:
            raise
        except Exception as error:
            _log.exception("%s failed", self._name)
            raise EngineFailed(f"{self._name} failed ({type(error).__name__}); the log has the details.") from error


def _nothing(_model: object) -> None: ...
