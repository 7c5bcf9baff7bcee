"""Whether the weights on disk are what was fetched: every byte hashed, offline.

Compares with the catalog and, for what the catalog leaves to the hub, with the manifest written at fetch time.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avatar.hub import catalog, files, formats, presence
from avatar.hub.catalog import Model

FileState = Literal["ok", "missing", "wrong size", "wrong hash", "damaged", "unknown"]


@dataclass(frozen=True)
class FileReport:
    """Of a folder copied by hand nothing says what the files should be: then they are `unknown`, or `damaged` if they
    cannot be what their names say."""

    name: str
    state: FileState


@dataclass(frozen=True)
class Report:
    """What was found of one model."""

    key: str
    folder: Path
    files: tuple[FileReport, ...]

    @property
    def ok(self) -> bool:
        return not self.unsound

    @property
    def unsound(self) -> tuple[FileReport, ...]:
        """Files that are missing or not what they should be."""
        return tuple(file for file in self.files if file.state not in ("ok", "unknown"))


async def verify(models_dir: Path, key: str) -> Report:
    """Hash the files of model `key` in a thread. Raises `SetupError` for an unknown key."""
    folder = presence.locate(models_dir, key) or models_dir / key
    return await asyncio.to_thread(check, folder, catalog.model(key))


def check(folder: Path, model: Model) -> Report:
    """Hash the files of `model` in `folder`; slow."""
    records = presence.read_manifest(folder)
    reports = []
    for file in model.files:
        recorded = records.get(file.name)
        size_bytes = file.size_bytes or (recorded.size_bytes if recorded else None)
        sha256 = file.sha256 or (recorded.sha256 if recorded else None)
        state: FileState = files.fault(folder / file.name, size_bytes, sha256) or "ok"
        if state == "ok" and sha256 is None:
            state = "damaged" if formats.is_damaged(folder / file.name) else "unknown"
        reports.append(FileReport(file.name, state))
    return Report(model.key, folder, tuple(reports))
