"""The voice library: every profile, what becomes of each, and which of them can speak now.

The profiles are few and live in memory; each change, but for a failure, is in the store before it is seen. A voice is
`ready` only once all its files are whole. One instance a server. Knows no transport.
"""

import asyncio
import errno
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from avatar.core.errors import BadAudio, BadMessage, NotFound, StoreError, VoiceNotReady, describe
from avatar.core.progress import JobProgress, JobState
from avatar.core.voices import UNFINISHED, Reference, VoiceProfile, VoiceStatus, check_name
from avatar.voices.embedding import Vectors
from avatar.voices.enrolment import STEPS, Cloner, Enrolment, condition, conditioning_key
from avatar.voices.folder import REFERENCE_RATE_HZ, VoiceFolder
from avatar.voices.jobs import JobPolicy, Jobs
from avatar.voices.quality import Unfit

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

SCOPE = "qwen3_tts_voice_clone"
"""Of the progress events; the name that clients of earlier systems listen for."""

MAX_UPLOAD_BYTES = 20_000_000

_AHEAD = timedelta(hours=14)
"""The first place to see a new day is so far ahead of UTC."""

_JOB_STATE: dict[VoiceStatus, JobState] = {
    "queued": "queued",
    "enrolling": "running",
    "ready": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


class ProfileRows(Protocol):
    """Where profiles outlive the process."""

    async def all(self) -> list[VoiceProfile]: ...

    async def save(self, profile: VoiceProfile) -> None: ...

    async def delete(self, voice_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class NewVoice:
    """What comes with a recording. Raises `BadMessage` for a name or a consent that will not do."""

    name: str = field(repr=False)
    consent_statement: str = field(repr=False)
    consent_date: date
    language: str | None = None
    reference_text: str | None = field(default=None, repr=False)
    owner: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", check_name(self.name))
        object.__setattr__(self, "reference_text", (self.reference_text or "").strip() or None)
        if not self.consent_statement.strip():
            raise BadMessage("Say in `consent_statement` that the speaker agrees, e.g. “This is my own voice”.")


class VoiceLibrary:
    """Made by `VoiceLibrary.open`; `start` begins the jobs. Methods raise `StoreError` as the disk does."""

    def __init__(
        self,
        folder: VoiceFolder,
        rows: ProfileRows,
        enrolment: Enrolment,
        publish: Callable[[JobProgress], None],
        policy: JobPolicy,
    ) -> None:
        self.enrolment = enrolment
        self._folder = folder
        self._rows = rows
        self._publish = publish
        self._policy = policy
        self._profiles: dict[str, VoiceProfile] = {}
        self._progress: dict[str, JobProgress] = {}
        self._cloners: tuple[Cloner, ...] = ()
        self._taught: WeakSet[Cloner] = WeakSet()
        self._on_delete: list[Callable[[str], None]] = []
        self._started = False
        self._jobs = Jobs(self._work, self._failed, policy)
        self._changing = asyncio.Lock()
        self._door = asyncio.Lock()
        """Uploads are looked at one at a time: however many come, one is in memory."""

    @classmethod
    async def open(
        cls,
        root: Path,
        rows: ProfileRows,
        enrolment: Enrolment,
        publish: Callable[[JobProgress], None],
        policy: JobPolicy = JobPolicy(),  # noqa: B008  (frozen)
    ) -> "VoiceLibrary":
        """Read the profiles, and clear what a crash left of uploads."""
        library = cls(VoiceFolder(root), rows, enrolment, publish, policy)
        library._profiles = {profile.id: profile for profile in await rows.all()}
        keys = {_key(profile) for profile in library._profiles.values()}
        await _disk(library._folder.prepare, library._profiles.keys(), keys)
        return library

    def start(self, cloners: Sequence[Cloner]) -> None:
        """The engines are there, or others than before: they learn the voices that are ready, and enrolments begin or
        go on."""
        if self._started and self._cloners == tuple(cloners):
            return
        self._started, self._cloners = True, tuple(cloners)
        for profile in self._profiles.values():
            if profile.status in UNFINISHED or (profile.status == "ready" and self._cloners):
                self._jobs.submit(profile.id, profile.attempts if profile.status in UNFINISHED else 0)

    async def aclose(self) -> None:
        """End the jobs; the next start goes on with them."""
        await self._jobs.aclose()

    # --- reading --------------------------------------------------------------------------------

    def all(self) -> list[VoiceProfile]:
        """Every profile, the newest first."""
        return sorted(self._profiles.values(), key=lambda profile: profile.created_at, reverse=True)

    def get(self, voice_id: str) -> VoiceProfile:
        """One profile. Raises `NotFound`."""
        try:
            return self._profiles[voice_id]
        except KeyError:
            raise NotFound("There is no such voice.") from None

    def find(self, wanted: str) -> VoiceProfile | None:
        """The profile with this id, else the newest ready one of this name, if there is one."""
        named = (profile for profile in self.all() if profile.name == wanted and profile.status == "ready")
        return self._profiles.get(wanted) or next(named, None)

    def ready(self, voice_id: str) -> VoiceProfile:
        """One that can speak. Raises `NotFound`, and `VoiceNotReady` with the reason."""
        profile = self.get(voice_id)
        if profile.status != "ready":
            why = {"failed": f"could not be enrolled. {profile.problem}", "cancelled": "was not enrolled to the end."}
            raise VoiceNotReady(f"This voice {why.get(profile.status, 'is still being enrolled; try again soon.')}")
        return profile

    @property
    def default(self) -> VoiceProfile | None:
        """The voice for those who choose none."""
        return next((p for p in self._profiles.values() if p.is_default and p.status == "ready"), None)

    def progress(self, voice_id: str) -> JobProgress:
        """How far the enrolment is. Raises `NotFound`."""
        return self._progress.get(voice_id) or _progress_of(self.get(voice_id))

    async def embedding(self, voice_id: str) -> Vectors:
        """float32[256] of a ready voice. Raises `NotFound`, `VoiceNotReady`."""
        return await _disk(self._folder.embedding, self.ready(voice_id).id)

    def reference_path(self, voice_id: str) -> Path:
        """The trimmed recording of a ready voice, a WAV file. Raises `NotFound`, `VoiceNotReady`."""
        return self._folder.reference_path(self.ready(voice_id).id)

    # --- changing -------------------------------------------------------------------------------

    async def add(self, file: BinaryIO, new: NewVoice) -> tuple[VoiceProfile, bool]:
        """Save a recording and begin its enrolment: the profile, and whether it is new.

        The same recording under the same name and owner is the same voice; one that failed is tried again. Raises
        `BadMessage` for a consent of a day to come, `BadAudio` for what is no audio file, `BufferLimit`, `Overloaded`.
        """
        if new.consent_date > (_now() + _AHEAD).date():
            raise BadMessage("`consent_date` is to come yet: give the day on which the speaker agreed.")
        self._jobs.check_room()
        received, sha256 = await _disk(self._folder.receive, file, MAX_UPLOAD_BYTES)
        try:
            async with self._door:
                await self.enrolment.recognise(await _disk(received.read_bytes))
            async with self._changing:
                return await self._add(received, sha256, new)
        finally:
            await _disk(received.unlink, missing_ok=True)

    async def _add(self, received: Path, sha256: str, new: NewVoice) -> tuple[VoiceProfile, bool]:
        for profile in self._profiles.values():
            if (profile.content_sha256, profile.name, profile.owner) == (sha256, new.name, new.owner):
                again = profile.status in ("failed", "cancelled")
                return (await self._enrol(profile) if again else profile), False
        now = _now()
        profile = VoiceProfile(
            id=f"voice_{secrets.token_urlsafe(16)}",
            status="queued",
            created_at=now,
            updated_at=now,
            content_sha256=sha256,
            **vars(new),
        )
        await _disk(self._folder.take, profile.id, received)
        return await self._enrol(profile), True

    async def change(
        self,
        voice_id: str,
        *,
        name: str | None = None,
        language: str | None = None,
        reference_text: str | None = None,
        owner: str | None = None,
        is_default: bool | None = None,
    ) -> VoiceProfile:
        """Change what is not None; another language or text makes engines learn the voice anew. Raises `NotFound`."""
        async with self._changing:
            before = self.get(voice_id)
            changes: dict[str, Any] = {"name": check_name(name) if name is not None else None, "is_default": is_default}
            changes |= {"language": language, "reference_text": reference_text, "owner": owner}
            if is_default:
                self.ready(voice_id)
            changed = replace(before, **{key: value for key, value in changes.items() if value is not None})
            old = self.default
            await self._save(changed)
            if changed.is_default and old is not None and old.id != voice_id:
                self._profiles[old.id] = replace(old, is_default=False)  # as in the store
            if _key(changed) != _key(before) and changed.status == "ready":
                await _disk(self._forget_conditioning, before)
                self._jobs.submit(voice_id)
            return self.get(voice_id)

    async def delete(self, voice_id: str, *, keep_files: bool = False) -> None:
        """Remove a voice, whatever is being done with it; what is being spoken with it is spoken to its end.

        Raises `NotFound`.
        """
        profile = self.get(voice_id)
        await self._jobs.cancel(voice_id)
        async with self._changing:
            if voice_id not in self._profiles:
                return
            await self._rows.delete(voice_id)
            del self._profiles[voice_id]
            self._progress.pop(voice_id, None)
            for cloner in self._taught:
                cloner.forget(voice_id)
            for tell in tuple(self._on_delete):
                tell(voice_id)
            await _disk(self._forget_conditioning, profile)
            await _disk(self._folder.remove, voice_id, keep_files)
        if profile.status in UNFINISHED:
            self._publish(JobProgress(SCOPE, voice_id, "cancelled", message="The voice was deleted."))

    @contextmanager
    def telling_of_deletions(self, tell: Callable[[str], None]) -> Iterator[None]:
        """For as long as this lasts, `tell` is given the id of each voice as it is deleted; it must not raise."""
        self._on_delete.append(tell)
        try:
            yield
        finally:
            self._on_delete.remove(tell)

    async def enrol(self, voice_id: str) -> VoiceProfile:
        """Enrol again a voice that failed or was cancelled; others are left as they are. Raises `NotFound`."""
        async with self._changing:
            profile = self.get(voice_id)
            return await self._enrol(profile) if profile.status in ("failed", "cancelled") else profile

    async def cancel(self, voice_id: str) -> VoiceProfile:
        """End an enrolment that is under way. Raises `NotFound`."""
        if self.get(voice_id).status in UNFINISHED:
            await self._jobs.cancel(voice_id)
        profile = self.get(voice_id)
        return await self._update(voice_id, status="cancelled") if profile.status in UNFINISHED else profile

    # --- enrolling ------------------------------------------------------------------------------

    async def _enrol(self, profile: VoiceProfile) -> VoiceProfile:
        queued = replace(profile, status="queued", attempts=0, problem=None, problem_code=None)
        await self._save(queued)
        if self._started:
            self._jobs.submit(profile.id)
        return queued

    async def _work(self, voice_id: str, attempt: int) -> None:
        """One attempt: the whole enrolment, or what engines lack of a voice that is ready."""
        profile = self.get(voice_id)
        if profile.status == "ready":
            await self._condition(profile, self._cloners)
            return
        if attempt > self._policy.attempts:  # the server died in each of them
            raise BadAudio("Enrolling this recording made the server fail; try another recording.")
        await self._enrol_now(await self._update(voice_id, status="enrolling", attempts=attempt))

    async def _enrol_now(self, profile: VoiceProfile) -> None:
        def on_step(step: str) -> None:
            self._report(_progress_of(profile, step))

        data = await _disk(self._folder.source, profile.id)
        studied = await self.enrolment.study(data, on_step)
        await _disk(self._folder.save, profile.id, studied.reference, studied.embedding)
        if profile.reference_text is None:
            on_step("transcribe")
            text, language = await self.enrolment.transcribe(studied.speech, profile.language)
            heard = {"reference_text": text or None, "language": profile.language or language}
            profile = await self._update(profile.id, **heard)
        on_step("conditioning")
        await self._condition(self.get(profile.id), self._cloners)
        quality = asdict(studied.quality)
        await self._update(profile.id, status="ready", quality=quality, problem=None, problem_code=None)

    async def teach(self, cloner: Cloner, voice_id: str) -> None:
        """Let an engine that `start` was not given know a ready voice. Raises as `ready` does, and `EngineError`."""
        profile = self.ready(voice_id)
        await self._condition(profile, (cloner,))
        if voice_id not in self._profiles:
            cloner.forget(voice_id)
            await _disk(self._forget_conditioning, profile)
            raise NotFound("This voice was deleted just now.")

    async def _condition(self, profile: VoiceProfile, cloners: Sequence[Cloner]) -> None:
        def reference() -> Reference:
            pcm = self._folder.reference(profile.id)
            return Reference(pcm, REFERENCE_RATE_HZ, profile.reference_text or "", profile.language)

        self._taught.update(cloners)
        await condition(self._folder, cloners, profile.id, _key(profile), reference)

    async def _failed(self, voice_id: str, error: BaseException, again: bool) -> None:
        profile = self.get(voice_id)
        if profile.status == "ready":
            logger.error("an engine could not learn the voice %s", voice_id, exc_info=error)
            return
        told = describe(error)
        status = "queued" if again else "failed"
        quality = asdict(error.quality) if isinstance(error, Unfit) else None
        changes: dict[str, Any] = {"status": status, "quality": quality}
        changes |= {"problem": told.message, "problem_code": told.code}
        try:
            await self._update(voice_id, **changes)
        except StoreError:
            logger.error("that the voice %s is %s is not in the store: a restart tries it again", voice_id, status)
            self._show(replace(self.get(voice_id), **changes))

    async def _update(self, voice_id: str, **changes: Any) -> VoiceProfile:
        async with self._changing:
            await self._save(replace(self.get(voice_id), **changes))
            return self.get(voice_id)

    def _forget_conditioning(self, profile: VoiceProfile) -> None:
        if not any(_key(other) == _key(profile) for other in self._profiles.values()):
            self._folder.forget_conditioning(_key(profile))

    # --- telling --------------------------------------------------------------------------------

    async def _save(self, profile: VoiceProfile) -> None:
        profile = replace(profile, updated_at=_now())
        await self._rows.save(profile)
        self._show(profile)

    def _show(self, profile: VoiceProfile) -> None:
        self._profiles[profile.id] = profile
        self._report(_progress_of(profile))

    def _report(self, progress: JobProgress) -> None:
        if progress.ended:
            self._progress.pop(progress.key, None)
        else:
            self._progress[progress.key] = progress
        self._publish(progress)


def _progress_of(profile: VoiceProfile, step: str = "") -> JobProgress:
    done = 1.0 if profile.status == "ready" else STEPS.index(step) / len(STEPS) if step else 0.0
    return JobProgress(
        SCOPE, profile.id, _JOB_STATE[profile.status], step, fraction=done, message=profile.problem or ""
    )


def _key(profile: VoiceProfile) -> str:
    return conditioning_key(profile.content_sha256, profile.reference_text, profile.language)


async def _disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Work with files, in a thread. Raises `StoreError` as the disk fails."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        logger.error("the files of a voice could not be read or written: %s", type(error).__name__, exc_info=error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError("The disk is full. Free some space and try again.") from error
        raise StoreError("A voice's files could not be read or written; the server's log says why.") from error


def _now() -> datetime:
    return datetime.now(UTC)
