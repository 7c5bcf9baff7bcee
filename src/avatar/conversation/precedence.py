"""Committed turns come first: who may use the shared language model on a guess, to prepare a reply or read ahead.

One for all sessions. Knows replies only as work that can be dropped.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

LET_GO_S = 2.0
"""An engine reads the part of a prompt that it has begun: 64 tokens take a 7B model on a CPU about so long. Who waits
longer waits for an engine that hangs."""


class Precedence:
    """Counts the replies that the language model is at work on; `slots` is how many it does at once."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._working = 0
        self._droppable: dict[object, Callable[[], None]] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def reads(self, task: asyncio.Task[None]) -> None:
        """`task` has the model read a prompt before its time; the next reply cancels it."""
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    @property
    def is_idle(self) -> bool:
        """Whether no reply is being worked on: a prompt that is read beside it holds up its every token."""
        return not self._working

    def may_prepare(self) -> bool:
        """Whether there is room for a guess: half of the slots are kept for turns that are over."""
        return self._working < max(1, self._slots // 2)

    def prepared(self, key: object, drop: Callable[[], None]) -> None:
        """`key` is such a guess; `drop` ends it, should a turn that is over need its slot."""
        self._droppable[key] = drop

    def settled(self, key: object) -> None:
        """`key` is no guess any more: committed or dropped."""
        self._droppable.pop(key, None)

    def make_way(self) -> None:
        """A turn is over and has no reply yet: the oldest guess is dropped if all slots are taken."""
        if self._working >= self._slots and self._droppable:
            self._droppable.pop(next(iter(self._droppable)))()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The language model works on a reply for as long as this is open; it opens when nobody reads ahead."""
        self._working += 1
        try:
            await stopped(self._reading)
            yield
        finally:
            self._working -= 1


async def stopped(reading: Collection[asyncio.Task[None]]) -> None:
    """Cancel them, and wait until the engine has let go, for `LET_GO_S` at most."""
    for task in reading:
        if not task.cancelling():  # a second time would not stop it, but the wait for its end
            task.cancel()
    if reading:
        await asyncio.wait(set(reading), timeout=LET_GO_S)
