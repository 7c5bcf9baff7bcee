"""The decoder pool with its real processes: hostile files, dead and stuck children, and nothing left behind."""

import asyncio
import io
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
import psutil
import pytest
import pytest_asyncio
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avatar.core.audio import Pcm
from avatar.core.errors import BadAudio, BufferLimit, Overloaded
from avatar.media import decoder
from avatar.media.decoder import DecoderPool
from tests import recordings
from tests.bombs import flac_silence, peak_memory_bytes, webm_silence
from tests.load.recorder import record_webm
from tests.unit.test_media_decoder_child import FILES

MEMORY_BYTES = 1 << 30
THREE_HOURS_S = 3 * 3600
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def speechlike(seconds: float = 3.0) -> Pcm:
    times_s = np.arange(int(seconds * 48_000)) / 48_000
    voice = 0.3 * np.sin(2 * np.pi * 220 * times_s) * np.sin(2 * np.pi * 3 * times_s) ** 2
    pcm: Pcm = (voice + np.random.default_rng(0).normal(0, 0.01, times_s.size)).astype(np.float32)
    return pcm


WEBM = record_webm(speechlike(), 48_000)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[DecoderPool]:
    """One process, so that what happens to it is what the test sees."""
    pool = DecoderPool(1, 10.0, MEMORY_BYTES)
    await pool.start()
    yield pool
    await pool.aclose()


async def only_pid(pool: DecoderPool) -> int:
    await pool.decode(WEBM, max_s=10)
    (pid,) = pool.pids
    return pid


async def test_decodes_and_the_result_is_the_callers_to_write(pool: DecoderPool) -> None:
    pcm = await pool.decode(WEBM, max_s=60)

    assert pcm.dtype == np.float32
    assert pcm.size == pytest.approx(48_000, abs=400)
    pcm *= 2


async def test_every_kind_of_file_is_read_where_nothing_can_be_opened(pool: DecoderPool) -> None:
    for name, data in FILES.items():
        assert (await pool.decode(data, max_s=60)).size == pytest.approx(16_000, abs=1600), name
    for kind in recordings.KINDS:
        decoded = await pool.decode(recordings.make(kind), max_s=60)
        assert decoded.size == pytest.approx(16_000 * recordings.SECONDS, abs=2400), kind


async def test_audio_is_recognised_by_its_beginning(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    await pool.recognise(WEBM)
    await pool.recognise(flac_silence(3600))
    with pytest.raises(BadAudio, match="none of the audio files"):
        await pool.recognise(b"#EXTM3U\nvoice.wav\n")

    assert await only_pid(pool) == pid


async def test_five_at_once_share_two_processes() -> None:
    pool = DecoderPool(2, 10.0, MEMORY_BYTES)
    await pool.start()

    results = await asyncio.gather(*(pool.decode(WEBM, max_s=60) for _ in range(5)))

    assert len({pcm.tobytes() for pcm in results}) == 1
    assert len(pool.pids) == 2
    await pool.aclose()


async def test_nothing_is_left_behind() -> None:
    process = psutil.Process()
    before = (process.num_fds(), threading.active_count(), len(process.children()))
    for _ in range(2):
        pool = DecoderPool(2, 10.0, MEMORY_BYTES)
        await pool.start()
        await asyncio.gather(*(pool.decode(WEBM, max_s=60) for _ in range(4)))
        await pool.aclose()
        await pool.aclose()

    assert (process.num_fds(), threading.active_count(), len(process.children())) == before


async def test_closing_while_children_still_warm_up_leaves_none() -> None:
    before = psutil.Process().children()
    pool = DecoderPool(2, 10.0, MEMORY_BYTES)
    await pool.start()
    await pool.aclose()

    assert psutil.Process().children() == before


async def test_closing_ends_a_decode_in_flight(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(pool.decode(WEBM, max_s=60))
    await asyncio.sleep(0)

    await pool.aclose()

    with pytest.raises(BadAudio):
        await task
    assert not psutil.pid_exists(pid)
    with pytest.raises(Overloaded):
        await pool.decode(WEBM, max_s=60)


async def test_a_refused_file_costs_no_process(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    with pytest.raises(BadAudio, match="none of the audio files"):
        await pool.decode(b"", max_s=60)
    with pytest.raises(BufferLimit, match=r"longer than 1\.5 s"):
        await pool.decode(WEBM, max_s=1.5)

    assert await only_pid(pool) == pid


async def test_killed_mid_job_fails_only_that_job(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    os.kill(pid, signal.SIGSTOP)
    struck = asyncio.create_task(pool.decode(WEBM, max_s=60))
    waiting = asyncio.create_task(pool.decode(WEBM, max_s=60))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)

    with pytest.raises(BadAudio, match="made its decoder fail"):
        await struck
    assert (await waiting).size
    assert not psutil.pid_exists(pid)


async def test_killed_while_idle_fails_nothing(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert await only_pid(pool) != pid


async def test_too_slow_is_bad_audio_and_the_process_is_replaced() -> None:
    pool = DecoderPool(1, 1.0, MEMORY_BYTES)
    await pool.start()
    pid = await only_pid(pool)
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(BadAudio, match="within 1 s"):
        await pool.decode(WEBM, max_s=60)

    assert await only_pid(pool) != pid
    assert not psutil.pid_exists(pid)
    await pool.aclose()


async def test_cancelling_kills_the_process_at_work(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    os.kill(pid, signal.SIGSTOP)
    task = asyncio.create_task(pool.decode(WEBM, max_s=60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await only_pid(pool) != pid
    assert not psutil.pid_exists(pid)


async def test_a_long_queue_is_refused_at_once(pool: DecoderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MAX_WAITING_PER_CHILD", 3)

    results = await asyncio.gather(*(pool.decode(WEBM, max_s=60) for _ in range(5)), return_exceptions=True)

    assert [isinstance(result, Overloaded) for result in results] == [False, False, False, True, True]
    assert not any(isinstance(result, BaseException) for result in results[:3])


async def test_children_that_cannot_start_are_retried_ever_more_slowly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    pool = DecoderPool(1, 1.0, MEMORY_BYTES)
    await pool.start()

    with pytest.raises(Overloaded, match="became free"):
        await pool.decode(WEBM, max_s=60)
    tries = len(caplog.records)
    await pool.aclose()

    assert 2 <= tries <= 6  # at 0, 0, 0.1, 0.3, 0.7 s


async def test_a_process_is_replaced_after_its_share_of_jobs(
    pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "MAX_JOBS_PER_CHILD", 2)
    pids = [await only_pid(pool) for _ in range(2)]

    assert await only_pid(pool) not in pids[:1]


@linux_only
async def test_a_child_may_open_nothing_and_its_memory_is_bounded(pool: DecoderPool) -> None:
    pid = await only_pid(pool)
    limits = {name: resource.prlimit(pid, getattr(resource, name)) for name in dir(resource) if "RLIMIT_" in name}

    assert limits["RLIMIT_AS"] == (MEMORY_BYTES, MEMORY_BYTES)
    assert limits["RLIMIT_NOFILE"] == limits["RLIMIT_NPROC"] == limits["RLIMIT_FSIZE"] == (0, 0)
    assert limits["RLIMIT_CORE"] == (0, 0)
    assert limits["RLIMIT_CPU"][0] < 30
    assert set(psutil.Process(pid).environ()) == {"PYTHONPATH", "OPENBLAS_NUM_THREADS"}


def cpu_s(pid: int) -> float:
    """For how long a process has had a processor."""
    spent = psutil.Process(pid).cpu_times()
    return float(spent.user + spent.system)


@linux_only
@pytest.mark.parametrize("bomb", [flac_silence, webm_silence])
async def test_three_hours_in_a_small_file_stop_early(pool: DecoderPool, bomb: Callable[[int], bytes]) -> None:
    data = bomb(THREE_HOURS_S)
    assert len(data) < 4_000_000  # 690 MB as PCM
    pid = await only_pid(pool)
    before, worked_s = peak_memory_bytes(pid), cpu_s(pid)

    with pytest.raises(BufferLimit):
        await pool.decode(data, max_s=60)

    assert cpu_s(pid) - worked_s < 1  # 0.04 it takes; all three hours would be 7
    assert peak_memory_bytes(pid) - before < 32 << 20


@linux_only
async def test_more_than_its_memory_is_refused_and_survived() -> None:
    pool = DecoderPool(1, 10.0, 300 << 20)
    await pool.start()
    loud = (np.random.default_rng(0).random(40_000_000) * 60_000 - 30_000).astype("<i2")
    file = io.BytesIO()
    soundfile.write(file, loud, 192_000, format="WAV")

    with pytest.raises(BadAudio, match=r"memory|made its decoder fail"):
        await pool.decode(file.getvalue(), max_s=3600)

    assert (await pool.decode(WEBM, max_s=60)).size
    await pool.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fuzzed_pool() -> AsyncIterator[DecoderPool]:
    pool = DecoderPool(1, 5.0, MEMORY_BYTES)
    await pool.start()
    yield pool
    await pool.aclose()


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, len(WEBM) - 1), st.integers(1, 255)), min_size=1, max_size=40))
async def test_any_damage_gets_an_answer(fuzzed_pool: DecoderPool, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(WEBM)
    for position, flip in flips:
        damaged[position] ^= flip
    await answers(fuzzed_pool, bytes(damaged))


@pytest.mark.asyncio(loop_scope="module")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted({*FILES, *recordings.KINDS})),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=40),
)
async def test_any_damage_to_any_kind_of_file_gets_an_answer(
    fuzzed_pool: DecoderPool, name: str, flips: list[tuple[float, int]]
) -> None:
    damaged = bytearray(FILES[name] if name in FILES else recordings.make(name))
    for share, flip in flips:
        damaged[int(share * len(damaged))] ^= flip
    await answers(fuzzed_pool, bytes(damaged))


async def answers(pool: DecoderPool, damaged: bytes) -> None:
    try:
        pcm = await pool.decode(damaged, max_s=60)
    except (BadAudio, BufferLimit):
        return
    assert 0 < pcm.size <= 60 * 16_000
    assert float(np.abs(pcm).max()) <= 1.0
