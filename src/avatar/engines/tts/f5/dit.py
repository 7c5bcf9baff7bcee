"""The diffusion transformer of F5-TTS v1: of a noisy mel, a recording and a text it tells where the mel flows.

Modules bear the names that the official tensors have. What depends on the time alone, the modulation of every layer, is
computed apart: the times of all steps are known beforehand. Knows neither files nor how steps are taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.f5.mel import BANDS

HEAD_WIDTH = 64
MAX_FRAMES = 8192
"""Positions the text embedding was made for: 87 s."""
_TIME_WIDTH = 256
_TIME_SCALE = 1000
_EPS = 1e-6


@dataclass(frozen=True)
class Shape:
    """The sizes that differ between models of this kind; those of F5-TTS v1 Base unless told."""

    symbols: int = 2545
    width: int = 1024
    layers: int = 22
    inner: int = 2048
    text_width: int = 512
    text_layers: int = 4
    text_inner: int = 1024

    @classmethod
    def of(cls, tensors: Mapping[str, Sequence[int]]) -> Self:
        """Read off the tensors' shapes by name. Raises `KeyError` where one that tells is missing."""
        blocks = {name.split(".")[1] for name in tensors if name.startswith("transformer_blocks.")}
        text_blocks = {name.split(".")[2] for name in tensors if name.startswith("text_embed.text_blocks.")}
        rows, text_width = tensors["text_embed.text_embed.weight"]
        return cls(
            rows - 1,
            tensors["proj_out.weight"][1],
            len(blocks),
            tensors["transformer_blocks.0.ff.ff.0.0.weight"][0],
            text_width,
            len(text_blocks),
            tensors["text_embed.text_blocks.0.pwconv1.weight"][0],
        )


class Modulation(NamedTuple):
    """How the layers work at one time: `blocks`[layers, 6, width], `out`[2, width]."""

    blocks: Tensor
    out: Tensor


class DiT(nn.Module):
    """The whole network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.time_embed = _TimeEmbedding(shape.width)
        self.text_embed = _TextEmbedding(shape)
        self.input_embed = _InputEmbedding(shape)
        self.rotary_embed = _Rotary()
        self.transformer_blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.norm_out = _Modulator(shape.width, 2)
        self.proj_out = nn.Linear(shape.width, BANDS)

    def modulations(self, times: Tensor) -> list[Modulation]:
        """Of each of times[n], 0…1."""
        emb = F.silu(self.time_embed(times))
        blocks = torch.stack([cast(_Block, block).attn_norm(emb) for block in self.transformer_blocks], dim=1)
        return [Modulation(*both) for both in zip(blocks, self.norm_out(emb), strict=True)]

    def forward(self, x: Tensor, cond: Tensor, text: Tensor, modulation: Modulation) -> Tensor:
        """x, cond: [B, T, 100], text: [B, T, text_width] as `text_embed` makes it -> [B, T, 100]."""
        hidden = self.input_embed(x, cond, text)
        turns = self.rotary_embed(hidden)
        for block, how in zip(self.transformer_blocks, modulation.blocks, strict=True):
            hidden = block(hidden, how, turns)
        scale, shift = modulation.out
        out: Tensor = self.proj_out(_modulated(hidden, scale, shift))
        return out


class _TimeEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(_TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        half = _TIME_WIDTH // 2
        waves = torch.exp(torch.arange(half, device=times.device) * -(math.log(10_000) / (half - 1)))
        angles = _TIME_SCALE * times[:, None] * waves
        first = cast(nn.Linear, self.time_mlp[0])
        embedded: Tensor = self.time_mlp(torch.cat([angles.sin(), angles.cos()], -1).to(first.weight.dtype))
        return embedded


class _TextEmbedding(nn.Module):
    """Symbols laid along the frames from the first on, one a frame, and what they have to do with their neighbours."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.text_embed = nn.Embedding(shape.symbols + 1, shape.text_width)
        self.text_blocks = nn.ModuleList(_TextBlock(shape) for _ in range(shape.text_layers))

    def forward(self, symbols: Tensor, frames: int) -> Tensor:
        """symbols[n] -> [2, frames, text_width]: the text, and the same places without it, for guidance."""
        ids = F.pad(symbols[:frames] + 1, (0, max(frames - len(symbols), 0)))
        there = (ids > 0)[:, None]
        rows = self.text_embed(torch.stack([ids, torch.zeros_like(ids)]))
        text: Tensor = (rows + _positions(frames, rows.shape[-1], rows)) * there
        for block in self.text_blocks:
            text = block(text) * there
        return text


class _TextBlock(nn.Module):
    """ConvNeXt V2, along the text."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.text_width
        self.dwconv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.pwconv1 = nn.Linear(width, shape.text_inner)
        self.grn = _ResponseNorm(shape.text_inner)
        self.pwconv2 = nn.Linear(shape.text_inner, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        return out


class _ResponseNorm(nn.Module):
    """Global response normalisation over all frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, width))
        self.beta = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        share = (size / (size.mean(-1, keepdim=True) + _EPS)).to(x.dtype)
        out: Tensor = self.gamma * (x * share) + self.beta + x
        return out


class _InputEmbedding(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * BANDS + shape.text_width, shape.width)
        self.conv_pos_embed = _ConvPositions(shape.width)

    def forward(self, x: Tensor, cond: Tensor, text: Tensor) -> Tensor:
        joined = self.proj(torch.cat([x, cond, text], -1))
        embedded: Tensor = self.conv_pos_embed(joined) + joined
        return embedded


class _ConvPositions(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1d = nn.Sequential(
            nn.Conv1d(width, width, 31, groups=16, padding=15),
            nn.Mish(),
            nn.Conv1d(width, width, 31, groups=16, padding=15),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv1d(x.transpose(1, 2)).transpose(1, 2)
        return mixed


class _Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.empty(HEAD_WIDTH // 2))

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine [T, head width / 2] of the angles of each place of hidden[B, T, width], in its type."""
        angles = torch.arange(hidden.shape[1], device=hidden.device)[:, None] * self.get_buffer("inv_freq")
        return angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)


class _Modulator(nn.Module):
    """From a time to `parts` vectors that scale, shift or gate."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, parts * width)
        self.parts = parts

    def forward(self, emb: Tensor) -> Tensor:
        """emb[n, width] -> [n, parts, width]."""
        parts: Tensor = self.linear(emb).unflatten(-1, (self.parts, -1))
        return parts


class _Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attn_norm = _Modulator(shape.width, 6)
        self.attn = _Attention(shape.width)
        self.ff = _FeedForward(shape)

    def forward(self, x: Tensor, how: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = how
        x = x + gate * self.attn(_modulated(x, scale, shift), turns)
        out: Tensor = x + mlp_gate * self.ff.ff(_modulated(x, mlp_scale, mlp_shift))
        return out


class _FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ff = nn.Sequential(
            nn.Sequential(nn.Linear(shape.width, shape.inner), nn.GELU(approximate="tanh")),
            nn.Identity(),  # the official modules have a dropout here
            nn.Linear(shape.inner, shape.width),
        )


class _Attention(nn.Module):
    """Every frame looks at every other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        queries, keys, values = (
            project(x).unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for project in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(_turned(queries, *turns), _turned(keys, *turns), values)
        out: Tensor = self.to_out[0](mixed.transpose(1, 2).flatten(-2))
        return out


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x[B, heads, T, head width], its neighbouring pairs turned by the angle of their place."""
    one, other = x[..., ::2], x[..., 1::2]
    return torch.stack([one * cos - other * sin, other * cos + one * sin], -1).flatten(-2)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift


def _positions(frames: int, width: int, like: Tensor) -> Tensor:
    """Cosines and sines [frames, width] of places in the text."""
    waves = 1.0 / 10_000 ** (torch.arange(0, width, 2, device=like.device)[: width // 2].float() / width)
    angles = torch.outer(torch.arange(frames, device=like.device), waves)
    return torch.cat([angles.cos(), angles.sin()], -1).to(like.dtype)
