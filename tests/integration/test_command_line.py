"""`avatar doctor` and `avatar serve` as a user starts them: a process of their own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tiny_f5 import make_weights

AVATAR = [sys.executable, "-c", "from avatar.cli import main; main()"]


def environment(folder: Path, models: Path | None = None, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AVATAR_")}
    models_dir = str(models or folder / "none")
    return {**kept, "AVATAR_MODELS_DIR": models_dir, "AVATAR_DATA_DIR": str(folder / "data"), "COLUMNS": "200", **more}


def run(folder: Path, *arguments: str, models: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*AVATAR, *arguments], env=environment(folder, models, **more), capture_output=True, text=True, timeout=50
    )


def test_doctor_without_weights_says_what_to_do(tmp_path: Path) -> None:
    result = run(tmp_path, "doctor")
    assert result.returncode == 1
    for key in ("moonshine-tiny-en", "smollm2-135m-instruct", "smart-turn-v3"):
        assert f"avatar models fetch {key}" in result.stdout
    assert "espeak-ng (" in result.stdout


def test_doctor_tells_what_the_licence_of_weights_asks(tmp_path: Path) -> None:
    make_weights(tmp_path / "models" / "f5-tts-v1-base")
    result = run(tmp_path, "doctor", models=tmp_path / "models", AVATAR_TTS__ENGINE="f5-tts")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("tts: ")]
    assert line.startswith("tts: f5-tts (asked for in the settings; weights f5-tts-v1-base; CC BY-NC 4.0 ")
    assert "not for commercial use" in line


@pytest.mark.weights
def test_doctor_tells_the_choice_and_the_reasons_against_the_others(tmp_path: Path, models_dir: Path) -> None:
    result = run(tmp_path, "doctor", models=models_dir)
    assert "llm: llama.cpp (" in result.stdout
    assert "not openai: `llm.base_url` is not set" in result.stdout
    assert "not vllm: " in result.stdout


def test_serving_without_weights_stops_with_reasons(tmp_path: Path) -> None:
    result = run(tmp_path, "serve", "--port", "0")
    assert result.returncode == 1
    assert "No engine can serve stt" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_setting_stops_with_its_name(tmp_path: Path) -> None:
    result = run(tmp_path, "serve", AVATAR_SERVER__PROT="1")
    assert result.returncode == 1
    assert "AVATAR_SERVER__PROT" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.weights
def test_a_port_in_use_is_said(tmp_path: Path, models_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run(tmp_path, "serve", "--port", str(taken.getsockname()[1]), models=models_dir)
    assert result.returncode == 1
    assert "--port" in result.stderr


@contextmanager
def started(folder: Path, models: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A server process and its address."""
    process = subprocess.Popen(
        [*AVATAR, "serve", "--port", "0"], env=environment(folder, models), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if match := re.search(r"http://\S+", line):
                break
        else:
            pytest.fail("the server did not start:\n" + "".join(lines))
        yield match.group(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.weights
def test_a_server_gets_ready_and_stops_cleanly(tmp_path: Path, models_dir: Path) -> None:
    with started(tmp_path, models_dir) as (url, process):
        deadline = time.monotonic() + 30
        while not ready(url):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with urllib.request.urlopen(url, timeout=5) as page:
            assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
