"""The suite of `benchmarks/qwen3_gpu.py`, in small: every part says what it found, and one that fails ends no other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avatar.engines.tts.qwen3 import bench, parity, suite
from avatar.engines.tts.qwen3.kernels import Kernels
from avatar.engines.tts.qwen3.operations import Operations, swiglu
from avatar.engines.tts.qwen3.suite import Setting
from tests.unit.qwen3.conftest import GOLDEN_DIR

ROOT = Path(__file__).parents[3]
HERE = Setting(GOLDEN_DIR, torch.device("cpu"))


def command(out: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, str(ROOT / "benchmarks/qwen3_gpu.py"), "--device", "cpu", "--out", str(out), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_writes_what_each_part_found(tmp_path: Path) -> None:
    ran = command(tmp_path, "--only", "kernels-torch")
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "qwen3.json").read_text(encoding="utf-8"))
    assert found["machine"]["torch"] == torch.__version__
    assert list(found["parts"]) == ["kernels-torch"]
    first, flash = found["parts"]["kernels-torch"]["rows"]
    assert (first["kernels"], flash["not here"]) == ("torch with SDPA", "no GPU")
    assert first["ms, 1"] > 0
    page = (tmp_path / "qwen3.md").read_text(encoding="utf-8")
    assert "## kernels-torch" in page
    assert "| torch with FlashAttention |" in page


def test_a_part_that_fails_says_why_and_the_next_one_runs(tmp_path: Path) -> None:
    ran = command(tmp_path, "--model", str(tmp_path / "nowhere"), "--only", "fp8,codec")
    assert ran.returncode == 1
    parts = json.loads((tmp_path / "qwen3.json").read_text(encoding="utf-8"))["parts"]
    assert list(parts) == ["fp8", "codec"]
    assert all("nowhere" in part["failed"] for part in parts.values())
    assert "**Failed:** CheckpointError" in (tmp_path / "qwen3.md").read_text(encoding="utf-8")


def test_kernels_that_speak_otherwise_do_not_hold() -> None:
    model = HERE.checkpoint()

    def speak(kernels: Kernels) -> parity.Spoken:
        return suite._speak(HERE, "custom", model, kernels, graphs=False)

    eager = speak(Kernels())
    wrong = Kernels(Operations(swiglu=lambda x: 1.5 * swiglu(x)))
    assert suite._compared("same", lambda: eager, eager)["holds"] == "yes"
    row = suite._compared("wrong", lambda: speak(wrong), eager)
    assert row["holds"] == suite._agrees("wrong", model, wrong)["holds"] == "NO"
    assert suite.has_failed({"rows": [row]})

    def breaks() -> None:
        raise RuntimeError("no kernel image")

    assert suite._compared("broken", breaks, eager)["found"] == "RuntimeError: no kernel image"  # type: ignore[arg-type]


def test_the_issues_table_is_read_off_the_findings() -> None:
    levels: list[bench.Row] = [
        {
            "streams": n,
            "first p50 ms": 20.0,
            "first p95 ms": 3.0 * n,
            "cancel p95 ms": 4.0,
            "streams with an underrun": n > 40,
        }
        for n in (1, 16, 32, 64)
    ]
    findings = bench.Findings(
        machine={}, engine="", load_s=3.0, start_s=30.0, capture_s=9.0, floor_gb_per_frame=3.3, plan=bench.Plan(),
        throughput=[{"streams": 1, "RTF": 0.5, "ms a tick": 4.1}], streams=levels,
    )  # fmt: skip
    table = bench.verdict(findings)
    reached = {name: row.get("reached") for name, row in table.items()}
    assert list(reached.values()) == ["aim", "aim", "aim", "neither", "must", None, "must"]
    assert table["streams in real time with no underrun"]["found"] == 32
    findings.streams = []
    assert bench.verdict(findings)["the same, p95 ms"]["found"] == "not measured"


@pytest.mark.parametrize("part", ["parity-fp32", "codec"])
def test_a_part_on_the_tiny_model(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes long to compile."""
    monkeypatch.setattr(suite, "_others", lambda *_: iter(()))
    monkeypatch.setattr("avatar.engines.tts.qwen3.variants.compiled", Operations)
    rows = list(suite.PARTS[part](HERE))
    assert len(rows) == 2
    assert not suite.has_failed({"rows": rows})
    assert not any("failed" in row for row in rows)


def test_speed_ends_with_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bench.Plan(streams=(1,), audio_s=0.2, spread_s=0, probes=1, rtf_frames=2, arrivals_hz=())
    monkeypatch.setattr(bench, "SMALL", plan)
    page, *table = suite.PARTS["speed"](HERE)
    assert "At full speed" in page["page"]
    assert len(table) == 7
