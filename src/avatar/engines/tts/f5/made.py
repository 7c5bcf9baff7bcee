"""A model folder with made weights, of any size: as long to load and as fast to run as a real one, and it babbles.

For measuring and testing where no weights are. Every tensor follows from its name, so that the same folder can be made
elsewhere, and another implementation asked what it makes of it.
"""

import json
import math
import string
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from avatar.engines.tts.f5.checkpoint import CONSTANTS, PREFIX, VOCOS_CONFIG
from avatar.engines.tts.f5.dit import DiT, Shape
from avatar.engines.tts.f5.files import CONFIG, MODEL, VOCABULARY, VOCODER
from avatar.engines.tts.f5.vocos import Vocos, VocosShape

LETTERS = (" ", *string.punctuation, *string.digits, *string.ascii_letters)

# What keeps the sound of a made model inside -1…1, and its mel where a difference is seen.
_GAINS = {"proj_out.weight": 0.5, "head.out.weight": 0.7}


def make_model(
    folder: Path, shape: Shape | None = None, vocos: VocosShape | None = None, vocabulary: Iterable[str] = LETTERS
) -> Path:
    """Fill `folder`: 1.4 GB for the sizes of F5-TTS v1 Base, float32 as the official one."""
    shape, vocos = shape or Shape(), vocos or VocosShape()
    known = list(vocabulary)
    known += [f"<{number}>" for number in range(shape.symbols - len(known))]
    for name in (MODEL, VOCODER):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).with_name(VOCABULARY).write_text("".join(f"{symbol}\n" for symbol in known), "utf-8")
    config = {section: {"init_args": dict(arguments)} for section, arguments in VOCOS_CONFIG.items()}
    (folder / CONFIG).write_text(json.dumps(config), "utf-8")  # which is YAML, too
    save_file(model_tensors(shape), folder / MODEL)
    torch.save(vocoder_tensors(vocos), folder / VOCODER)
    return folder


def model_tensors(shape: Shape) -> dict[str, Tensor]:
    """Every tensor of the model's file, by name."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in DiT(shape).state_dict().items()}
    made = {f"{PREFIX}{name}": made_tensor(name, size) for name, size in shapes.items()}
    made[f"{PREFIX}rotary_embed.inv_freq"] = 1 / 10_000 ** (torch.arange(0, 64, 2) / 64)
    return made | {"initted": torch.tensor(True), "step": torch.tensor(0)}


def vocoder_tensors(shape: VocosShape) -> dict[str, Tensor]:
    """Every tensor of the vocoder's file, by name."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Vocos(shape).state_dict().items()}
    constants = {name: make() for name, make in CONSTANTS.items()}
    return {name: made_tensor(name, size) for name, size in shapes.items()} | constants


def made_tensor(name: str, shape: Sequence[int]) -> Tensor:
    """float32, of a size that keeps what flows through at a sane one."""
    drawn = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith(("gamma", "beta")):
        made = np.float32(0.3) + np.float32(0.05) * drawn
    elif name.endswith("bias"):
        made = np.float32(0.05) * drawn
    elif len(shape) == 1:  # of a norm
        made = 1 + np.float32(0.1) * drawn
    else:
        made = drawn * np.float32(_GAINS.get(name, 1) / math.sqrt(math.prod(shape[1:])))
    return torch.from_numpy(made)
