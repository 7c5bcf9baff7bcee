"""The golden models, loaded: what the tests of the language-model half share."""

from functools import cache

import torch

from avatar.engines.tts.qwen3.checkpoint import Checkpoint, assemble
from tests.unit.qwen3.conftest import load_golden_set


@cache
def checkpoint(kind: str) -> Checkpoint:
    """`base` or `custom`, whole, float32 on the CPU."""
    made = load_golden_set(kind)
    return assemble(made.folder, made.model_tensors, made.codec_tensors, max_positions=512)


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    """Random embeddings[count, width] of about the model's own size."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
