"""The attention that both transformers of the codec share. Says nothing of which positions may see which."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .folding import fold_at_load


class Rotation(nn.Module):
    """Rotary positions (RoPE). Angles are float32 whatever the model's precision, as the official code has them."""

    inverse_frequencies: Tensor

    def __init__(self, head_dim: int, theta: float) -> None:
        super().__init__()
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
        self.register_buffer("inverse_frequencies", 1.0 / theta**exponents, persistent=False)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each `[B, T, 1, head_dim]`, for `positions[B, T]`."""
        angles = positions[..., None].float() * self.inverse_frequencies.float()
        angles = torch.cat([angles, angles], -1)[:, :, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)


class Attention(nn.Module):
    """Multi-head attention in two halves, so that its caller may put keys and values of its own in between."""

    def __init__(self, hidden_size: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        width = heads * head_dim
        self.qkv = nn.Linear(hidden_size, 3 * width, bias=False)
        self.o_proj = nn.Linear(width, hidden_size, bias=False)
        sources = {f"{name}_proj.weight": (width, hidden_size) for name in "qkv"}
        fold_at_load(self, "qkv.weight", sources, torch.cat)

    def project(self, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Queries `[B, T, heads, head_dim]`, and keys and values `[B, T, 2, heads, head_dim]`, of `hidden[B, T, H]`."""
        cosines, sines = rotation
        qkv: Tensor = self.qkv(hidden).unflatten(-1, (3, self.heads, -1))
        turned = qkv[:, :, :2]
        first, second = turned.chunk(2, -1)
        turned = turned * cosines[:, :, None] + torch.cat([-second, first], -1) * sines[:, :, None]
        return turned[:, :, 0], torch.stack([turned[:, :, 1], qkv[:, :, 2]], 2)

    def attend(self, queries: Tensor, keys_values: Tensor, allowed: Tensor) -> Tensor:
        """What `queries[B, T, heads, d]` draw from `keys_values[B, S, 2, heads, d]`, where `allowed[B or 1, T, S]`."""
        keys, values = keys_values.permute(2, 0, 3, 1, 4)
        drawn = functional.scaled_dot_product_attention(queries.transpose(1, 2), keys, values, allowed[:, None])
        hidden: Tensor = self.o_proj(drawn.transpose(1, 2).flatten(2))
        return hidden


class LayerScale(nn.Module):
    """A learnt factor for each channel, on what a sublayer adds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(channels))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.scale * hidden
