"""Downloads as jobs: begun, paused, gone on with, cancelled, and taken up again when the server starts anew.

One model is fetched at a time, so that the check for free space counts and no model slows another; however many ask for
one, it is fetched once. What is unfinished is in a journal in the models folder. Knows neither HTTP nor who listens.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avatar.core.errors import AvatarError, Conflict, describe
from avatar.core.progress import JobProgress, JobState, bytes_progress
from avatar.hub import catalog, files, presence
from avatar.hub.catalog import Model
from avatar.hub.fetch import fetch
from avatar.hub.source import Progress, SourceName

logger = logging.getLogger(__name__)

SCOPE = "models"
ALIAS_SCOPE = "qwen3_tts_models"
"""The scope of models that earlier systems had; their progress carries the alias as its key."""
JOURNAL = ".downloads.json"

_AGAIN = "Try again: what was received is kept."
_TELL_EVERY_S = 0.25
_RATE_OVER_S = 5.0

Clock = Callable[[], float]
Publish = Callable[[JobProgress], None]


class Downloads:
    """The downloads of one models folder; of each model, the last one."""

    def __init__(
        self,
        models_dir: Path,
        sources: Sequence[SourceName],
        connect_timeout_s: float,
        publish: Publish,
        *,
        free_bytes: files.FreeBytes = files.free_bytes,
        clock: Clock = time.monotonic,
    ) -> None:
        self._models_dir = models_dir
        self._sources = tuple(sources)
        self._connect_timeout_s = connect_timeout_s
        self._publish = publish
        self._free_bytes = free_bytes
        self._clock = clock
        self._jobs: dict[str, _Download] = {}
        self._turn = asyncio.Lock()

    def restore(self) -> None:
        """Take up what was unfinished when the server stopped; what was paused stays so."""
        for key, entry in _read_journal(self._models_dir / JOURNAL).items():
            try:
                model = catalog.model(key)
            except AvatarError:
                continue  # of another version of the catalog
            sources = [name for name in self._sources if name in entry.sources]
            job = self._jobs[model.key] = self._download(model, sources)
            if entry.paused:
                job.become("paused")
            else:
                self._start(job)

    def progress(self, key: str) -> JobProgress | None:
        """How far the download of `key` is, or how the last one ended."""
        job = self._jobs.get(catalog.model(key).key)
        return job.progress if job else None

    def begin(self, key: str, sources: Sequence[SourceName] = ()) -> JobProgress:
        """Fetch a model from `sources` (those of the settings, if none is named), going on with what is there.

        One that is under way already is left as it is. Raises `SetupError` for an unknown key, `DiskFull`.
        """
        model = catalog.model(key)
        job = self._jobs.get(model.key)
        if job is None or job.task is None:
            self._require_space(model)
            job = self._jobs[model.key] = self._download(model, sources)
            self._start(job)
            self._write_journal()
        return job.progress

    def resume(self, key: str) -> JobProgress:
        """Go on with a download that did not come to its end. Raises `Conflict` if there is none, and as `begin`."""
        return self.begin(key, self._job(key, "done").sources)

    async def pause(self, key: str) -> JobProgress:
        """Stop and keep what was received, also over a restart. Raises `Conflict` if it is not under way."""
        job = self._job(key, "done", "failed", "cancelled")
        await self._stop(job, "paused")
        return job.progress

    async def cancel(self, key: str) -> JobProgress:
        """Stop and drop what was received of unfinished files. Raises `Conflict` if there is nothing to drop."""
        job = self._job(key, "done", "cancelled")
        await self._stop(job, "cancelled")
        if job.progress.state == "cancelled":
            await asyncio.to_thread(_drop_parts, presence.home(self._models_dir, job.model), job.model)
        return job.progress

    def forget(self, key: str) -> None:
        """Drop a download that is not running from the records: its model is deleted."""
        job = self._jobs.get(catalog.model(key).key)
        if job is not None and job.task is None:
            if not job.progress.ended:
                job.become("cancelled")
            del self._jobs[job.model.key]
            self._write_journal()

    async def aclose(self) -> None:
        """Stop all, to be gone on with at the next start."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _download(self, model: Model, sources: Sequence[SourceName]) -> "_Download":
        folder = presence.home(self._models_dir, model)
        return _Download(model, sources or self._sources, folder, self._publish, self._clock)

    def _job(self, key: str, *but: JobState) -> "_Download":
        model = catalog.model(key)
        job = self._jobs.get(model.key)
        if job is None or job.progress.state in but:
            raise Conflict(f"No download of {model.title} is under way.")
        return job

    def _require_space(self, model: Model) -> None:
        folder = presence.home(self._models_dir, model)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise files.disk_error(error, folder) from error
        if presence.locate(self._models_dir, model.key) is None:
            here_bytes = sum(_here_bytes(folder, file.name) for file in model.files)
            files.require_space(folder, model.size_bytes - here_bytes, self._free_bytes)

    def _start(self, job: "_Download") -> None:
        job.become("queued")
        job.task = asyncio.create_task(self._run(job), name=f"download {job.model.key}")

    async def _run(self, job: "_Download") -> None:
        async with self._turn:
            job.become("running", "checking")
            ticking = asyncio.create_task(_tick(job))
            try:
                (result,) = await fetch(
                    [job.model.key],
                    self._models_dir,
                    job.sources,
                    self._connect_timeout_s,
                    job.on_progress,
                    free_bytes=self._free_bytes,
                )
                problems = "" if result.ok else " ".join((*(f"{p}." for p in result.problems), _AGAIN))
            except AvatarError as error:
                problems = str(error)
            except Exception as error:
                logger.exception("the download of %s broke", job.model.key)
                problems = describe(error).message
            finally:
                ticking.cancel()
        job.task = None
        job.become("failed" if problems else "done", message=problems)
        self._write_journal()

    async def _stop(self, job: "_Download", state: JobState) -> None:
        """End the job's task; unless it ended by itself meanwhile, `state` is how."""
        task = job.task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if job.progress.state not in ("done", state):
            job.task = None
            job.become(state)
            self._write_journal()

    def _write_journal(self) -> None:
        unfinished = {
            key: {"sources": job.sources, "paused": job.progress.state == "paused"}
            for key, job in self._jobs.items()
            if not job.progress.ended
        }
        journal = self._models_dir / JOURNAL
        temporary = journal.with_name(JOURNAL + ".tmp")
        try:
            temporary.write_text(json.dumps(unfinished), "utf-8")
            temporary.replace(journal)
        except OSError as error:
            logger.warning("%s cannot be written (%s): downloads will not go on after a restart", journal, error)


class _Download:
    """One model's download: its files' bytes put together, its rate, and telling of it now and then."""

    def __init__(
        self, model: Model, sources: Sequence[SourceName], folder: Path, publish: Publish, clock: Clock
    ) -> None:
        self.model = model
        self.sources = tuple(sources)
        self.task: asyncio.Task[None] | None = None
        self._publish = publish
        self._clock = clock
        self._received = {file.name: _here_bytes(folder, file.name) for file in model.files}
        self._totals = {file.name: file.size_bytes or files.size_of(folder / file.name) for file in model.files}
        self._samples: deque[tuple[float, int]] = deque()
        scope, key = (ALIAS_SCOPE, model.alias) if model.alias else (SCOPE, model.key)
        self.progress = self._told = JobProgress(scope, key, "queued")

    def become(self, state: JobState, step: str = "", message: str = "") -> None:
        """Tell a new state, with the bytes as they are."""
        self._samples.clear()
        self._tell(replace(self._bytes(step), state=state, message=message, bytes_per_s=None, eta_s=None))

    def on_progress(self, event: Progress) -> None:
        """Take the progress of one file."""
        if event.file and event.state not in ("failed", "waiting"):
            self._received[event.file] = event.received_bytes
            self._totals[event.file] = event.total_bytes or self._totals[event.file]
        message = f"{event.source}: {event.note}" if event.source and event.note else event.note
        progress = replace(self._bytes(event.state), message=message)
        if progress.step == "downloading":
            self.progress = progress  # `tick` tells it
        else:
            self._tell(progress)

    def tick(self) -> None:
        """Tell how far it is, if that has changed; to be called now and then."""
        self._sample()
        progress = replace(self._bytes(self.progress.step), message=self.progress.message)
        if progress != self._told:
            self._tell(progress)

    def _tell(self, progress: JobProgress) -> None:
        self.progress = self._told = progress
        self._publish(progress)

    def _bytes(self, step: str) -> JobProgress:
        total_bytes = sum(self._totals.values()) if all(self._totals.values()) else self.model.size_bytes
        done_bytes = min(sum(self._received.values()), total_bytes)
        return bytes_progress(self.progress.scope, self.progress.key, step, done_bytes, total_bytes, self._rate())

    def _sample(self) -> None:
        now_s = self._clock()
        self._samples.append((now_s, sum(self._received.values())))
        while now_s - self._samples[0][0] > _RATE_OVER_S:
            self._samples.popleft()

    def _rate(self) -> float | None:
        """Bytes a second over the last seconds."""
        if not self._samples or (elapsed_s := self._samples[-1][0] - self._samples[0][0]) <= 0:
            return None
        return max(self._samples[-1][1] - self._samples[0][1], 0) / elapsed_s


async def _tick(job: _Download) -> None:
    """Also where nothing comes: a rate that falls to nothing says so."""
    while True:
        job.tick()
        await asyncio.sleep(_TELL_EVERY_S)


def _here_bytes(folder: Path, name: str) -> int:
    return files.size_of(folder / name) or files.size_of(files.part_of(folder, name))


def _drop_parts(folder: Path, model: Model) -> None:
    for file in model.files:
        files.part_of(folder, file.name).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Entry:
    """A download in the journal."""

    sources: tuple[str, ...]
    paused: bool


def _read_journal(path: Path) -> Mapping[str, _Entry]:
    try:
        entries = json.loads(path.read_text("utf-8"))
        return {key: _Entry(tuple(entry["sources"]), bool(entry["paused"])) for key, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        logger.warning("%s is damaged: downloads are not gone on with", path)
        return {}
