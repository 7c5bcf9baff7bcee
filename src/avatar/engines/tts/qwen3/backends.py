"""The kernels that a step's attention may use: SDPA, which torch has, or FlashAttention, which reads caches in place.

Chosen once, at the start, by trying. Knows nothing of models.
"""

import importlib
import importlib.util
from typing import Literal

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.layers import Attention as Attend

Attention = Literal["auto", "sdpa", "flash"]

AGREEMENT = 2e-2
"""Largest difference of the two on bfloat16 values of size 1: its unit in the last place is 0.8 %."""


class FlashKVCache(KVCache):
    """A cache whose single steps are FlashAttention's decode kernel: it writes and reads slots where they are.

    SDPA needs the rows' keys and values gathered first, which costs three times their bytes.
    """

    def attention(self, slots: Tensor, positions: Tensor, context: int) -> Attend:
        if positions.shape[1] > 1:
            return super().attention(slots, positions, context)
        step = importlib.import_module("flash_attn").flash_attn_with_kvcache
        rows, lengths = slots.int(), positions[:, 0].int()

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            mixed: Tensor = step(
                queries,
                self.keys[layer, :, :, :context].transpose(1, 2),
                self.values[layer, :, :, :context].transpose(1, 2),
                k=keys,
                v=values,
                cache_seqlens=lengths,
                cache_batch_idx=rows,
                causal=True,
            )
            return mixed

        return attend


def choose_attention(wanted: Attention, device: torch.device, dtype: torch.dtype) -> tuple[type[KVCache], str]:
    """The cache to use, and why, in words. Raises `ValueError` if `flash` is wanted and cannot be."""
    if wanted == "sdpa":
        return KVCache, "SDPA (asked for)"
    against = _against_flash(device, dtype)
    if against is None:
        return FlashKVCache, "FlashAttention (agrees with SDPA)"
    if wanted == "flash":
        raise ValueError(f"FlashAttention cannot be used: {against}.")
    return KVCache, f"SDPA ({against})"


def _against_flash(device: torch.device, dtype: torch.dtype) -> str | None:
    if device.type != "cuda":
        return "no GPU"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"FlashAttention has no {str(dtype).removeprefix('torch.')}"
    if importlib.util.find_spec("flash_attn") is None:
        return "flash_attn is not installed"
    try:
        off = _difference(device, dtype)
    except Exception as error:  # built for another torch, another GPU, another CUDA
        return f"flash_attn fails: {type(error).__name__}"
    return None if off <= AGREEMENT else f"flash_attn differs by {off:.2g}"


def _difference(device: torch.device, dtype: torch.dtype) -> float:
    """How far the two are apart on one step of random slots."""
    chance = torch.Generator(device).manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=chance, device=device, dtype=dtype)

    slots, positions = torch.tensor([4, 0, 2], device=device), torch.tensor([[3], [200], [0]], device=device)
    made = random(3, 1, 16, 128), random(3, 1, 8, 128), random(3, 1, 8, 128)
    past = random(2, 1, 5, 8, 256, 128)
    mixed = []
    for kind in (KVCache, FlashKVCache):
        cache = kind(past[0].clone(), past[1].clone())
        mixed.append(cache.attention(slots, positions, 256)(0, *made).float())
    return float((mixed[0] - mixed[1]).abs().max())
