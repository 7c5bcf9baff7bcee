"""A Qwen3 decoder stack over fused weights: the talker and the code predictor are both one.

Knows nothing of caches: whoever calls gives the attention. Everything is a plain tensor function on fixed shapes, so a
call can be captured in a CUDA graph.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.config import TransformerConfig
from avatar.engines.tts.qwen3.matrices import Dense, EightBit, Matrix, Product
from avatar.engines.tts.qwen3.operations import TORCH, Operations
from avatar.engines.tts.weights import Weights


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of one layer, as the product gave them: neither normed nor rotated yet."""

    projected: Tensor
    """[B, T, heads + 2 × kv_heads, head_dim]"""
    norms: Tensor
    """[heads + kv_heads, head_dim]"""
    cos: Tensor
    sin: Tensor
    """[B, T, 1, head_dim] or [T, 1, head_dim]"""
    config: TransformerConfig
    operations: Operations

    def turned(self) -> tuple[Tensor, Tensor, Tensor]:
        """Queries[B, T, heads, d], keys and values[B, T, kv_heads, d], ready to meet."""
        heads, kv_heads = self.config.heads, self.config.kv_heads
        rotating, values = torch.split(self.projected, [heads + kv_heads, kv_heads], dim=-2)
        rotated = self.operations.turned(rotating, self.norms, self.cos, self.sin, self.config.norm_eps)
        queries, keys = torch.split(rotated, [heads, kv_heads], dim=-2)
        return queries, keys, values


Attention = Callable[[int, Heads], Tensor]
"""(layer, its heads) -> what the queries draw, [B, T, heads, d]."""


@dataclass(frozen=True)
class Layer:
    """Weights of one layer, fused: `qkv` makes queries, keys and values, `gate_up` both halves of the SwiGLU."""

    attention_norm: Tensor
    qkv: Matrix
    qk_norm: Tensor
    """[heads + kv_heads, 1 × head_dim]: the queries' norm weight for each head, then the keys'."""
    out: Matrix
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix

    @classmethod
    def load(cls, weights: Weights, config: TransformerConfig) -> Self:
        hidden, head_dim = config.hidden, config.head_dim
        queries, keys = config.heads * head_dim, config.kv_heads * head_dim
        attention, mlp = weights.under("self_attn."), weights.under("mlp.")
        q_norm, k_norm = attention.take("q_norm.weight", head_dim), attention.take("k_norm.weight", head_dim)
        return cls(
            attention_norm=weights.take("input_layernorm.weight", hidden),
            qkv=Dense(
                torch.cat(
                    [
                        attention.take("q_proj.weight", queries, hidden),
                        attention.take("k_proj.weight", keys, hidden),
                        attention.take("v_proj.weight", keys, hidden),
                    ]
                )
            ),
            qk_norm=torch.cat([q_norm.expand(config.heads, -1), k_norm.expand(config.kv_heads, -1)]),
            out=Dense(attention.take("o_proj.weight", hidden, queries)),
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            gate_up=Dense(
                torch.cat(
                    [
                        mlp.take("gate_proj.weight", config.intermediate, hidden),
                        mlp.take("up_proj.weight", config.intermediate, hidden),
                    ]
                )
            ),
            down=Dense(mlp.take("down_proj.weight", hidden, config.intermediate)),
        )

    @property
    def matrices(self) -> dict[str, Matrix]:
        return {"qkv": self.qkv, "out": self.out, "gate_up": self.gate_up, "down": self.down}

    def in_8_bits(self, product: Product) -> "Layer":
        made: dict[str, Any] = {
            name: EightBit.of(matrix.weight, product)
            for name, matrix in self.matrices.items()
            if isinstance(matrix, Dense)
        }
        return replace(self, **made)


class Transformer:
    """The stack: embeddings in, hidden states after the last norm out.

    `max_positions` bounds the positions that may be asked for: a table of rotations is kept for them.
    """

    def __init__(self, weights: Weights, config: TransformerConfig, max_positions: int) -> None:
        if max_positions > config.max_positions:
            raise ValueError(f"The model knows {config.max_positions} positions, not {max_positions}.")
        self.config = config
        self.layers = tuple(Layer.load(weights.under(f"layers.{n}."), config) for n in range(config.layers))
        self.norm = weights.take("norm.weight", config.hidden)
        self.cos, self.sin = _rotations(config, max_positions, self.norm)
        self.operations = TORCH

    def using(self, operations: Operations) -> "Transformer":
        """The same weights, worked with in another form."""
        made = copy.copy(self)
        made.operations = operations
        return made

    def in_8_bits(self, product: Product) -> "Transformer":
        """A copy whose matrices are rounded to 8 bits."""
        made = copy.copy(self)
        made.layers = tuple(layer.in_8_bits(product) for layer in self.layers)
        return made

    @property
    def matrix_bytes(self) -> int:
        """What the layers' matrices take: a pass reads all of it."""
        return sum(matrix.memory_bytes for layer in self.layers for matrix in layer.matrices.values())

    def __call__(self, x: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """x[B, T, hidden], positions[B, T] or [T] -> hidden[B, T, hidden]."""
        config, form, eps = self.config, self.operations, self.config.norm_eps
        cos, sin = self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2)
        added: Tensor | None = None
        for index, layer in enumerate(self.layers):
            x, normed = form.add_norm(x, added, layer.attention_norm, eps)
            projected = layer.qkv(normed).view(*x.shape[:-1], -1, config.head_dim)
            mixed = attention(index, Heads(projected, layer.qk_norm, cos, sin, config, form))
            x, normed = form.add_norm(x, layer.out(mixed.flatten(-2)), layer.mlp_norm, eps)
            added = layer.down(form.swiglu(layer.gate_up(normed)))
        return form.add_norm(x, added, self.norm, eps)[1]


def _rotations(config: TransformerConfig, positions: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine [positions, head_dim], computed in float32 as the official code does.

    A vector is turned by `x * cos + x rolled by half its length * sin`.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=like.device) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    angles = torch.arange(positions, dtype=torch.float32, device=like.device)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).to(like.dtype), torch.cat([-sin, sin], -1).to(like.dtype)
