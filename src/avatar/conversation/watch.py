"""Time limits on engines, written once: nothing a session waits for may take for ever.

Knows the error tree and asyncio; nothing of what is being waited for.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from avatar.core.errors import AvatarError, EngineFailed, EngineTimeout

logger = logging.getLogger(__name__)

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T], what: str) -> T:
    """Await `work`; `EngineTimeout` after `seconds`, and any error outside the tree becomes `EngineFailed`."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await work
    except TimeoutError as error:
        if limit.expired():
            raise _too_slow(what, seconds) from None
        raise _failed(what, error) from error
    except (AvatarError, asyncio.CancelledError):
        raise
    except Exception as error:
        raise _failed(what, error) from error


class Watchdog:
    """A limit on the gaps in a stream, lifted while the stream itself is waiting for somebody else."""

    def __init__(self, what: str, seconds: float) -> None:
        self._what = what
        self._seconds: float | None = seconds
        self._limit: asyncio.Timeout | None = None

    def allow(self, seconds: float | None) -> None:
        """From now on the next item may take `seconds`; None: as long as it likes."""
        self._seconds = seconds
        if self._limit is not None:
            self._limit.reschedule(self._deadline())

    async def watch(self, stream: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """Give the items of `stream`; close it however this ends. Errors as in `within`."""
        async with aclosing(stream):
            while True:
                try:
                    async with asyncio.timeout_at(self._deadline()) as self._limit:
                        item = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise self._timed_out(error) from error
                except (AvatarError, asyncio.CancelledError):
                    raise
                except Exception as error:
                    raise _failed(self._what, error) from error
                finally:
                    self._limit = None
                yield item

    def _deadline(self) -> float | None:
        return None if self._seconds is None else asyncio.get_running_loop().time() + self._seconds

    def _timed_out(self, error: TimeoutError) -> AvatarError:
        """Our limit, or a time-out of the engine's own that it should have named."""
        ours = error.__cause__ is not None and isinstance(error.__cause__, asyncio.CancelledError)
        return _too_slow(self._what, self._seconds or 0.0) if ours else _failed(self._what, error)


def _too_slow(what: str, seconds: float) -> EngineTimeout:
    return EngineTimeout(f"The {what} gave nothing for {seconds:g} seconds, so this turn was ended. Try again.")


def _failed(what: str, error: Exception) -> EngineFailed:
    """The log gets where and what kind: an engine's words may quote what was said."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("the %s failed: %s\n%s", what, type(error).__name__, where.rstrip())
    return EngineFailed(f"The {what} failed; the server's log has the details.")
