"""Kernels: which are chosen and why, and that FlashAttention is asked for what SDPA computes.

The library needs a GPU, so here its documented contract stands in for it, in a few lines of torch; on a GPU with the
library installed the engine makes the same comparison at every start.
"""

import shutil
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from avatar.engines.tts.qwen3 import backends, parity
from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.backends import FlashKVCache, candidates, choose_kernels, distance
from avatar.engines.tts.qwen3.golden_cases import read_golden
from avatar.engines.tts.qwen3.graphs import Runner
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.operations import Operations, add_norm, swiglu
from avatar.engines.tts.qwen3.sampling import Drawing
from tests.unit.qwen3.conftest import GOLDEN_DIR
from tests.unit.qwen3.models import checkpoint, heads

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
    assert k_cache.stride(-1) == v_cache.stride(-1) == k.stride(-1) == v.stride(-1) == 1
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


FLASH = Kernels(cache=FlashKVCache)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["base", "custom"])
def test_both_see_the_same(kind: str) -> None:
    assert distance(checkpoint(kind), FLASH) < 1e-5


@pytest.mark.usefixtures("library")
def test_a_prefill_is_left_to_sdpa_and_both_write_the_same_cache() -> None:
    caches = [kind(torch.zeros(1, 3, 2, 16, 8), torch.zeros(1, 3, 2, 16, 8)) for kind in (KVCache, FlashKVCache)]
    slots = torch.tensor([2, 0])
    for positions in (torch.tensor([[0, 1, 2], [0, 1, 2]]), torch.tensor([[3], [3]]), torch.tensor([[4], [4]])):
        made = heads(2, positions.shape[1], count=4, kv_heads=2, dim=8, seed=1)
        mixed = [cache.attention(slots, positions, 16)(0, made) for cache in caches]
        torch.testing.assert_close(mixed[1], mixed[0])
    torch.testing.assert_close(caches[1].keys, caches[0].keys)
    torch.testing.assert_close(caches[1].values, caches[0].values)


def test_without_a_gpu_it_is_torch_unless_something_else_is_asked_for() -> None:
    assert choose_kernels(checkpoint("custom")) == (PLAIN, "torch with SDPA (no GPU)")
    with pytest.raises(ValueError, match="torch with FlashAttention cannot be used: no GPU"):
        choose_kernels(checkpoint("custom"), "torch", "flash")


def test_what_is_tried_on_a_gpu() -> None:
    found = list(candidates(torch.device("cuda"), torch.bfloat16, "auto", "auto"))
    assert [(one.form, one.attention) for one in found] == [
        ("torch", "sdpa"),
        ("torch", "flash"),
        ("triton", "triton"),
        ("triton", "flash"),
    ]
    assert [(one.form, one.attention, one.why_not) for one in found][:2] == [
        ("torch", "sdpa", ""),
        ("torch", "flash", "flash_attn is not installed"),
    ]
    (exact,) = candidates(torch.device("cuda"), torch.float32, "torch", "flash")
    assert exact.why_not == "it has no float32"


@pytest.mark.usefixtures("library")
def test_what_disagrees_or_fails_is_out_and_the_fastest_of_the_rest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(gate_up: Tensor) -> Tensor:
        raise ValueError("built for another GPU")

    def slow(x: Tensor, added: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        for _ in range(50):
            add_norm(x, added, weight, eps)
        return add_norm(x, added, weight, eps)

    found = [
        backends.Candidate("torch", "sdpa", Kernels(Operations(add_norm=slow))),
        backends.Candidate("torch", "flash", FLASH),
        backends.Candidate("compiled", "sdpa", Kernels(Operations(swiglu=broken))),
        backends.Candidate("triton", "sdpa", Kernels(Operations(swiglu=lambda x: 1.01 * swiglu(x)))),
    ]
    monkeypatch.setattr(backends, "TRIED_BATCHES", (1,))
    monkeypatch.setattr(backends, "TRIED_STEPS", 3)
    monkeypatch.setattr(backends, "candidates", lambda *_: iter(found))
    kernels, why = choose_kernels(checkpoint("custom"), "triton")
    assert kernels == FLASH
    assert why.startswith("torch with FlashAttention (")
    assert "torch.compile with SDPA (it fails: ValueError: built for another GPU)" in why
    assert "Triton with SDPA (it is off by 0.0" in why
    monkeypatch.setattr(backends, "candidates", lambda *_: iter(found[2:]))
    with pytest.raises(ValueError, match=r"torch.compile with SDPA cannot be used: it fails: .*; Triton with SDPA"):
        choose_kernels(checkpoint("custom"), "triton")


def test_other_codes_are_no_agreement() -> None:
    class Wrong(Drawing):
        def _draw(self, scores: Tensor, family: int, noise: Tensor) -> Tensor:
            return scores.argmax(-1)

    assert distance(checkpoint("custom"), Kernels(drawing=Wrong)) == float("inf")


@pytest.mark.filterwarnings("ignore")  # the compiler's own: of torch.jit, distutils and setuptools
@pytest.mark.timeout(300)  # the compiler takes its time where others work beside it
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_torch_compile_speaks_the_official_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a C++ compiler; without one it is no choice."""
    # setuptools, which the compiler loads, does not put up with a distutils that another test has loaded before.
    monkeypatch.setenv("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    kernels, why = choose_kernels(checkpoint("custom"), "compiled", "sdpa")
    assert why == "torch.compile with SDPA"
    spoken = parity.speak_cases(GOLDEN_DIR, "custom", checkpoint("custom"), Runner(CPU), kernels)
    for name, wrong, off in parity.differences(spoken, read_golden(GOLDEN_DIR)):
        assert wrong == 0, name
        assert off <= 2e-6, name
