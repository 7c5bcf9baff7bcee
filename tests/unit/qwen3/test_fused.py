"""The Triton kernels against torch, in Triton's interpreter: any shapes, and a model's own.

Whether they pay is measured on a GPU, at each start and by `benchmarks/qwen3_gpu.py`.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar.engines.tts.qwen3 import operations
from avatar.engines.tts.qwen3.attention import KVCache, frame_attention
from avatar.engines.tts.qwen3.backends import choose_kernels
from avatar.engines.tts.qwen3.config import Draw, Sampling
from avatar.engines.tts.qwen3.kernels import PLAIN
from avatar.engines.tts.qwen3.sampling import Drawing, Sampler
from avatar.engines.tts.qwen3.speech import Request
from avatar.engines.tts.qwen3.ticks import Limits
from tests.unit.qwen3.models import checkpoint, heads
from tests.unit.qwen3.ticking import Stage

pytest.importorskip("triton", reason="Triton is not made for this system")
if torch.cuda.is_available():
    pytest.skip("the device runs them itself: benchmarks/qwen3_gpu.py", allow_module_level=True)

from avatar.engines.tts.qwen3 import fused

SEEDS = st.integers(0, 2**31 - 1)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
FEW = settings(max_examples=15, deadline=None)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(made: torch.Tensor, expected: torch.Tensor) -> None:
    """As near as the type allows: torch rounds to bfloat16 after each operation, a kernel once."""
    loose = made.dtype == torch.bfloat16
    torch.testing.assert_close(made, expected, rtol=2e-2 if loose else 1e-5, atol=2e-2 if loose else 1e-5)


@FEW
@given(rows=st.integers(1, 3), width=st.integers(1, 100), added=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_a_sum_and_its_norm(rows: int, width: int, added: bool, dtype: torch.dtype, seed: int) -> None:
    x, more = random(2, rows, 1, width, seed=seed, dtype=dtype)
    weight = random(width, seed=seed + 1, dtype=dtype)
    for made, expected in zip(
        fused.add_norm(x, more if added else None, weight, 1e-6),
        operations.add_norm(x, more if added else None, weight, 1e-6),
        strict=True,
    ):
        close(made, expected)


@FEW
@given(rows=st.integers(1, 3), width=st.integers(1, 1100), dtype=DTYPES, seed=SEEDS)
def test_swiglu(rows: int, width: int, dtype: torch.dtype, seed: int) -> None:
    gate_up = random(rows, 1, 2 * width, seed=seed, dtype=dtype)
    close(fused.swiglu(gate_up), operations.swiglu(gate_up))


@FEW
@given(
    batch=st.integers(1, 3),
    length=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    group=st.sampled_from([1, 2, 4]),
    dim=st.sampled_from([2, 8, 16]),
    seed=SEEDS,
)
def test_attention_over_slots(batch: int, length: int, kv_heads: int, group: int, dim: int, seed: int) -> None:
    """Rows of any slots at any positions, given as columns of a wider tensor; other slots are left alone."""
    shape = (2, 5, kv_heads, 70, dim)
    caches = [kind(random(*shape, seed=seed), random(*shape, seed=seed + 1)) for kind in (KVCache, fused.FusedKVCache)]
    chance = torch.Generator().manual_seed(seed)
    rows = torch.stack(
        [torch.randperm(5, generator=chance)[:batch], torch.randint(0, 68, (batch,), generator=chance)], 1
    )
    positions = rows[:, 1:] + torch.arange(length)
    made = heads(batch, length, count=group * kv_heads, kv_heads=kv_heads, dim=dim, seed=seed)
    mixed = [cache.attention(rows[:, 0], positions, 70)(1, made) for cache in caches]
    close(mixed[1], mixed[0])
    close(caches[1].keys, caches[0].keys)
    close(caches[1].values, caches[0].values)


@pytest.mark.parametrize("lengths", [(2, 1, 1, 1), (1, 2, 1), (3, 1)])
def test_attention_within_a_frame(lengths: tuple[int, ...]) -> None:
    config = heads(1, 1, count=4, kv_heads=2, dim=8, seed=0).config
    places = torch.arange(16)
    plain, fast = (make(config, 3, places, random(1, seed=0)) for make in (frame_attention, fused.frame_attention))
    for seed, length in enumerate(lengths):
        made = heads(3, length, count=4, kv_heads=2, dim=8, seed=seed)
        close(fast(0, made), plain(0, made))
        plain.start += length
        fast.start += length


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(64, 200),
    draw=st.builds(
        Draw,
        sample=st.booleans(),
        temperature=st.floats(0.1, 3),
        top_k=st.integers(1, 64),
        top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    ),
    barred=st.integers(0, 60),
    seed=SEEDS,
)
def test_draws(width: int, draw: Draw, barred: int, seed: int) -> None:
    drawn = []
    for kind in (Drawing, fused.FusedDrawing):
        sampler = Sampler(checkpoint("custom").config, 4, drawing=kind)
        for slot in range(4):
            sampler.open(slot, Sampling(talker=draw, predictor=draw), seed + slot)
        scores = 3 * random(3, width, seed=seed)
        scores[:, :barred] = -torch.inf
        drawn.append(sampler.frame(torch.tensor([3, 0, 2])).other(1, scores))
    assert torch.equal(*drawn)


def test_ties_with_the_last_one_kept_stay() -> None:
    """As Hugging Face's top-k leaves them: all four are drawn."""
    scores, seen = torch.tensor([[3.0, 3.0, 3.0, 3.0, 0.0]]), set()
    for seed in range(40):
        sampler = Sampler(checkpoint("custom").config, 1, drawing=fused.FusedDrawing)
        sampler.open(0, Sampling(predictor=Draw(top_k=2)), seed)
        seen.add(int(sampler.frame(torch.tensor([0])).other(0, scores)))
    assert seen == {0, 1, 2, 3}


def test_the_tick_loop_speaks_the_same_codes_on_them() -> None:
    kernels, why = choose_kernels(checkpoint("custom"), "triton", "triton")
    assert why == "Triton"
    limits = Limits(slots=1, max_positions=64, buckets=(1,), contexts=())
    request = Request("serena", "english", sampling=Sampling(max_frames=2), seed=7, end="never", paced=False)
    made, expected = (Stage(limits, kernels=one).say(request) for one in (kernels, PLAIN))
    assert len(made.codes) == 2
    torch.testing.assert_close(made.codes, expected.codes, rtol=0, atol=0)
    torch.testing.assert_close(made.pcm, expected.pcm, rtol=0, atol=2e-6)
