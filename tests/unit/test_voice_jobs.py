"""Jobs on virtual time: how many at once, how long, how often again."""

import asyncio

import pytest

from avatar.core.errors import BadAudio, EngineFailed, EngineTimeout, Overloaded, StoreError
from avatar.voices.jobs import JobPolicy, Jobs


class Owner:
    """Runs jobs that do what a test says, and notes when."""

    def __init__(self, policy: JobPolicy, *troubles: Exception | None, takes_s: float = 1.0) -> None:
        self.jobs = Jobs(self.work, self.failed, policy)
        self.troubles = list(troubles)
        self.takes_s = takes_s
        self.telling_s = 0.0
        self.began: list[float] = []
        self.attempts: list[int] = []
        self.running = self.most = self.done = 0
        self.failures: list[tuple[str, str, bool]] = []

    async def work(self, key: str, attempt: int) -> None:
        self.began.append(asyncio.get_running_loop().time())
        self.attempts.append(attempt)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.takes_s)
        finally:
            self.running -= 1
        if self.troubles and (trouble := self.troubles.pop(0)):
            raise trouble
        self.done += 1

    async def failed(self, key: str, error: BaseException, again: bool) -> None:
        self.failures.append((key, type(error).__name__, again))
        await asyncio.sleep(self.telling_s)


async def test_as_many_at_once_as_there_are_workers_and_none_is_lost() -> None:
    owner = Owner(JobPolicy(workers=2))
    for number in range(50):
        owner.jobs.submit(str(number))
        owner.jobs.submit(str(number))
    await asyncio.sleep(100)
    assert (owner.most, owner.done) == (2, 50)


async def test_what_may_pass_is_tried_again_after_growing_pauses() -> None:
    owner = Owner(JobPolicy(back_off_s=2), EngineFailed("busy"), OSError(), None)
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert [second - first for first, second in zip(owner.began, owner.began[1:], strict=False)] == [3, 9]
    assert owner.failures == [("a", "EngineFailed", True), ("a", "OSError", True)]
    assert owner.done == 1


async def test_it_gives_up() -> None:
    owner = Owner(JobPolicy(), *[EngineFailed("broken")] * 9)
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert owner.failures[-1] == ("a", "EngineFailed", False)
    assert len(owner.began) == 3


async def test_a_failure_that_cannot_be_recorded_is_logged_and_the_next_attempt_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    owner = Owner(JobPolicy(attempts=2), *[EngineFailed("broken")] * 2)

    async def failed(key: str, error: BaseException, again: bool) -> None:
        await Owner.failed(owner, key, error, again)
        raise StoreError("The disk is full.")

    owner.jobs = Jobs(owner.work, failed, JobPolicy(attempts=2))
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert [again for _, _, again in owner.failures] == [True, False]
    assert caplog.text.count("the job a failed could not be recorded") == 2
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert owner.done == 1


@pytest.mark.parametrize("after_s", [0.5, 1.5])
async def test_what_is_renewed_in_its_last_attempt_or_when_that_has_failed_is_begun_anew(after_s: float) -> None:
    owner = Owner(JobPolicy(attempts=2), *[EngineFailed("broken")] * 3)
    owner.telling_s = 1
    owner.jobs.submit("a", attempts_before=1)
    await asyncio.sleep(after_s)
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert owner.attempts == [2, 1, 2]
    assert [again for _, _, again in owner.failures] == [after_s < 1, True, False]


async def test_what_is_submitted_as_soon_as_it_is_done_is_run_again() -> None:
    owner = Owner(JobPolicy(), takes_s=0)

    async def work(key: str, attempt: int) -> None:
        await Owner.work(owner, key, attempt)
        if owner.done == 1:
            asyncio.get_running_loop().call_soon(owner.jobs.submit, key)

    owner.jobs = Jobs(work, owner.failed, JobPolicy())
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert owner.done == 2


async def test_what_the_client_did_wrong_is_not_tried_again() -> None:
    owner = Owner(JobPolicy(), BadAudio("music"))
    owner.jobs.submit("a")
    await asyncio.sleep(60)
    assert owner.failures == [("a", "BadAudio", False)]


async def test_an_attempt_has_a_limit_of_time_which_waiting_does_not_count_to() -> None:
    owner = Owner(JobPolicy(timeout_s=5, attempts=1), takes_s=4)
    for key in "abc":
        owner.jobs.submit(key)
    await asyncio.sleep(20)
    assert (owner.done, owner.failures) == (3, [])
    owner.takes_s = 6
    owner.jobs.submit("d")
    await asyncio.sleep(20)
    assert owner.failures == [("d", EngineTimeout.__name__, False)]


async def test_a_job_is_cancelled_running_waiting_or_pausing() -> None:
    owner = Owner(JobPolicy(back_off_s=100), None, EngineFailed("busy"), takes_s=10)
    owner.jobs.submit("running")
    owner.jobs.submit("waiting")
    await asyncio.sleep(1)
    assert await owner.jobs.cancel("waiting")
    assert await owner.jobs.cancel("running")
    assert not await owner.jobs.cancel("running")
    owner.troubles = [EngineFailed("busy")]
    owner.jobs.submit("pausing")
    await asyncio.sleep(15)
    assert owner.failures == [("pausing", "EngineFailed", True)]
    assert await owner.jobs.cancel("pausing")
    assert (owner.running, owner.done) == (0, 0)


async def test_the_end_ends_all() -> None:
    owner = Owner(JobPolicy(workers=3), takes_s=100)
    for key in "abcde":
        owner.jobs.submit(key)
    await asyncio.sleep(1)
    await owner.jobs.aclose()
    assert owner.running == 0


async def test_too_many_are_refused() -> None:
    owner = Owner(JobPolicy(max_waiting=2))
    for key in "ab":
        owner.jobs.check_room()
        owner.jobs.submit(key)
    with pytest.raises(Overloaded):
        owner.jobs.check_room()
    await owner.jobs.aclose()
