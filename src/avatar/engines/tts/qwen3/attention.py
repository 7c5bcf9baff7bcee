"""Attention over keys and values that stay where they are: one preallocated cache, rows of a batch name their slots.

Positions are device tensors and shapes are fixed, so that a step can be captured in a CUDA graph. A row may leave
anything behind at positions after its own: a row only ever looks at positions it has since written.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.qwen3.config import TransformerConfig
from avatar.engines.tts.qwen3.layers import Attention, Heads


def grouped_attention(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None) -> Tensor:
    """Queries[B, T, heads, d] on keys and values[B, kv_heads, C, d]; `seen`: bool[B or 1, T, C], None for all.

    Queries that share a key head are treated as further positions of it: nothing is repeated in memory.
    """
    batch, length, heads, head_dim = queries.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    rows = queries.view(batch, length, kv_heads, group, head_dim).transpose(1, 2).flatten(2, 3)
    mask = None if seen is None else seen.repeat_interleave(group, dim=1).unsqueeze(1)
    mixed = F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
    return mixed.view(batch, kv_heads, length, group, head_dim).transpose(1, 2).flatten(2, 3)


@dataclass(frozen=True)
class KVCache:
    """Keys and values: [layers, slots, kv_heads, positions, head_dim] each."""

    keys: Tensor
    values: Tensor

    @classmethod
    def allocate(
        cls,
        config: TransformerConfig,
        slots: int,
        max_positions: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        shape = (config.layers, slots, config.kv_heads, max_positions, config.head_dim)
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))

    @property
    def max_positions(self) -> int:
        return self.keys.shape[3]

    def attention(self, slots: Tensor, positions: Tensor, context: int) -> Attention:
        """Attention for rows of `slots`[B] at `positions`[B, T]: writes theirs, then looks at all up to them.

        Only the first `context` positions are read: the caller promises that every position is below.
        """
        seen = torch.arange(context, device=positions.device) <= positions.unsqueeze(-1)
        rows = slots.unsqueeze(1)

        def attend(layer: int, heads: Heads) -> Tensor:
            queries, keys, values = heads.turned()
            self.keys[layer][rows, :, positions] = keys
            self.values[layer][rows, :, positions] = values
            past_keys, past_values = self.keys[layer, :, :, :context], self.values[layer, :, :, :context]
            return grouped_attention(queries, past_keys[slots], past_values[slots], seen)

        return attend

    def snapshot(self, slot: int, length: int) -> "Prefix":
        """A copy of a slot's first `length` positions."""
        return Prefix(self.keys[:, slot, :, :length].clone(), self.values[:, slot, :, :length].clone())

    def restore(self, slot: int, prefix: "Prefix") -> None:
        """Begin a slot with a prefix; what follows is written at positions from `prefix.length` on."""
        self.keys[:, slot, :, : prefix.length] = prefix.keys
        self.values[:, slot, :, : prefix.length] = prefix.values


@dataclass(frozen=True)
class Prefix:
    """The beginning of a slot: [layers, kv_heads, length, head_dim] each."""

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        return self.keys.shape[2]


def frame_attention(config: TransformerConfig, rows: int, places: Tensor, like: Tensor) -> "FrameAttention":
    """For `rows` frames of at most as many positions as there are `places`: 0, 1, 2, …, on the device."""
    shape = (config.layers, rows, config.kv_heads, len(places), config.head_dim)
    return FrameAttention(like.new_empty(shape), like.new_empty(shape), places)


@dataclass
class FrameAttention:
    """Attention within one frame: a cache that begins empty and is forgotten after some tens of positions."""

    keys: Tensor
    values: Tensor
    places: Tensor
    start: int = 0

    def __call__(self, layer: int, heads: Heads) -> Tensor:
        queries, keys, values = heads.turned()
        length = keys.shape[1]
        end = self.start + length
        self.keys[layer, :, :, self.start : end] = keys.transpose(1, 2)
        self.values[layer, :, :, self.start : end] = values.transpose(1, 2)
        seen = None
        if length > 1:
            seen = torch.ones(length, end, dtype=torch.bool, device=keys.device).tril(self.start).unsqueeze(0)
        return grouped_attention(queries, self.keys[layer, :, :, :end], self.values[layer, :, :, :end], seen)
