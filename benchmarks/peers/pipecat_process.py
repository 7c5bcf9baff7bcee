"""Pipecat as another process, in an environment of its own: make the one, start and stop the other.

Told AVATAR's own prompt, answer length and folder of weights.
"""

import asyncio
import os
import subprocess
import tempfile
import time
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

from benchmarks.peers.pipecat_caller import PipecatCaller
from tests.load.caller import CallFailed
from tests.load.server import START_TIMEOUT_S, STOP_TIMEOUT_S, _free_port

from avatar import settings

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"


def python_with_pipecat() -> Path:
    """The interpreter of an environment with `requirements.txt`, made if there is none. Raises `CalledProcessError`
    if a package cannot be had."""
    python = ENVIRONMENT / "bin/python"
    done = ENVIRONMENT / "done"
    if not done.exists():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
        done.touch()
    return python


@asynccontextmanager
async def running_pipecat(python: Path, *arguments: str) -> AsyncIterator[tuple[str, int]]:
    """Start `pipecat_server.py` on a free port; stop it at the end.

    Gives the address of its WebSocket and its process id once a session can begin. Raises `RuntimeError` with the end
    of its log if it does not start.
    """
    port = _free_port()
    command = [str(python), str(HERE / "pipecat_server.py"), *_as_avatar(), "--port", str(port), *arguments]
    with tempfile.TemporaryFile("w+") as log:
        process = await asyncio.to_thread(_start, command, log)
        url = f"ws://127.0.0.1:{port}/ws"
        try:
            if not await _ready(url, process):
                log.seek(0)
                raise RuntimeError("Pipecat did not start:\n" + log.read()[-4000:])
            yield url, process.pid
        finally:
            await asyncio.to_thread(_stop, process)


def _start(command: list[str], log: IO[str]) -> "subprocess.Popen[bytes]":
    environment = {"PYTHONPATH": str(HERE.parents[1] / "src"), "LOGURU_LEVEL": "WARNING"}
    return subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
    )


def _as_avatar() -> list[str]:
    ours = settings.load()
    talk = ours.conversation
    return [
        *("--models", str(ours.models_dir), "--instructions", talk.instructions),
        *("--max-tokens", str(talk.max_reply_tokens)),
    ]


async def _ready(url: str, process: "subprocess.Popen[bytes]") -> bool:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with suppress(CallFailed):
            async with PipecatCaller(url):
                return True
        await asyncio.sleep(0.5)
    return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
