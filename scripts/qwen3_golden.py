"""Run a golden set of Qwen3-TTS through the engine: write every output, and say where it differs from the official one.

    python scripts/qwen3_golden.py SET_DIR --out FILE.npz [--compare]

SET_DIR is laid out like `tests/data/qwen3`. With `--compare` its `golden.npz` is held against what was made, and the
decoder is streamed in random pieces as well; any difference beyond its bound is printed and the exit status is 1. A
folder that is no set is refused with status 2.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.qwen3.golden_cases import (
    Arrays,
    GoldenModel,
    GoldenSetError,
    differences,
    golden_outputs,
    largest_difference,
    read_golden,
)

CHUNKINGS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set_dir", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="where the outputs go, by the names of golden.npz")
    parser.add_argument("--compare", action="store_true", help="with SET_DIR/golden.npz")
    options = parser.parse_args()
    torch.set_num_threads(1)  # tiny models are faster on one
    try:
        if options.compare and not read_golden(options.set_dir):
            raise GoldenSetError(f"There is nothing to compare with: {options.set_dir} has no golden.npz.")
        made: dict[str, Any] = golden_outputs(options.set_dir)
    except (CheckpointError, GoldenSetError) as error:
        print(error)
        return 2
    np.savez_compressed(options.out, **made)
    print(f"{len(made)} outputs written to {options.out}")
    return report(options.set_dir, made) if options.compare else 0


def report(set_dir: Path, made: Arrays) -> int:
    golden = read_golden(set_dir)
    for last in ("codes", "speaker", "wav_first_10_frames", "every_11th_sample_f64"):
        pairs = [(made[name], golden[name]) for name in golden if name.endswith(f".{last}") and name in made]
        pairs = [(ours, theirs) for ours, theirs in pairs if ours.shape == theirs.shape]
        off = max((largest_difference(ours, theirs) for ours, theirs in pairs), default=0.0)
        print(f"{last}: {len(pairs)} compared, largest difference {off:.3g}")
    found = [*differences(made, golden), *streamed_differences(set_dir, made)]
    print("\n".join(found) if found else "all outputs within their bounds")
    return 1 if found else 0


def streamed_differences(set_dir: Path, made: Arrays) -> Iterator[str]:
    for model in GoldenModel.load_all(set_dir):
        whole = f"{model.kind}.decoder.every_11th_sample_f64"
        for seed in range(CHUNKINGS):
            streamed = model.streamed_decoder_samples(made[f"{model.kind}.decoder.codes"], seed)
            for line in differences({whole: streamed}, {whole: made[whole]}):
                yield f"streamed in pieces (seed {seed}), {line}"


if __name__ == "__main__":
    sys.exit(main())
