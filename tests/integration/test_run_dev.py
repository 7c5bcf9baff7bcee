"""Serving for work on AVATAR: the same guards and limits as ever, and a proxy for all that the page asks for."""

import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import run_dev
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from tests.integration.test_command_line import environment

Popen = subprocess.Popen[str]
WEB = Path(run_dev.__file__).parent / "web"


@contextmanager
def api(
    folder: Path, host: str, port: int, monkeypatch: pytest.MonkeyPatch, models: Path | None = None
) -> Iterator[Popen]:
    """What `run_dev.py` runs as the API."""
    for name, value in environment(folder, models).items():
        monkeypatch.setenv(name, value)
    process = subprocess.Popen(
        run_dev.API,
        env=run_dev.environment(host, str(port)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            run_dev.stop(process)


def test_an_address_that_others_reach_is_refused_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with api(tmp_path, "0.0.0.0", 0, monkeypatch) as process:
        _, complaint = process.communicate(timeout=50)
    assert process.returncode == 1
    assert "Anybody who reaches 0.0.0.0 could listen and talk. Set a key" in complaint


@pytest.mark.weights
def test_messages_have_the_bound_of_the_settings(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with api(tmp_path, "127.0.0.1", port, monkeypatch, models_dir):
        deadline_s = time.monotonic() + 50
        while not _is_ready(port):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        with connect(f"ws://127.0.0.1:{port}/ws/chat", open_timeout=50, compression=None) as chat:
            chat.send("x" * (2 << 20))
            with pytest.raises(ConnectionClosed) as closed:
                _read_all(chat)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def _is_ready(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
        return True
    return False


def _read_all(chat: Connection) -> None:
    while True:
        chat.recv(timeout=10)


def test_the_proxy_passes_on_what_the_page_asks_for() -> None:
    config = (WEB / "vite.config.js").read_text()
    (listed,) = re.findall(r"const paths = \[(.*)\]", config)
    proxied = tuple(re.findall(r'"(.*?)"', listed))
    code = [path.read_text() for path in (WEB / "src").rglob("*.ts*") if ".test." not in path.name]
    asked = {path for text in code for path in re.findall(r"[\"`](/[a-z][\w-]*/[\w/-]+)", text)}
    assert {"/ws/chat", "/v1/voices", "/api/engines"} <= asked
    assert not [path for path in asked if not path.startswith(proxied)]
