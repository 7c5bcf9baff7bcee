"""A Qwen3 decoder stack over fused weights: the talker and the code predictor are both one.

Knows nothing of caches: whoever calls gives the attention. Everything is a plain tensor function on fixed shapes, so a
call can be captured in a CUDA graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.qwen3.config import TransformerConfig
from avatar.engines.tts.qwen3.weights import Weights

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, queries[B, T, heads, d], keys[B, T, kv_heads, d], values[B, T, kv_heads, d]) -> [B, T, heads, d]."""


@dataclass(frozen=True)
class Layer:
    """Weights of one layer, fused: `qkv` makes queries, keys and values, `gate_up` both halves of the SwiGLU."""

    attention_norm: Tensor
    qkv: Tensor
    qk_norm: Tensor
    """[heads + kv_heads, 1 × head_dim]: the queries' norm weight for each head, then the keys'."""
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def load(cls, weights: Weights, config: TransformerConfig) -> Self:
        hidden, head_dim = config.hidden, config.head_dim
        queries, keys = config.heads * head_dim, config.kv_heads * head_dim
        attention, mlp = weights.under("self_attn."), weights.under("mlp.")
        q_norm, k_norm = attention.take("q_norm.weight", head_dim), attention.take("k_norm.weight", head_dim)
        return cls(
            attention_norm=weights.take("input_layernorm.weight", hidden),
            qkv=torch.cat(
                [
                    attention.take("q_proj.weight", queries, hidden),
                    attention.take("k_proj.weight", keys, hidden),
                    attention.take("v_proj.weight", keys, hidden),
                ]
            ),
            qk_norm=torch.cat([q_norm.expand(config.heads, -1), k_norm.expand(config.kv_heads, -1)]),
            out=attention.take("o_proj.weight", hidden, queries),
            mlp_norm=weights.take("post_attention_layernorm.weight", hidden),
            gate_up=torch.cat(
                [
                    mlp.take("gate_proj.weight", config.intermediate, hidden),
                    mlp.take("up_proj.weight", config.intermediate, hidden),
                ]
            ),
            down=mlp.take("down_proj.weight", hidden, config.intermediate),
        )


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

    def __call__(self, x: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """x[B, T, hidden], positions[B, T] or [T] -> hidden[B, T, hidden]."""
        cos, sin = self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2)
        for index, layer in enumerate(self.layers):
            queries, keys, values = self._project(layer, self._normed(x, layer.attention_norm), cos, sin)
            x = x + F.linear(attention(index, queries, keys, values).flatten(-2), layer.out)
            gate, up = F.linear(self._normed(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer.down)
        return self._normed(x, self.norm)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.norm_eps)

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        heads = F.linear(x, layer.qkv).view(*x.shape[:-1], -1, config.head_dim)
        rotating, values = torch.split(heads, [config.heads + config.kv_heads, config.kv_heads], dim=-2)
        rotating = F.rms_norm(rotating, (config.head_dim,), None, config.norm_eps) * layer.qk_norm
        rotated = torch.addcmul(rotating * cos, rotating.roll(config.head_dim // 2, -1), sin)
        queries, keys = torch.split(rotated, [config.heads, config.kv_heads], dim=-2)
        return queries, keys, values


def _rotations(config: TransformerConfig, positions: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine [positions, head_dim], computed in float32 as the official code does.

    A vector is turned by `x * cos + x rolled by half its length * sin`.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=like.device) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    angles = torch.arange(positions, dtype=torch.float32, device=like.device)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], -1).to(like.dtype), torch.cat([-sin, sin], -1).to(like.dtype)
