"""Fetching one file over HTTP: resume, retry with back-off, and the check before it is put into place.

Knows no hub: an address, headers and what the file must be are given. One `Transport` serves a whole run.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import aiohttp

from avatar.hub import files
from avatar.hub.source import SourceFailed, SourceUnreachable, State

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_STALL_S = 30.0
"""A connection that gives nothing for this long is taken for cut."""
_RETRIES = 5
"""Failures in a row, without one new byte between them, before the file is given up."""
_BACKOFF_S = 0.5
_MAX_WAIT_S = 60.0
_NO_CONNECTION = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_BUSY = frozenset({408, 429, 500, 502, 503, 504})

Tell = Callable[[State, int, str], None]
"""(state, bytes received so far, note)"""


@dataclass(frozen=True)
class Remote:
    """A file on a hub. A hash of None means that the hub gives none; the size then has to do."""

    url: str
    size_bytes: int | None
    sha256: str | None
    headers: dict[str, str] = field(default_factory=dict)


class _TryAgain(Exception):
    """The transfer broke; `wait_s` is what the server asked for, if it did."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Transport:
    """An HTTP client for large files; use it as an async context manager."""

    def __init__(
        self,
        connect_timeout_s: float,
        *,
        free_bytes: files.FreeBytes = files.free_bytes,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.connect_timeout_s = connect_timeout_s
        self.free_bytes = free_bytes
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        limits = aiohttp.ClientTimeout(
            total=None, connect=self.connect_timeout_s, sock_connect=self.connect_timeout_s, sock_read=_STALL_S
        )
        # identity: a compressed answer has neither the size nor the ranges of the file.
        self.session = aiohttp.ClientSession(timeout=limits, trust_env=True, headers={"Accept-Encoding": "identity"})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.session.close()

    async def reach(self, url: str) -> None:
        """Raise `SourceUnreachable` unless the server at `url` answers, whatever it answers, within the limit."""
        try:
            async with asyncio.timeout(self.connect_timeout_s), self.session.head(url, allow_redirects=False):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SourceUnreachable(f"{url} cannot be reached ({type(error).__name__})") from error

    async def download(self, remote: Remote, folder: Path, name: str, source: str, tell: Tell) -> None:
        """Fetch `remote` to `folder/name` by way of `folder/name.part`, which survives a failure or cancellation.

        Goes on from a `.part` of an earlier run when the hash is known, so that a stale one cannot slip in. Raises
        `SourceFailed` once retries are of no use (`SourceUnreachable` when there is no connection at all), `DiskFull`
        or `SetupError` when the disk does not take it.
        """
        part = files.part_of(folder, name)
        part.parent.mkdir(parents=True, exist_ok=True)
        failures = 0
        while True:
            begun_bytes = _resume_at(part, remote)
            try:
                await self._receive(remote, part, begun_bytes, tell)
                tell("verifying", files.size_of(part), "")
                fault = await files.in_thread(
                    files.accept, part, folder, name, source, size_bytes=remote.size_bytes, sha256=remote.sha256
                )
                if fault is None:
                    return
                if not begun_bytes:
                    raise SourceFailed(f"{fault}; it was deleted")
                raise _TryAgain(f"{fault} of what was gone on with; it was deleted")
            except (_TryAgain, aiohttp.ClientError, TimeoutError) as error:
                failures = 0 if files.size_of(part) > begun_bytes else failures + 1
                reason = str(error) or "it stopped answering"
                if failures > _RETRIES:
                    kind = SourceUnreachable if isinstance(error, _NO_CONNECTION) else SourceFailed
                    raise kind(f"{reason}, {failures} times in a row") from error
                wait_s = error.wait_s if isinstance(error, _TryAgain) else None
                wait_s = min(_BACKOFF_S * 2**failures if wait_s is None else wait_s, _MAX_WAIT_S)
                _log.debug("%s: %s; again in %.1f s", name, reason, wait_s)
                tell("retrying", files.size_of(part), reason)
                await self._sleep(wait_s)

    async def _receive(self, remote: Remote, part: Path, offset: int, tell: Tell) -> None:
        """Append to `part` what it lacks. Returns when the server has sent all it had."""
        if offset == remote.size_bytes:
            return
        headers = remote.headers | ({"Range": f"bytes={offset}-"} if offset else {})
        async with self.session.get(remote.url, headers=headers) as response:
            _raise_for_status(response, part)
            resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                f"bytes {offset}-"
            )
            received_bytes = offset if resumed else 0
            with _open(part, append=resumed) as out:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    await asyncio.to_thread(_write, out, chunk, part.parent)
                    received_bytes += len(chunk)
                    tell("downloading", received_bytes, "")


def _raise_for_status(response: aiohttp.ClientResponse, part: Path) -> None:
    if response.status < 400:
        return
    if response.status == 416:  # what we have does not fit the file: begin again
        part.unlink(missing_ok=True)
    elif response.status not in _BUSY:
        raise SourceFailed(refusal(response.status))
    raise _TryAgain(refusal(response.status), _retry_after_s(response))


def refusal(status: int) -> str:
    """What an HTTP status says of a file or repository, for people."""
    if status in (401, 403):
        return f"access was refused (HTTP {status}); if the model asks for a licence, accept it there and set HF_TOKEN"
    return "it is not there (HTTP 404)" if status == 404 else f"the server answered HTTP {status}"


def _resume_at(part: Path, remote: Remote) -> int:
    """Bytes of `part` worth keeping; what is not is deleted."""
    size_bytes = files.size_of(part)
    if remote.sha256 is None or (remote.size_bytes is not None and size_bytes > remote.size_bytes):
        part.unlink(missing_ok=True)
        return 0
    return size_bytes


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Seconds of a Retry-After header; its date form is rare, and back-off will do for it."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _open(path: Path, *, append: bool) -> BinaryIO:
    try:
        return path.open("ab") if append else path.open("wb")
    except OSError as error:
        raise files.disk_error(error, path.parent) from error


def _write(out: BinaryIO, chunk: bytes, folder: Path) -> None:
    try:
        out.write(chunk)
    except OSError as error:
        raise files.disk_error(error, folder) from error
