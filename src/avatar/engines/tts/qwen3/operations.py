"""What a layer does between its matrix products, in torch: the form that is always there, and that others must equal.

Other forms do the same with fewer kernels and less memory traffic: `compiled` here, Triton's in `fused.py`. Knows no
weights' names and no cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

RECOMPILE_LIMIT = 64
"""Kernels made of one function: another one where a size is 1, or two are equal."""


def add_norm(x: Tensor, added: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The sum x + added (None: x), and its RMS norm; all [..., width]."""
    x = x if added is None else x + added
    return x, F.rms_norm(x, weight.shape, weight, eps)


def swiglu(gate_up: Tensor) -> Tensor:
    """[..., 2 * width] -> silu(first half) * second half [..., width]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def turned(rotating: Tensor, norms: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """Queries and keys[B, T, n, d] normed head by head with norms[n, d], then rotated by cos and sin[(B,) T, 1, d]."""
    rotating = F.rms_norm(rotating, rotating.shape[-1:], None, eps) * norms
    return torch.addcmul(rotating * cos, rotating.roll(rotating.shape[-1] // 2, -1), sin)


def snake(hidden: Tensor, frequency: Tensor, magnitude: Tensor) -> Tensor:
    """x + magnitude · sin²(frequency · x): hidden[B, C, T], both others [C, 1]."""
    return torch.addcmul(hidden, magnitude, (hidden * frequency).sin().square())


@dataclass(frozen=True)
class Operations:
    """One form of each."""

    add_norm: Callable[[Tensor, Tensor | None, Tensor, float], tuple[Tensor, Tensor]] = add_norm
    swiglu: Callable[[Tensor], Tensor] = swiglu
    turned: Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor] = turned
    snake: Callable[[Tensor, Tensor, Tensor], Tensor] = snake


TORCH = Operations()


def compiled() -> Operations:
    """All through `torch.compile`: one kernel each, made on first use, for all batch sizes and widths.

    Needs a C++ compiler on a CPU and Triton on a GPU; what fails, fails on first use.
    """
    compile_: Any = torch.compile  # its types lack the limit
    limits = {"dynamic": True, "fullgraph": True, "recompile_limit": RECOMPILE_LIMIT}
    functions = (add_norm, swiglu, turned, snake)
    return Operations(*(compile_(function, **limits) for function in functions))
