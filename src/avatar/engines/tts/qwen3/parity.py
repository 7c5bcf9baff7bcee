"""The engine held against a golden set where it runs: on this device, through the tick loop, with graphs and without.

`golden_cases` does the same for the model's parts on the CPU.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR, Checkpoint, assemble
from avatar.engines.tts.qwen3.golden_cases import GREEDY, LOUDNESS, largest_difference
from avatar.engines.tts.qwen3.goldens import made_weights
from avatar.engines.tts.qwen3.graphs import Runner
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.speech import Event, Finished, Mode, Packet, Request
from avatar.engines.tts.qwen3.ticks import Limits, Ticks
from avatar.engines.tts.qwen3.voices import Clone, clone

Spoken = dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]
"""Codes[T, 16] and audio by the case's name."""

LIMITS = Limits(slots=24, max_positions=256, buckets=(24,), contexts=())


def golden_checkpoints(
    set_dir: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Checkpoint]:
    """The models of a set, with their weights made, on a device."""
    salt = json.loads((set_dir / "golden.json").read_text(encoding="utf-8"))["set"]["salt"]
    found = {}
    for folder in sorted(path.parent for path in set_dir.glob("*/config.json")):
        names = [json.loads((folder / part / "tensors.json").read_text("utf-8")) for part in (".", CODEC_DIR)]
        model, codec = ({n: torch.from_numpy(array) for n, array in made_weights(some, salt).items()} for some in names)
        found[folder.name] = assemble(folder, model, codec, device=device, dtype=dtype)
    return found


def speak_cases(set_dir: Path, kind: str, checkpoint: Checkpoint, runner: Runner, kernels: Kernels = PLAIN) -> Spoken:
    """All cases of one model at once, greedily, each in its slot. Cases of several texts are left to `golden_cases`."""
    content = json.loads((set_dir / "golden.json").read_text(encoding="utf-8"))
    ticks = Ticks(checkpoint, LIMITS, runner, lambda: 0.0, kernels)
    ticks.prepare()
    limit = content["set"]["max_new_tokens"] - 1
    sampling = dataclasses.replace(checkpoint.config.sampling, talker=GREEDY, predictor=GREEDY, max_frames=limit)
    heard: dict[str, list[Event]] = {}
    for name, case in content["cases"].items():
        if not name.startswith(f"{kind}.") or not isinstance(case["text"], str):
            continue
        mode: Mode = "whole" if case["non_streaming"] else "streaming"
        voice = _voice(case, checkpoint, content["set"]["reference"])
        request = Request(voice, case["language"], case.get("instruct"), mode, sampling, end="any time", paced=False)
        heard[name] = []
        speech = ticks.open(request, _taker(heard[name]))
        ticks.push(speech, case["text"])
        ticks.close(speech)
        speech.taken = 2 * limit  # nobody is waited for
    while not all(events and isinstance(events[-1], Finished) for events in heard.values()):
        ticks.tick()
    return {name: _joined(events) for name, events in heard.items()}


def differences(spoken: Spoken, golden: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[str, int, float]]:
    """Of each case: its name, how many codes are not the golden ones, and how far its audio is off."""
    for name, (codes, pcm) in spoken.items():
        expected, wav = golden[f"{name}.0.codes"], golden[f"{name}.0.wav_first_10_frames"]
        wrong = int((codes != expected).sum()) if codes.shape == expected.shape else expected.size
        size = min(len(pcm), len(wav))
        yield name, wrong, largest_difference(pcm[:size], wav[:size])


def _taker(events: list[Event]) -> Callable[[Event], None]:
    return events.append


def _voice(case: Mapping[str, Any], checkpoint: Checkpoint, reference: Mapping[str, int]) -> str | Clone | None:
    if checkpoint.speaker_encoder is None:
        return case.get("speaker")
    normal = np.random.RandomState(reference["seed"]).standard_normal(reference["samples"])
    transcript = None if case["mode"] == "xvec" else case["ref_text"]
    return clone(checkpoint, torch.from_numpy((LOUDNESS * normal).astype(np.float32)), transcript, exact=True)


def _joined(events: list[Event]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    packets = [event for event in events if isinstance(event, Packet)]
    return np.concatenate([packet.codes for packet in packets]), np.concatenate([packet.pcm for packet in packets])
