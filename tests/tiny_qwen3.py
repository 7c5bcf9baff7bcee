"""The golden Qwen3-TTS models as folders of files, as the official ones come: they hum at random, for ever."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR
from tests.unit.qwen3.conftest import load_golden_set


def make_weights(folder: Path, kind: str) -> Path:
    """Fill `folder` with `base`, which clones, or `custom`, which has speakers."""
    made = load_golden_set(kind)
    shutil.copytree(made.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("tensors.json"))
    save_file(tensors(made.model_tensors), folder / "model.safetensors")
    save_file(tensors(made.codec_tensors), folder / CODEC_DIR / "model.safetensors")
    return folder


def tensors(made: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in made.items()}
