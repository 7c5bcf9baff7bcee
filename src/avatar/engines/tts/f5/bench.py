"""How fast F5-TTS is on this machine: for each clause, the time to make it and the time it lasts.

The weights may be made ones: neither what is computed nor how long a clause lasts depends on them.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avatar.engines.tts.devices import Device, choose_device
from avatar.engines.tts.f5.adapter import precision
from avatar.engines.tts.f5.made import make_model
from avatar.engines.tts.f5.mel import SAMPLE_RATE_HZ
from avatar.engines.tts.f5.model import OWN_BYTES_PER_S, F5Model
from avatar.engines.tts.f5.reference import Voice, heard

TEXTS = ("I think it is going to rain this afternoon.",)


def measure(
    folder: Path | None,
    scratch: Path,
    texts: tuple[str, ...],
    steps: int,
    reference_s: float,
    device: Device,
    tell: Callable[[str], None],
) -> None:
    """Speak `texts` after a recording of `reference_s`, once to warm up and once for the clock. Raises
    `CheckpointError`."""
    if folder is None:
        tell("Making weights of full size")
        folder = make_model(scratch)
    where = choose_device(device)
    began_s = time.perf_counter()
    model = F5Model.load(folder, device=where, dtype=precision(where), steps=steps)
    tell(f"{where.type}, {precision(where)}, {steps} steps; loaded in {time.perf_counter() - began_s:.1f} s")
    noise = np.random.RandomState(0).standard_normal(int(reference_s * SAMPLE_RATE_HZ)).astype(np.float32)
    voice = heard(0.1 * noise, ("word " * 100)[: int(reference_s * OWN_BYTES_PER_S) - 3])
    for text in texts or TEXTS:
        if where.type == "cuda":
            _speak(model, voice, text)
        took_s, lasts_s = _speak(model, voice, text)
        tell(f"{took_s:.2f} s for {lasts_s:.2f} s of speech: RTF {took_s / lasts_s:.2f}")
    if where.type == "cuda":
        tell(f"GPU memory: {torch.cuda.max_memory_allocated(where) / 1e9:.2f} GB at most")


def _speak(model: F5Model, voice: Voice, text: str) -> tuple[float, float]:
    """Seconds it took, and seconds it lasts."""
    began_s = time.perf_counter()
    pcm = model.speak(voice, text, speed=1.0, seed=0, stop=threading.Event())
    return time.perf_counter() - began_s, pcm.size / SAMPLE_RATE_HZ
