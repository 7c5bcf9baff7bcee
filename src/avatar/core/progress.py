"""How far a job is: one record for every kind of job that takes a while (a download, an enrolment, loading a model).

Knows no job, no clock and nobody who listens; `server/events.py` carries it to clients.
"""

from dataclasses import dataclass
from typing import Literal

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
ENDED: frozenset[JobState] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True)
class JobProgress:
    """A job as it stands. What is unknown is None; nothing in it is secret to the server's own clients."""

    scope: str
    """The kind of job, which clients filter by: `qwen3_tts_models`."""
    key: str
    """Which one of its kind: a catalog key, an id."""
    state: JobState
    step: str = ""
    """What is being done now, as one word or name for programs: `downloading`, `verifying`, `embedding`."""
    fraction: float | None = None
    """0…1 of the whole job."""
    done_bytes: int | None = None
    total_bytes: int | None = None
    bytes_per_s: float | None = None
    eta_s: float | None = None
    """Seconds to the end, as far as can be told."""
    message: str = ""
    """For people: what it waits for, or what happened and what to do."""

    @property
    def ended(self) -> bool:
        """Nothing more follows, unless somebody begins the job anew."""
        return self.state in ENDED


def bytes_progress(
    scope: str, key: str, step: str, done_bytes: int, total_bytes: int | None, bytes_per_s: float | None
) -> JobProgress:
    """A running transfer, with the fraction and the time left that follow from its bytes."""
    left_bytes = max(total_bytes - done_bytes, 0) if total_bytes else None
    return JobProgress(
        scope,
        key,
        "running",
        step,
        fraction=min(done_bytes / total_bytes, 1.0) if total_bytes else None,
        done_bytes=done_bytes,
        total_bytes=total_bytes,
        bytes_per_s=bytes_per_s,
        eta_s=left_bytes / bytes_per_s if left_bytes is not None and bytes_per_s else None,
    )
