"""Parity and speed of the Qwen3-TTS engine on this machine, in one command; made for a GPU, and in small for a CPU.

    python benchmarks/qwen3_gpu.py [--model DIR | --size 0.6b|1.7b] [--small] [--out DIR]

Needs torch, safetensors, tokenizers and numpy, and this checkout; AVATAR need not be installed. Without a model it
makes one of full size with random weights (2.5 GB on disk for 0.6b). Writes `qwen3.json` and `qwen3.md`. The exit
status is 1 if parity fails. Takes a quarter of an hour on a GPU; `--small` (the default without one) two minutes.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from avatar.engines.tts.qwen3 import bench, golden_cases, parity  # noqa: E402
from avatar.engines.tts.qwen3.backends import choose_attention  # noqa: E402
from avatar.engines.tts.qwen3.engine import Engine, Options  # noqa: E402
from avatar.engines.tts.qwen3.graphs import Runner  # noqa: E402
from avatar.engines.tts.qwen3.made import make_model  # noqa: E402
from avatar.engines.tts.qwen3.scheduler import BUCKETS  # noqa: E402
from avatar.engines.tts.qwen3.ticks import Limits  # noqa: E402

GOLDENS = ROOT / "tests/data/qwen3"
GPU_WAV_BOUND = 1e-4
"""Of float32 on another kind of processor than the goldens were made on; on the CPU it is the goldens' own 2e-6."""
SMALL_LIMITS = Limits(slots=8, max_positions=512, contexts=())

Check = tuple[str, bool, str]
"""(what was held against what, whether it holds, what was found)"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder as the official models come")
    parser.add_argument("--size", choices=("0.6b", "1.7b"), default="0.6b", help="of the random model")
    parser.add_argument("--small", action="store_true", help="the tiny golden model and a few seconds")
    parser.add_argument("--only", choices=("parity", "speed"))
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--audio-s", type=float, default=bench.Plan.audio_s, help="of each stream in real time")
    parser.add_argument("--out", type=Path, default=Path("qwen3-results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found: dict[str, Any] = {"machine": bench.machine()}
    page = "# Qwen3-TTS\n\n"
    failed = 0
    if options.only != "speed":
        checks = []
        for check in check_parity(device):
            checks.append(check)
            print(f"{'ok  ' if check[1] else 'FAIL'} {check[0]}: {check[2]}", flush=True)
        failed = sum(not holds for _, holds, _ in checks)
        found["parity"] = checks
        page += "| parity | holds | found |\n|---|---|---|\n" + "".join(
            f"| {what} | {'yes' if holds else '**no**'} | {seen} |\n" for what, holds, seen in checks
        )
    if options.only != "parity":
        findings = measure(options, device)
        found["speed"] = findings.as_json()
        page += f"\n{bench.as_markdown(findings)}"
    (options.out / "qwen3.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    (options.out / "qwen3.md").write_text(page, encoding="utf-8")
    print(page)
    return int(failed > 0)


# --- parity ----------------------------------------------------------------------------------------------------------


def check_parity(device: torch.device) -> Iterator[Check]:
    """Everything that must be equal, on the CPU and on this device."""
    golden = golden_cases.read_golden(GOLDENS)
    off = list(golden_cases.differences(golden_cases.golden_outputs(GOLDENS), golden))
    yield "the model's parts on the CPU, float32, against the official package", not off, "; ".join(off) or "equal"
    bound = GPU_WAV_BOUND if device.type == "cuda" else golden_cases.BOUNDS["wav_first_10_frames"]
    for dtype in (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,):
        for kind, checkpoint in parity.golden_checkpoints(GOLDENS, device, dtype).items():
            name = f"{kind}, {str(dtype).removeprefix('torch.')} on {device.type}"
            with parity.exactly(device):
                eager = parity.speak_cases(GOLDENS, kind, checkpoint, Runner(device, graphs=False))
                graphed = parity.speak_cases(GOLDENS, kind, checkpoint, Runner(device))
            if dtype == torch.float32:
                rows = list(parity.differences(eager, golden))
                wrong, far = sum(row[1] for row in rows), max(row[2] for row in rows)
                what = f"{name}: the tick loop against the official package"
                yield what, not wrong and far <= bound, f"{wrong} codes differ, audio within {far:.2g}"
            if device.type == "cuda":
                yield compare(f"{name}: CUDA graphs against eager", graphed, eager)
            if device.type == "cuda" and dtype == torch.float32:
                with parity.exactly(device, tf32=True):
                    rounded = parity.speak_cases(GOLDENS, kind, checkpoint, Runner(device))
                yield (
                    f"{name}: TF32 convolutions (for information)",
                    True,
                    f"{snr_db(rounded, eager):.0f} dB from float32",
                )
    yield "attention (for information)", True, choose_attention("auto", device, torch.bfloat16)[1]


def compare(what: str, ours: parity.Spoken, theirs: parity.Spoken) -> Check:
    codes = sum(
        int((ours[name][0].shape != theirs[name][0].shape) or (ours[name][0] != theirs[name][0]).sum())
        for name in theirs
    )
    sizes = {name: min(len(ours[name][1]), len(theirs[name][1])) for name in theirs}
    far = max(golden_cases.largest_difference(ours[n][1][:size], theirs[n][1][:size]) for n, size in sizes.items())
    return what, codes == 0 and far <= GPU_WAV_BOUND, f"{codes} codes differ, audio within {far:.2g}"


def snr_db(ours: parity.Spoken, theirs: parity.Spoken) -> float:
    """Of the audio, over all cases whose codes are the same."""
    same = [name for name in theirs if np.array_equal(ours[name][0], theirs[name][0])]
    signal = sum(float((theirs[name][1].astype(np.float64) ** 2).sum()) for name in same)
    noise = sum(float(((ours[name][1].astype(np.float64) - theirs[name][1]) ** 2).sum()) for name in same)
    return 10 * float(np.log10(signal / max(noise, 1e-30)))


# --- speed -----------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, device: torch.device) -> bench.Findings:
    small = options.small or (device.type == "cpu" and options.model is None)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with tempfile.TemporaryDirectory(dir=options.out) as scratch:
        if small:
            checkpoint = parity.golden_checkpoints(GOLDENS, device, dtype)["custom"]
            engine, load_s, plan = Engine(checkpoint, Options(SMALL_LIMITS)), 0.0, bench.SMALL
        else:
            folder = options.model or make_model(Path(scratch), options.size)
            buckets = BUCKETS if options.slots <= BUCKETS[-1] else (*BUCKETS, 96, 128)
            limits = Limits(slots=options.slots, buckets=buckets)
            engine, load_s = bench.load(folder, Options(limits), device, dtype)
            levels = (*bench.Plan.streams, 96, 128)
            streams = tuple(level for level in levels if level <= options.slots)
            plan = dataclasses.replace(bench.Plan(), streams=streams, audio_s=options.audio_s)
        return asyncio.run(bench.measure(engine, load_s, plan, lambda line: print(line, flush=True)))


if __name__ == "__main__":
    sys.exit(main())
