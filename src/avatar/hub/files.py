"""Weights as files: checking them, putting them into place for good, recording what was put.

Synchronous and slow (hashing, fsync): call it in a thread. Knows no source.
"""

import asyncio
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from avatar.core.errors import SetupError
from avatar.hub.presence import MANIFEST, Recorded, read_manifest
from avatar.hub.source import DiskFull

P = ParamSpec("P")
T = TypeVar("T")

Fault = Literal["missing", "wrong size", "wrong hash"]
FreeBytes = Callable[[Path], int]

_SPARE_BYTES = 100_000_000
"""Left free by every fetch: the database usually lives on the same disk and must not find it full."""


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do `work` off the loop; when cancelled, end only after it: nobody else may touch the files before that."""
    doing = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of `folder`, which exists."""
    return shutil.disk_usage(folder).free


def part_of(folder: Path, name: str) -> Path:
    """Where the file `name` of a model grows until it is whole."""
    return folder / (name + ".part")


def size_of(path: Path) -> int:
    """Bytes of the file at `path`; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def require_space(folder: Path, needed_bytes: int, free: FreeBytes) -> None:
    """Raise `DiskFull` unless `needed_bytes` fit on the disk of `folder` with some to spare."""
    available_bytes = free(folder) - _SPARE_BYTES
    if needed_bytes > available_bytes:
        raise DiskFull(
            f"{needed_bytes / 1e6:,.0f} MB are needed and {max(available_bytes, 0) / 1e6:,.0f} MB can be used on the "
            f"disk of {folder}: free some space, or set models_dir to another disk."
        )


def disk_error(error: OSError, folder: Path) -> SetupError:
    """The error to raise when writing into `folder` failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"The disk of {folder} is full: free some space, or set models_dir to another disk.")
    return SetupError(f"{folder} cannot be written ({error.strerror or error}): check its permissions.")


def sha256_of(path: Path) -> str:
    """Hex digest of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, size_bytes: int | None, sha256: str | None) -> Fault | None:
    """What is wrong with the file at `path`: "missing", "wrong size", "wrong hash"; None if nothing is.

    What is None in the expectation is not compared.
    """
    if not path.is_file():
        return "missing"
    if size_bytes is not None and path.stat().st_size != size_bytes:
        return "wrong size"
    if sha256 is not None and sha256_of(path) != sha256:
        return "wrong hash"
    return None


def accept(
    temporary: Path, folder: Path, name: str, source: str, *, size_bytes: int | None, sha256: str | None
) -> Fault | None:
    """Check the file `temporary`; if it is sound, rename it to `folder/name` for good and record it.

    A file that is not sound is deleted, and what was wrong with it is returned: "wrong size" or "wrong hash". What is
    None in the expectation is not compared. Raises `SetupError` or `DiskFull`. The caller holds the folder's lock.
    """
    try:
        digest = sha256_of(temporary)
        received_bytes = temporary.stat().st_size
        if size_bytes not in (None, received_bytes) or sha256 not in (None, digest):
            temporary.unlink()
            return "wrong hash" if size_bytes in (None, received_bytes) else "wrong size"
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _sync(temporary)
        temporary.replace(target)
        _write_manifest(folder, read_manifest(folder) | {name: Recorded(received_bytes, digest, source)})
    except OSError as error:
        raise disk_error(error, folder) from error
    return None


def _write_manifest(folder: Path, records: dict[str, Recorded]) -> None:
    temporary = folder / (MANIFEST + ".tmp")
    temporary.write_text(json.dumps({name: asdict(record) for name, record in records.items()}, indent=1), "utf-8")
    _sync(temporary)
    temporary.replace(folder / MANIFEST)
    if os.name == "posix":
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
