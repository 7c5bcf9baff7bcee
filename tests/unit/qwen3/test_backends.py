"""Attention backends: which is chosen and why, and that FlashAttention is asked for what SDPA computes.

The library needs a GPU, so here its documented contract stands in for it, in a few lines of torch; on a GPU with the
library installed the engine makes the same comparison at every start.
"""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from avatar.engines.tts.qwen3 import backends
from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.backends import FlashKVCache, choose_attention

CPU = torch.device("cpu")


def documented(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *,
    k: Tensor,
    v: Tensor,
    cache_seqlens: Tensor,
    cache_batch_idx: Tensor,
    causal: bool,
) -> Tensor:
    """`flash_attn_with_kvcache` by its docstring: caches [slots, positions, kv_heads, d], queries [B, T, heads, d]."""
    assert causal
    assert cache_seqlens.dtype == cache_batch_idx.dtype == torch.int32
    assert k_cache.stride(-1) == v_cache.stride(-1) == 1
    group = q.shape[2] // k.shape[2]
    mixed = []
    for row, (length, slot) in enumerate(zip(cache_seqlens.tolist(), cache_batch_idx.tolist(), strict=True)):
        k_cache[slot, length : length + k.shape[1]] = k[row]
        v_cache[slot, length : length + v.shape[1]] = v[row]
        keys, values = (cache[slot, : length + k.shape[1]].repeat_interleave(group, 1) for cache in (k_cache, v_cache))
        chances = (torch.einsum("thd,shd->hts", q[row], keys) / q.shape[-1] ** 0.5).softmax(-1)
        mixed.append(torch.einsum("hts,shd->thd", chances, values))
    return torch.stack(mixed)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("flash_attn")
    module.flash_attn_with_kvcache = documented  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", module)


@pytest.mark.usefixtures("library")
def test_both_see_the_same() -> None:
    assert backends._difference(CPU, torch.float32) < 1e-5


@pytest.mark.usefixtures("library")
def test_a_prefill_is_left_to_sdpa_and_both_write_the_same_cache() -> None:
    chance = torch.Generator().manual_seed(1)
    caches = [kind(torch.zeros(1, 3, 2, 16, 8), torch.zeros(1, 3, 2, 16, 8)) for kind in (KVCache, FlashKVCache)]
    slots = torch.tensor([2, 0])
    for positions in (torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[3], [3]]), torch.tensor([[4], [4]])):
        count = positions.shape[1]
        queries = torch.randn(2, count, 4, 8, generator=chance)
        keys, values = torch.randn(2, 2, count, 2, 8, generator=chance)
        mixed = [cache.attention(slots, positions, 16)(0, queries, keys, values) for cache in caches]
        torch.testing.assert_close(mixed[1], mixed[0])
    torch.testing.assert_close(caches[1].keys, caches[0].keys)
    torch.testing.assert_close(caches[1].values, caches[0].values)


def test_the_choice_is_given_with_its_reason() -> None:
    assert choose_attention("auto", CPU, torch.bfloat16) == (KVCache, "SDPA (no GPU)")
    assert choose_attention("sdpa", CPU, torch.bfloat16) == (KVCache, "SDPA (asked for)")
    with pytest.raises(ValueError, match="FlashAttention cannot be used: no GPU"):
        choose_attention("flash", CPU, torch.bfloat16)
    cuda = torch.device("cuda")
    assert choose_attention("auto", cuda, torch.float32)[1] == "SDPA (FlashAttention has no float32)"
    assert choose_attention("auto", cuda, torch.bfloat16)[1] == "SDPA (flash_attn is not installed)"
