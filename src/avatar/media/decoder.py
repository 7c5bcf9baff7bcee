"""Audio in: decodes uploads and recordings in warm child processes that may do nothing else.

Owns the processes: start, limits, queue, time-outs, replacement. What a file may hold is for `decoder_child.py` to
judge. Knows no session, store or setting, and never looks at the encoded bytes.
"""

import asyncio
import io
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

from avatar.core.audio import INPUT_RATE_HZ, Pcm
from avatar.core.errors import BadAudio, BufferLimit, Overloaded
from avatar.media.decoder_wire import ANSWER, BAD_AUDIO, JOB, MAX_TEXT_BYTES, PCM, TOO_LONG

logger = logging.getLogger(__name__)

MAX_WAITING_PER_CHILD = 16
"""Decodes that may wait for each process; one more is refused."""

MAX_JOBS_PER_CHILD = 500
"""A process is replaced after so many decodes: what its libraries leak ends with it."""

FIRST_BACK_OFF_S, MAX_BACK_OFF_S = 0.1, 5.0
"""Pause before starting a process when the last two or more died, doubled each time."""

_BEGINNING_S = 0.1

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]

_ENVIRONMENT = {"PYTHONPATH": str(_PACKAGE_ROOT), "OPENBLAS_NUM_THREADS": "1"}
"""All that a child sees of the server's environment; it computes nothing that BLAS threads would help."""

P = ParamSpec("P")
R = TypeVar("R")


class _ChildDied(Exception):
    """The process ended, or talked nonsense, instead of answering."""


class _Child:
    """One decoder process. Its methods block, and run on the pool's threads; `kill` may be called from anywhere."""

    def __init__(self, memory_bytes: int) -> None:
        self.jobs = 0
        self.busy = False
        """Taken for a job that has not been answered."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "avatar.media.decoder_child", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_ENVIRONMENT,
            start_new_session=True,  # Ctrl-C at the server's terminal is for the server
        )
        assert isinstance(self._process.stdin, io.BufferedWriter)
        assert isinstance(self._process.stdout, io.BufferedReader)
        self._jobs, self._answers = self._process.stdin, self._process.stdout
        self.pid = self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Returns once it is warm. Raises `_ChildDied`."""
        self._read_answer(0)

    def decode(self, data: bytes, max_s: float, rate_hz: int, cpu_s: int) -> Pcm:
        """One job. Raises `BadAudio`, `BufferLimit`, `_ChildDied`."""
        self.jobs += 1
        max_samples = int(max_s * rate_hz)
        try:
            self._jobs.write(JOB.pack(rate_hz, max_samples, len(data), cpu_s))
            self._jobs.write(data)
            self._jobs.flush()
        except OSError:
            raise _ChildDied from None
        kind, payload = self._read_answer(max_samples * 4)
        self.busy = False
        if kind == BAD_AUDIO:
            raise BadAudio(payload.decode(errors="replace"))
        if kind == TOO_LONG:
            raise BufferLimit(f"The audio is longer than {max_s:g} s; send less at a time.")
        return np.frombuffer(payload, np.float32, len(payload) // 4)

    def _read_answer(self, max_pcm_bytes: int) -> tuple[int, bytearray]:
        head = self._answers.read(ANSWER.size)
        if len(head) < ANSWER.size:
            raise _ChildDied
        kind, size = ANSWER.unpack(head)
        if size > (max_pcm_bytes if kind == PCM else MAX_TEXT_BYTES):
            raise _ChildDied  # a hostile file may have taken it over
        payload = bytearray(size)
        if self._answers.readinto(payload) < size:
            raise _ChildDied
        return kind, payload

    def kill(self) -> None:
        """End the process at once; whoever waits for its answer gets `_ChildDied`."""
        self._process.kill()

    def bury(self) -> None:
        """Kill, reap, and close the pipes. Idempotent."""
        self.kill()
        self._process.wait()
        self._answers.close()
        with suppress(OSError):  # what the dead process did not read
            self._jobs.close()


class DecoderPool:
    """`size` decoder processes, each kept under `memory_bytes` of address space and `timeout_s` seconds a decode."""

    def __init__(self, size: int, timeout_s: float, memory_bytes: int) -> None:
        self._size = size
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._threads = ThreadPoolExecutor(size, "decoder")
        self._idle: asyncio.Queue[_Child] = asyncio.Queue()
        self._children: set[_Child] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._deaths_in_a_row = 0
        self._closing = asyncio.Event()

    @property
    def pids(self) -> frozenset[int]:
        """The processes that live now."""
        return frozenset(child.pid for child in self._children)

    async def start(self) -> None:
        """Begin to warm the processes, about half a second each; a `decode` meanwhile waits for the first of them."""
        for _ in range(self._size):
            self._replace(None)

    async def decode(self, data: bytes, *, max_s: float, rate_hz: int = INPUT_RATE_HZ) -> Pcm:
        """Decode a whole audio file (see `formats.py`) to float32[n], mono, at `rate_hz`, -1…1.

        The file's own first bytes say what it is; of a damaged or cut-off file, what still decodes is returned.
        Raises `BadAudio` (not audio, nothing in it, a codec, rate or channel count not taken, slower than the pool's
        `timeout_s`), `BufferLimit` (longer than `max_s`: decoding stops there), `Overloaded` (no process free in time).
        Cancelling kills the process at work; another takes its place.
        """
        child = await self._take()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._in_thread(child.decode, data, max_s, rate_hz, math.ceil(self._timeout_s))
        except TimeoutError:
            raise BadAudio(f"The audio could not be decoded within {self._timeout_s:g} s.") from None
        except _ChildDied:
            self._deaths_in_a_row += 1
            logger.warning("A decoder process died on %d bytes of audio", len(data))
            raise BadAudio("The audio made its decoder fail; record or export it again.") from None
        finally:
            self._give_back(child)

    async def recognise(self, data: bytes) -> None:
        """Raises `BadAudio` for what is no audio file that `decode` takes: it looks at the beginning. `Overloaded`."""
        with suppress(BufferLimit):
            await self.decode(data, max_s=_BEGINNING_S)

    async def aclose(self) -> None:
        """End every process; a decode in flight gets `BadAudio`. Idempotent."""
        self._closing.set()
        for child in tuple(self._children):  # a thread may add one just now, and kills it itself
            child.kill()
        await asyncio.gather(*self._replacing)
        await asyncio.gather(*(self._in_thread(child.bury) for child in self._children))
        self._children.clear()
        self._threads.shutdown()

    async def _take(self) -> _Child:
        if self._closing.is_set() or self._waiting >= MAX_WAITING_PER_CHILD * self._size:
            raise Overloaded("The audio decoders have too much to do; try again in a moment.")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                while not (child := await self._idle.get()).is_alive():
                    self._replace(child)
        except TimeoutError:
            raise Overloaded(f"No audio decoder became free within {self._timeout_s:g} s; try again.") from None
        finally:
            self._waiting -= 1
        child.busy = True
        return child

    def _give_back(self, child: _Child) -> None:
        if child.busy:
            child.kill()
        else:
            self._deaths_in_a_row = 0
        if child.busy or child.jobs >= MAX_JOBS_PER_CHILD:
            self._replace(child)
        else:
            self._idle.put_nowait(child)

    def _replace(self, child: _Child | None) -> None:
        """In the background: bury `child` and start another."""
        if self._closing.is_set():
            return  # `aclose` buries what is left
        task = asyncio.create_task(self._start_another(child), name="decoder-start")
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _start_another(self, dead: _Child | None) -> None:
        if dead:
            await self._in_thread(self._bury, dead)
        while not self._closing.is_set():
            await self._back_off()
            try:
                self._idle.put_nowait(await self._in_thread(self._warm_child))
                return
            except (OSError, _ChildDied) as error:
                self._deaths_in_a_row += 1
                logger.error("A decoder process could not be started: %r", error)

    async def _back_off(self) -> None:
        if self._deaths_in_a_row < 2:
            return
        pause_s = min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** (self._deaths_in_a_row - 2))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), pause_s)

    def _warm_child(self) -> _Child:
        child = _Child(self._memory_bytes)
        self._children.add(child)
        if self._closing.is_set():
            child.kill()  # `aclose` came before this one was known
        try:
            child.wait_until_ready()
        except _ChildDied:
            self._bury(child)
            raise
        return child

    def _bury(self, child: _Child) -> None:
        child.bury()
        self._children.discard(child)

    async def _in_thread(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))
