"""Short-lived keys, for browsers: each opens a few paths for a while, and stands for what was agreed when it was made.

Nothing is saved: a restart forgets them all. Knows no route.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from avatar.core.errors import RateLimited

T = TypeVar("T")

PREFIX = "ek_"
"""What OpenAI's clients know such a key by."""
MAX_KEYS = 1000
"""At the same time: a page that asks for one at each visit, at a visit a second, holds 600."""


@dataclass(frozen=True)
class _Made(Generic[T]):
    expires_at_s: int
    what: T


class EphemeralKeys(Generic[T]):
    """Keys and what each stands for. `now`: seconds since the epoch."""

    def __init__(self, now: Callable[[], float] = time.time, most: int = MAX_KEYS) -> None:
        self._now = now
        self._most = most
        self._made: dict[bytes, _Made[T]] = {}

    def make(self, what: T, lifetime_s: int) -> tuple[str, int]:
        """A new key and when it expires (seconds since the epoch). Raises `RateLimited` when there are too many."""
        now_s = self._now()
        self._made = {digest: made for digest, made in self._made.items() if made.expires_at_s > now_s}
        if len(self._made) >= self._most:
            raise RateLimited("Too many client secrets are in use. Ask for shorter ones, or wait until some expire.")
        key = PREFIX + secrets.token_hex(24)
        expires_at_s = int(now_s) + lifetime_s
        self._made[_digest(key)] = _Made(expires_at_s, what)
        return key, expires_at_s

    def find(self, key: str) -> T | None:
        """What `key` stands for; None if we did not make it, or it has expired."""
        made = self._made.get(_digest(key))
        return made.what if made is not None and made.expires_at_s > self._now() else None


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="replace")).digest()
