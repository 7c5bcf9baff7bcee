"""The load test as it is run, against a server whose delays are known."""

import asyncio
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_test

from tests.load.fake_server import FakeServer, serving
from tests.load.server import Usage, Watch


@pytest.fixture
def speech_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(22_050) / 44_100)
    soundfile.write(folder / "half-a-second.wav", np.stack([tone, tone], axis=1), 44_100)
    return folder


async def perform(server: FakeServer, speech_dir: Path, *arguments: str) -> int:
    """In a thread of its own, as a program is; with the options every test needs."""
    all_arguments = [*arguments, "--url", server.url, "--speech", str(speech_dir), "--interval", "1.2"]
    return await asyncio.to_thread(load_test.main, all_arguments)


async def test_callers_talk_and_a_report_is_written(speech_dir: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "load.json", tmp_path / "load.html"
    async with serving(FakeServer(think_ms=60)) as server:
        code = await perform(
            server,
            speech_dir,
            *("--callers", "2", "--seconds", "2", "--json", str(out), "--html", str(page)),
            *("--max-v2v-p50-ms", "500", "--server-pid", str(os.getpid())),
        )

    result = json.loads(out.read_text())
    assert code == 0, result["failures"]
    assert result["questions"] == result["answered"] >= 3
    assert 285 < result["latency_ms"]["voice_to_voice"]["p50"] < 400
    assert result["latency_ms"]["llm_ttft"]["p50"] == 12.0
    assert result["server"]["rss_bytes"]["max"] > 1e7
    assert "passed" in page.read_text()


async def test_a_limit_exceeded_is_the_exit_code(speech_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(FakeServer(error="ENGINE_FAILED")) as server:
        assert await perform(server, speech_dir, "--callers", "1", "--seconds", "0.5") == 1

    assert "ENGINE_FAILED 1" in capsys.readouterr().out


async def test_callers_who_are_refused_are_counted(speech_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(FakeServer(refuse="SERVER_FULL")) as server:
        assert await perform(server, speech_dir, "--callers", "3", "--seconds", "0.5") == 1

    assert "SERVER_FULL 3" in capsys.readouterr().out


async def test_listening_sessions_have_a_price(
    speech_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_test, "SETTLE_S", 1.0)
    out = tmp_path / "load.json"
    async with serving(FakeServer()) as server:
        code = await perform(
            server,
            speech_dir,
            *("--listen", "--callers", "4", "--seconds", "1", "--server-pid", str(os.getpid()), "--json", str(out)),
        )

    assert code == 0
    assert json.loads(out.read_text())["per_session"]["sessions"] == 4
    assert len(server.binary) == pytest.approx(4 * 50 * 2, abs=60)


async def test_churn_counts_rounds(speech_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    async with serving(FakeServer()) as server:
        arguments = ("--churn", "2", "--callers", "2", "--server-pid", str(os.getpid()), "--json", str(out))
        assert await perform(server, speech_dir, *arguments) == 0

    result = json.loads(out.read_text())
    assert result["answered"] == 4
    assert len(result["churn"]["rss_bytes_after_round"]) == 2


async def test_a_folder_without_speech_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(FakeServer()) as server:
        assert await perform(server, tmp_path) == 2

    assert "no .wav file" in capsys.readouterr().err


BUSY_CHILD = """
import sys, time
data = bytearray(200_000_000)
while time.process_time() < 1: pass
print("done", flush=True)
sys.stdin.read()
"""


async def test_a_watch_sees_work_and_memory_of_children() -> None:
    async with Watch(os.getpid(), every_s=0.1) as watch:
        before = watch.rss_bytes()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BUSY_CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout
        await process.stdout.readline()
        during = watch.rss_bytes()
        await asyncio.sleep(0.3)
        await process.communicate(b"")

    pairs = itertools.pairwise([Usage(0.0, 0, 0.0), *watch.samples])
    cpu_s = sum(sample.cpu_percent / 100 * (sample.at_s - earlier.at_s) for earlier, sample in pairs)
    assert during - before > 150_000_000
    assert cpu_s > 0.95
