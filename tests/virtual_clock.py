"""An event loop whose clock jumps: when every task waits for time, time moves to the next timer at once.

Tests of seconds take milliseconds and always see the same order. Real I/O (threads, sockets) is waited for as usual.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

# While other threads work for the loop, virtual time stands still for up to this long of real time at a step.
_THREAD_GRACE_S = 0.05


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps while nothing outside the loop can wake it: advances the clock instead."""

    def __init__(self, advance: Callable[[float], None], busy: Callable[[], bool]) -> None:
        super().__init__()
        self._advance = advance
        self._busy = busy

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self._busy():
            return super().select(_THREAD_GRACE_S if timeout is not None else None)
        self._advance(timeout)
        return []


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Unit tests run on it (see `conftest.py`); elsewhere `asyncio.Runner(loop_factory=VirtualClockLoop)`."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        self._in_threads = 0
        super().__init__(_JumpingSelector(self._jump, lambda: self._in_threads > 0))

    def time(self) -> float:
        return self._virtual_s

    def _jump(self, seconds: float) -> None:
        self._virtual_s += seconds

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]  # same at run time
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self._in_threads -= 1
