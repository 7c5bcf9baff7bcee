"""Matrices in 8 bits: how far off, how small, and that a model runs on them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avatar.engines.tts.qwen3 import matrices, variants
from avatar.engines.tts.qwen3.matrices import Dense, EightBit, choose_product, dequantised, product_error, scaled
from avatar.engines.tts.qwen3.speech import Request
from tests.unit.qwen3.models import checkpoint
from tests.unit.qwen3.ticking import Stage

CPU = torch.device("cpu")


@given(st.integers(0, 2**31 - 1), st.floats(1e-4, 1e4))
def test_rounding_is_off_by_a_sixteenth_at_most(seed: int, size: float) -> None:
    """Three bits of mantissa; what is below a row's 2^-15th part (float8's smallest) may be lost."""
    rows = size * torch.randn(4, 32, generator=torch.Generator().manual_seed(seed))
    rows[0] = 0
    values, scales = matrices.rounded(rows)
    off = (values.float() * scales - rows).abs()
    assert bool((off <= rows.abs() / 16 + rows.abs().amax(-1, keepdim=True) * 2.0**-16).all())
    assert values.dtype == torch.float8_e4m3fn
    assert not values[0].float().any()


@pytest.mark.parametrize("product", [dequantised, scaled])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_the_rounded_values(product: matrices.Product, dtype: torch.dtype) -> None:
    """`scaled` rounds what comes in as well; torch has it for CPUs too, so it is tried here."""
    assert product_error(product, CPU, dtype) < (0.02 if product is dequantised else matrices.AGREEMENT)
    weight = torch.randn(48, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix = EightBit.of(weight, product)
    x = torch.randn(2, 3, 32).to(dtype)
    made = matrix(x)
    assert (made.shape, made.dtype) == ((2, 3, 48), dtype)
    assert float((made - Dense(weight)(x)).norm() / Dense(weight)(x).norm()) < 0.06


def test_the_devices_product_is_taken_if_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_product(CPU, torch.float32) == (dequantised, "dequantised on use (no GPU)")

    def refuses(*_: object) -> float:
        raise RuntimeError("sm_80 has none")

    cuda = torch.device("cuda")
    for error, expected in (
        (lambda *_: 0.05, "torch._scaled_mm"),
        (lambda *_: 0.5, "off by 0.5"),
        (refuses, "Runtime"),
    ):
        monkeypatch.setattr(matrices, "product_error", error)
        product, why = choose_product(cuda, torch.bfloat16)
        assert expected in why
        assert (product is scaled) == (why == "torch._scaled_mm")


@pytest.mark.parametrize("kind", ["base", "custom"])
def test_a_model_in_8_bits_speaks_and_is_a_quarter_of_float32(kind: str) -> None:
    exact = checkpoint(kind)
    row = variants.in_8_bits(exact, variants.SMALL)
    assert 0.01 < float(row["first codes' logits off"]) < 0.25
    assert 0.01 < float(row["other codes' logits off"]) < 0.25
    made = exact.in_8_bits()
    before, after = (one.talker.transformer.matrix_bytes for one in (exact, made))
    assert after < 0.32 * before  # a fourth, and the scales of tiny rows
    assert made.matrices == "layers in float8 (dequantised on use (no GPU))"
    assert made.prompter is not exact.prompter  # it would keep the original's weights
    if kind == "custom":
        assert len(Stage(model=made).say(Request("serena", paced=False, end="any time")).codes) > 0


def test_the_same_model_differs_by_nothing() -> None:
    row = variants._differences(checkpoint("custom"), checkpoint("custom"), 2)
    assert row["first codes' logits off"] == row["other codes' logits off"] == 0
    assert row["first codes the same"] == row["other codes the same"] == 1
