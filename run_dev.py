#!/usr/bin/env python3
"""Serve a checkout for work on it: the API with reload, and the page with Vite on port 5173, until Ctrl-C."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.setup import SetupFailed, ensure, enter_venv

ROOT = Path(__file__).resolve().parent
API = [sys.executable, "-c", "from avatar.cli.serving import serve_reloading; serve_reloading()"]
PAGE = "http://127.0.0.1:5173"  # as web/vite.config.js has it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the API's address")
    parser.add_argument("--port", default="8000", help="the API's port")
    options = parser.parse_args()
    servers = [
        subprocess.Popen(command, cwd=folder, env=environment(options.host, options.port), start_new_session=True)
        for command, folder in ((API, ROOT), (["npm", "run", "dev"], ROOT / "web"))
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while all(server.poll() is None for server in servers):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        for server in servers:
            stop(server)


def environment(host: str, port: str) -> dict[str, str]:
    """Where the API listens is a setting like any other: what guards it must know."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # set-up may have put Node there
        "DEV_API": f"http://{host}:{port}",  # for Vite's proxy
        "AVATAR_SERVER__HOST": host,
        "AVATAR_SERVER__PORT": port,
        "AVATAR_SERVER__ALLOWED_ORIGINS": json.dumps([PAGE]),
    }


def stop(server: "subprocess.Popen[Any]") -> None:
    """End a server and what it started: npm and uvicorn's reloader do not hand signals on reliably."""
    for ending in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(server.pid, ending)
            server.wait(timeout=10)


if __name__ == "__main__":
    try:
        ensure(dev=True, only=("venv", "web", "weights"))
    except SetupFailed as failure:
        sys.exit(f"Set-up stopped: {failure}")
    enter_venv()
    main()
