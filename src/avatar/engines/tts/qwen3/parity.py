"""The engine held against a golden set where it runs: on this device, through the tick loop, with graphs and without.

`golden_cases` does the same for the model's parts on the CPU.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR, Checkpoint, assemble
from avatar.engines.tts.qwen3.golden_cases import GREEDY, largest_difference, made_tensors, read_set, recording
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
    """The models of a set, with their weights made, on a device. Raises `GoldenSetError`."""
    parameters, _, folders = read_set(set_dir)
    found = {}
    for folder in folders:
        files = (part / "tensors.json" for part in (folder, folder / CODEC_DIR))
        model, codec = (made_tensors(file, parameters["salt"]) for file in files)
        found[folder.name] = assemble(folder, model, codec, device=device, dtype=dtype)
    return found


def speak_cases(set_dir: Path, kind: str, checkpoint: Checkpoint, runner: Runner, kernels: Kernels = PLAIN) -> Spoken:
    """All cases of one model at once, greedily, each in its slot. Cases of several texts are left to `golden_cases`."""
    parameters, cases, _ = read_set(set_dir)
    ticks = Ticks(checkpoint, LIMITS, runner, lambda: 0.0, kernels)
    ticks.prepare()
    limit = parameters["max_new_tokens"] - 1
    sampling = dataclasses.replace(checkpoint.config.sampling, talker=GREEDY, predictor=GREEDY, max_frames=limit)
    heard: dict[str, list[Event]] = {}
    for name, case in cases.items():
        if not name.startswith(f"{kind}.") or not isinstance(case["text"], str):
            continue
        mode: Mode = "whole" if case["non_streaming"] else "streaming"
        voice = _voice(case, checkpoint, parameters["reference"])
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
    transcript = None if case["mode"] == "xvec" else case["ref_text"]
    return clone(checkpoint, recording(reference["seed"], reference["samples"]), transcript, exact=True)


def _joined(events: list[Event]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    packets = [event for event in events if isinstance(event, Packet)]
    return np.concatenate([packet.codes for packet in packets]), np.concatenate([packet.pcm for packet in packets])
