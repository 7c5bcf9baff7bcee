"""A layer's weight matrices: as they are, or in 8 bits with a scale for each row.

In 8 bits (float8 e4m3fn, 3 bits of mantissa) they take half the memory of bfloat16, and a step that waits for memory
half the time; the product is off by some per cent of its size. Knows no layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max
AGREEMENT = 0.1
"""Of the largest value, how far the device's product may be from the same with both rounded to 8 bits by hand."""

Product = Callable[[Tensor, Tensor, Tensor], Tensor]
"""x[..., in], values fp8[out, in], scales float32[out, 1] -> [..., out] in the type of x."""


class Matrix(Protocol):
    """x[..., in] -> x times the matrix, [..., out]."""

    def __call__(self, x: Tensor) -> Tensor: ...

    @property
    def memory_bytes(self) -> int: ...


@dataclass(frozen=True)
class Dense:
    """A matrix[out, in] in the type of what it is multiplied with."""

    weight: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)

    @property
    def memory_bytes(self) -> int:
        return self.weight.nbytes


@dataclass(frozen=True)
class EightBit:
    """A matrix as values[out, in] in float8, each row times its own of scales[out, 1] (float32)."""

    values: Tensor
    scales: Tensor
    product: Product

    @classmethod
    def of(cls, weight: Tensor, product: Product) -> "EightBit":
        return cls(*rounded(weight), product)

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x, self.values, self.scales)

    @property
    def memory_bytes(self) -> int:
        return self.values.nbytes + self.scales.nbytes


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows[n, width] as float8 values and scales float32[n, 1], so that each row's largest is the largest of float8."""
    scales = rows.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / LARGEST
    return (rows.float() / scales).to(FP8), scales


def dequantised(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """The product with the matrix put back into the type of x: for devices without one in 8 bits. Saves no time."""
    return F.linear(x, (values.to(x.dtype) * scales.to(x.dtype)))


def scaled(x: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """The device's own product in 8 bits; x is rounded too, row by row."""
    rows, row_scales = rounded(x.flatten(0, -2))
    product: Tensor = torch._scaled_mm(
        rows, values.t(), scale_a=row_scales, scale_b=scales.t(), out_dtype=torch.bfloat16
    )
    return product.to(x.dtype).view(*x.shape[:-1], -1)


def choose_product(device: torch.device, dtype: torch.dtype) -> tuple[Product, str]:
    """How to multiply 8-bit matrices on a device, and why, in words: its own product if that does what it should."""
    if device.type != "cuda":  # torch's for CPUs is a reference, not a fast one
        return dequantised, "dequantised on use (no GPU)"
    try:
        off = product_error(scaled, device, dtype)
    except Exception as error:  # older GPUs, older torch
        return dequantised, f"dequantised on use (torch._scaled_mm fails: {type(error).__name__})"
    if off > AGREEMENT:
        return dequantised, f"dequantised on use (torch._scaled_mm is off by {off:.2g})"
    return scaled, "torch._scaled_mm"


def product_error(product: Product, device: torch.device, dtype: torch.dtype) -> float:
    """How far a product is from the exact one of the same rounded values, over the largest value."""
    chance = torch.Generator(device).manual_seed(0)
    x, weight = (torch.randn(n, 256, generator=chance, device=device).to(dtype) for n in (3, 512))
    values, scales = rounded(weight)
    exact = x.double() @ (values.double() * scales.double()).t()
    return float((product(x, values, scales).double() - exact).abs().max() / exact.abs().max())
