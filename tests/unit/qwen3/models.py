"""The golden models, loaded: what the tests of the language-model half share."""

from functools import cache

import torch

from avatar.engines.tts.qwen3.checkpoint import Checkpoint, assemble
from avatar.engines.tts.qwen3.config import TransformerConfig
from avatar.engines.tts.qwen3.layers import Heads
from avatar.engines.tts.qwen3.operations import TORCH
from tests.unit.qwen3.conftest import load_golden_set


@cache
def checkpoint(kind: str) -> Checkpoint:
    """`base` or `custom`, whole, float32 on the CPU."""
    made = load_golden_set(kind)
    return assemble(made.folder, made.model_tensors, made.codec_tensors, max_positions=512)


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    """Random embeddings[count, width] of about the model's own size."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def heads(batch: int, length: int, *, count: int, kv_heads: int, dim: int, seed: int) -> Heads:
    """Random heads of a layer, each position turned by a random angle."""
    chance = torch.Generator().manual_seed(seed)
    projected = torch.randn(batch, length, count + 2 * kv_heads, dim, generator=chance)
    norms, angles = torch.randn(count + kv_heads, dim, generator=chance), torch.randn(length, 1, dim, generator=chance)
    config = TransformerConfig(
        hidden=count * dim, intermediate=dim, layers=1, heads=count, kv_heads=kv_heads, head_dim=dim, norm_eps=1e-6,
        rope_theta=1e6, max_positions=64,
    )  # fmt: skip
    return Heads(projected, norms, angles.cos(), angles.sin(), config, TORCH)
