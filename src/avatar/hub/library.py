"""The models as somebody who looks after them sees them: what is here and whole, checking it, deleting it.

Knows no engine: whether a folder fits one is asked of a function (`Fits`). Downloads are `downloads.py`'s.
"""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from avatar.core.errors import Conflict
from avatar.hub import catalog, files, presence
from avatar.hub.catalog import Model
from avatar.hub.verify import FileReport, check

Fits = Callable[[str, Path], str | None]
"""(catalog key, folder) -> what keeps the engine from using a complete folder, in words, or None."""
State = Literal["absent", "incomplete", "unfit", "present"]

_LEFT_OVER = ".deleted-"


@dataclass(frozen=True)
class Holding:
    """What is known of one model on this disk. `path` is where it is or, if it is not, where it would be."""

    model: Model
    path: Path
    exists: bool
    missing: tuple[str, ...]
    """Files that are not there, or not in their size."""
    problems: tuple[str, ...] = ()
    """What else is wrong, in words."""
    files: tuple[FileReport, ...] = ()
    """Of a thorough check only."""

    @property
    def valid(self) -> bool:
        """An engine can load it."""
        return self.exists and not self.missing and not self.problems

    @property
    def state(self) -> State:
        if not self.exists:
            return "absent"
        if self.missing:
            return "incomplete"
        return "unfit" if self.problems else "present"


class Library:
    """The models folder. Functions that raise `SetupError` do so for an unknown key."""

    def __init__(self, models_dir: Path, fits: Fits) -> None:
        self.models_dir = models_dir
        self._fits = fits

    def look(self, key: str) -> Holding:
        """By names, sizes and the model's own config: quick, but it reads the disk. Raises `SetupError`."""
        model = catalog.model(key)
        path = self._path(model)
        missing = tuple(file.name for file in presence.absent(path, model))
        problem = None if missing else self._fits(model.key, path)
        exists = path.is_dir() and len(missing) < len(model.files)
        return Holding(model, path, exists, missing, (problem,) if problem else ())

    def validate(self, key: str) -> Holding:
        """Every byte hashed, or, where no hash is known, the format looked at: slow. Raises `SetupError`."""
        found = self.look(key)
        reports = check(found.path, found.model).files
        missing = tuple(report.name for report in reports if report.state == "missing")
        broken = tuple(f"{r.name}: {r.state}" for r in reports if r.state not in ("ok", "unknown", "missing"))
        return Holding(found.model, found.path, found.exists, missing, (*broken, *found.problems), reports)

    def folders(self, model: Model) -> list[Path]:
        """Every folder that may hold (a part of) `model`."""
        return [folder for folder in presence.candidates(self.models_dir, model) if folder.is_dir()]

    async def delete(self, key: str) -> None:
        """Remove the model's files, wherever they are. Raises `SetupError`, or `Conflict` while it is downloaded."""
        model = catalog.model(key)
        await asyncio.to_thread(self._delete, model)

    def clear_left_overs(self) -> None:
        """Finish deletions that a stop of the server interrupted."""
        for model in catalog.MODELS.values():
            for folder in presence.candidates(self.models_dir, model):
                shutil.rmtree(folder.with_name(_LEFT_OVER + folder.name), ignore_errors=True)

    def _path(self, model: Model) -> Path:
        """The first folder that is whole, else that which lacks least, else the model's own."""
        return min(
            self.folders(model),
            key=lambda folder: len(presence.absent(folder, model)),
            default=presence.home(self.models_dir, model),
        )

    def _delete(self, model: Model) -> None:
        if not self.models_dir.is_dir():
            return
        try:
            with FileLock(self.models_dir / f".{model.key}.lock", timeout=0):
                for folder in presence.candidates(self.models_dir, model):
                    _remove(folder)
        except Timeout:
            raise Conflict(f"{model.title} is being downloaded. Cancel that first.") from None
        except OSError as error:
            raise files.disk_error(error, self.models_dir) from error


def _remove(folder: Path) -> None:
    """Renamed first, so that a part of a model never looks like one. Of a link only the link goes."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        going = folder.with_name(_LEFT_OVER + folder.name)
        shutil.rmtree(going, ignore_errors=True)
        folder.rename(going)
        shutil.rmtree(going)
