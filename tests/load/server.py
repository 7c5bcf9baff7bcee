"""A real AVATAR server as another process: start it, stop it, and watch what it uses."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.load.caller import Caller, CallFailed

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0


@asynccontextmanager
async def running_server(sessions: int) -> AsyncIterator[tuple[str, int]]:
    """Start `run_server.py` for `sessions` callers on a free port of this machine, with a data folder of its own.

    Gives the address of `/ws/chat` and the process id once a session can begin; stops the server at the end. Other
    settings come from the environment. Raises `RuntimeError` with the end of the server's log if it does not start.
    """
    with tempfile.TemporaryDirectory() as data_dir:
        log = Path(data_dir, "server.log")
        port = _free_port()
        process = await asyncio.to_thread(_start, Path(data_dir), log, port, sessions)
        try:
            url = f"ws://127.0.0.1:{port}/ws/chat"
            await _until_ready(url, process, log)
            yield url, process.pid
        finally:
            await asyncio.to_thread(_stop, process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(data_dir: Path, log: Path, port: int, sessions: int) -> subprocess.Popen[bytes]:
    environment = {"AVATAR_ADMISSION__MAX_SESSIONS": str(sessions)} | os.environ
    environment |= {"AVATAR_SERVER__PORT": str(port), "AVATAR_DATA_DIR": str(data_dir)}
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run_server.py")],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


async def _until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(CallFailed):
            async with Caller(url):
                return
        await asyncio.sleep(0.5)
    text = await asyncio.to_thread(log.read_text, errors="replace")
    raise RuntimeError("The server did not start:\n" + text[-4000:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Usage:
    """What the server and its children used at one moment; `cpu_percent` counts one core as 100."""

    at_s: float
    rss_bytes: int
    cpu_percent: float


class Watch:
    """Samples the memory and CPU time of a process and its children while it is open."""

    def __init__(self, pid: int, every_s: float = 0.5) -> None:
        self._process = psutil.Process(pid)
        self._every_s = every_s
        self._cpu_s: dict[int, float] = {}
        self.samples: list[Usage] = []

    async def __aenter__(self) -> Self:
        self._started_s = self._sampled_s = time.monotonic()
        self._sample()
        self.samples.clear()  # it has no time before it to count
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def rss_bytes(self) -> int:
        """What it takes now."""
        return sum(rss for _, rss, _ in self._processes())

    async def _run(self) -> None:
        while self._process.is_running():
            await asyncio.sleep(self._every_s)
            self._sample()

    def _sample(self) -> None:
        now_s, used_s, rss_bytes = time.monotonic(), 0.0, 0
        for pid, rss, cpu_s in self._processes():
            used_s += cpu_s - self._cpu_s.get(pid, 0.0)
            self._cpu_s[pid] = cpu_s
            rss_bytes += rss
        elapsed_s = max(now_s - self._sampled_s, 1e-3)
        self._sampled_s = now_s
        self.samples.append(Usage(now_s - self._started_s, rss_bytes, 100 * used_s / elapsed_s))

    def _processes(self) -> list[tuple[int, int, float]]:
        """Process id, resident bytes and CPU seconds of each process of the family that still lives."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in (self._process, *self._process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    found.append((process.pid, process.memory_info().rss, times.user + times.system))
        return found
