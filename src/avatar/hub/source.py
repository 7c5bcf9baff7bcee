"""What a source of weights is: the Protocol every place fills, its failures, and the progress it reports.

Knows no concrete source.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from avatar.core.errors import SetupError
from avatar.hub.catalog import Model, ModelFile

SourceName = Literal["huggingface", "modelscope", "package"]
State = Literal["planned", "waiting", "downloading", "retrying", "verifying", "done", "failed"]


@dataclass(frozen=True)
class Progress:
    """One step of a fetch. `file` is empty for what concerns the model as a whole."""

    key: str
    file: str
    source: str
    state: State
    received_bytes: int = 0
    total_bytes: int | None = None
    note: str = ""
    """Why, in words: what failed, or what is waited for."""


OnProgress = Callable[[Progress], None]


class SourceFailed(SetupError):
    """The source does not give (all of) the files asked for; another may."""


class SourceUnreachable(SourceFailed):
    """The source does not answer at all: pass it over for the rest of the run."""


class DiskFull(SetupError):
    """There is no room for the files, whatever their source."""

    code = "DISK_FULL"
    http_status = 507


class Source(Protocol):
    """A place that weights come from."""

    @property
    def name(self) -> SourceName: ...

    async def fetch(self, model: Model, files: Sequence[ModelFile], folder: Path, on_progress: OnProgress) -> None:
        """Put `files` of `model` into `folder`, each checked, recorded and renamed into place.

        One file that fails does not keep the others from coming. Raises `SourceFailed` naming what could not be had,
        `SourceUnreachable`, or `DiskFull`. Cancelling stops the transfer and any child process; what was received of
        a hub's file stays as `<file>.part`, and the next fetch goes on from there.
        """
        ...


def listed(files: Sequence[ModelFile]) -> str:
    """Some of the names, for a message."""
    more = len(files) - 3
    return ", ".join(file.name for file in files[:3]) + (f" and {more} more" if more > 0 else "")
