"""Parity and speed of the Qwen3-TTS engine on this machine, in one command; made for a GPU, and in small for a CPU.

    python benchmarks/qwen3_gpu.py [--model DIR | --size 0.6b|1.7b] [--small] [--only PART,...] [--out DIR]

Needs torch, safetensors, tokenizers and numpy, and this checkout; AVATAR need not be installed. Without a model it
makes one of full size with random weights (2.5 GB on disk for 0.6b). Each part runs in a process of its own, so that a
part that fails, or that kills the device's context, says so and leaves the others alone. `qwen3.json` and `qwen3.md`
are written after each part. The exit status is 1 if a part failed or parity does not hold. Takes twenty minutes on a
GPU; `--small` (the default without one) two.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402

from avatar.engines.tts.qwen3 import bench, suite  # noqa: E402
from avatar.engines.tts.qwen3.made import make_model  # noqa: E402

GOLDENS = ROOT / "tests/data/qwen3"
PART_TIMEOUT_S = 1800.0


def main() -> int:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        return _run_part(options)
    found: dict[str, Any] = {"machine": bench.machine(), "parts": {}}
    with tempfile.TemporaryDirectory(dir=options.out) as scratch:
        wanted = options.only or list(suite.PARTS)
        if options.model is None and not options.small and not set(wanted) <= suite.WITHOUT_MODEL:
            print(f"Making random weights of full size ({options.size})", flush=True)
            options.model = make_model(Path(scratch), options.size)
        for part in wanted:
            print(f"\n--- {part}", flush=True)
            found["parts"][part] = _in_a_process(part, options, Path(scratch) / "part.json")
            (options.out / "qwen3.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
            (options.out / "qwen3.md").write_text(suite.as_markdown(found), encoding="utf-8")
    print(f"\n{suite.as_markdown(found)}")
    return int(any(suite.has_failed(part) for part in found["parts"].values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder as the official models come")
    parser.add_argument("--size", choices=("0.6b", "1.7b"), default="0.6b", help="of the random model")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--small", action="store_true", help="the tiny golden model and a few seconds")
    parser.add_argument("--only", type=_parts, help=f"some of {','.join(suite.PARTS)}")
    parser.add_argument("--streams", type=_numbers, help="levels of the speed part; default: up to 128")
    parser.add_argument("--audio-s", type=float, default=bench.Plan.audio_s, help="of each stream in real time")
    parser.add_argument("--kernels", choices=("auto", "torch", "compiled", "triton"), default="auto")
    parser.add_argument("--attention", choices=("auto", "sdpa", "flash", "triton"), default="auto")
    parser.add_argument("--fp8", action="store_true", help="the speed part with layers in 8 bits")
    parser.add_argument("--out", type=Path, default=Path("qwen3-results"))
    parser.add_argument("--part", choices=tuple(suite.PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--part-out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.small |= options.device == "cpu" and options.model is None
    return options


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - suite.PARTS.keys()):
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(suite.PARTS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _in_a_process(part: str, options: argparse.Namespace, file: Path) -> dict[str, Any]:
    file.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--part", part, "--part-out", file, "--device", options.device]
    command += ["--size", options.size, "--audio-s", str(options.audio_s), "--out", options.out]
    command += ["--kernels", options.kernels, "--attention", options.attention]
    command += ["--small"] * options.small + ["--fp8"] * options.fp8
    command += ["--model", options.model] if options.model else []
    command += ["--streams", ",".join(map(str, options.streams))] if options.streams else []
    try:
        status = subprocess.run(command, timeout=PART_TIMEOUT_S, check=False).returncode
    except subprocess.TimeoutExpired:
        return {"failed": f"it took more than {PART_TIMEOUT_S:.0f} s"}
    if not file.exists():
        return {"failed": f"its process ended with status {status}"}
    written: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return written


def _run_part(options: argparse.Namespace) -> int:
    """In the part's own process. What was found is written row by row: a crash loses only what comes after it."""
    rows: list[dict[str, Any]] = []
    written: dict[str, Any] = {"failed": "its process did not come to an end", "rows": rows}

    def write() -> None:
        options.part_out.write_text(json.dumps(written), encoding="utf-8")

    setting = suite.Setting(
        goldens=GOLDENS,
        device=torch.device(options.device),
        model=None if options.small else options.model,
        streams=options.streams,
        audio_s=options.audio_s,
        kernels=options.kernels,
        attention=options.attention,
        fp8=options.fp8,
        say=partial(print, flush=True),
    )
    run: Callable[[suite.Setting], Iterator[dict[str, Any]]] = suite.PARTS[options.part]
    write()
    try:
        for row in run(setting):
            rows.append(row)
            print(row, flush=True)
            write()
        del written["failed"]
    except Exception as error:  # whatever it is, it is a finding; the other parts go on
        traceback.print_exc()
        written["failed"] = f"{type(error).__name__}: {error}"
    write()
    return int("failed" in written)


if __name__ == "__main__":
    sys.exit(main())
