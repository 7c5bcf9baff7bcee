"""Triton kernels for single steps: what torch does in twenty small kernels a layer, in five.

Imported only when they are wanted: Triton is optional. Without a GPU they run in Triton's interpreter
(`TRITON_INTERPRET=1`), which is for tests. All arithmetic between load and store is float32, so in bfloat16 the results
are not torch's bit for bit: it rounds after each operation. Widths are padded to powers of two and masked.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Kernels have no types that Python knows.

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from avatar.engines.tts.qwen3.attention import FrameAttention, KVCache
from avatar.engines.tts.qwen3.config import TransformerConfig
from avatar.engines.tts.qwen3.kernels import Kernels
from avatar.engines.tts.qwen3.layers import Attention, Heads
from avatar.engines.tts.qwen3.operations import Operations, snake, turned
from avatar.engines.tts.qwen3.sampling import Drawing

POSITIONS_AT_ONCE = 32
"""Keys that a program looks at in one go: 2 × 32 × 128 products in the registers of 128 threads."""
SHORT = 2
"""Positions of a call up to which it is a step: the predictor's first takes two. Longer ones are SDPA's."""


@triton.jit
def _add_norm(x, added, weight, total, normed, width, eps, HAS_ADDED: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """One row: the sum of two and its RMS norm."""
    row = tl.program_id(0).to(tl.int64) * width
    at = tl.arange(0, BLOCK)
    inside = at < width
    wide = tl.load(x + row + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_ADDED:
        both = wide + tl.load(added + row + at, mask=inside, other=0.0).to(tl.float32)
        rounded = both.to(total.dtype.element_ty)
        tl.store(total + row + at, rounded, mask=inside)
        wide = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, 0) / width + eps)
    scaled = wide * scale * tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed + row + at, scaled.to(normed.dtype.element_ty), mask=inside)


@triton.jit
def _swiglu(gate_up, out, width, BLOCK: tl.constexpr):  # noqa: N803
    """A part of a row: silu(first half) × second half."""
    row, at = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < width
    gate = tl.load(gate_up + row * 2 * width + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + at, (gate / (1 + tl.exp(-gate)) * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _turn(
    projected, norms, cos, sin, queries, keys, values, slots, positions, turns, placed, length, eps,
    slot_stride, head_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """One head of one row: a query is normed, turned and put out, a key too and put into its slot, a value only that.

    Rows of a call of `length` positions lie one after the other; `turns` and `placed` are the rows of cos and of
    positions, which come round again.
    """
    row, head = tl.program_id(0), tl.program_id(1)
    at = tl.arange(0, DIM)
    rolled = (at + DIM // 2) % DIM
    source = projected + (row.to(tl.int64) * (HEADS + 2 * KV_HEADS) + head) * DIM
    out = tl.load(source + at).to(tl.float32)
    slot = tl.load(slots + row // length).to(tl.int64)
    place = slot * slot_stride + tl.load(positions + row % placed).to(tl.int64) * DIM + at
    if head < HEADS + KV_HEADS:
        other = tl.load(source + rolled).to(tl.float32)
        scale = tl.rsqrt(tl.sum(out * out, 0) / DIM + eps)
        out = out * scale * tl.load(norms + head * DIM + at).to(tl.float32)
        other = other * scale * tl.load(norms + head * DIM + rolled).to(tl.float32)
        turn = (row % turns) * DIM + at
        out = out * tl.load(cos + turn).to(tl.float32) + other * tl.load(sin + turn).to(tl.float32)
    if head < HEADS:
        tl.store(queries + (row.to(tl.int64) * HEADS + head) * DIM + at, out.to(queries.dtype.element_ty))
    elif head < HEADS + KV_HEADS:
        tl.store(keys + place + (head - HEADS) * head_stride, out.to(keys.dtype.element_ty))
    else:
        tl.store(values + place + (head - HEADS - KV_HEADS) * head_stride, out.to(values.dtype.element_ty))


@triton.jit
def _attend(
    queries, keys, values, out, slots, positions, placed, length, scale, slot_stride, head_stride,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The queries of one row that share a key head, on all positions of their slot up to their own (Milakov and
    Gimelshein 2018: the softmax is corrected as larger scores come).
    """
    row, kv_head = tl.program_id(0), tl.program_id(1)
    at, dims = tl.arange(0, BLOCK), tl.arange(0, DIM)
    mine = (row.to(tl.int64) * KV_HEADS + kv_head) * GROUP * DIM + tl.arange(0, GROUP)[:, None] * DIM + dims[None, :]
    asked = tl.load(queries + mine).to(tl.float32) * scale
    last = tl.load(positions + row % placed)
    begin = tl.load(slots + row // length).to(tl.int64) * slot_stride + kv_head * head_stride
    top = tl.full((GROUP,), float("-inf"), tl.float32)
    weight = tl.zeros((GROUP,), tl.float32)
    mixed = tl.zeros((GROUP, DIM), tl.float32)
    for start in range(0, last + 1, BLOCK):
        seen = start + at <= last
        rows = begin + (start + at)[:, None] * DIM + dims[None, :]
        past = tl.load(keys + rows, mask=seen[:, None], other=0.0).to(tl.float32)
        scores = tl.sum(asked[:, None, :] * past[None, :, :], 2)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        chances = tl.exp(scores - higher[:, None])
        shrink = tl.exp(top - higher)
        past = tl.load(values + rows, mask=seen[:, None], other=0.0).to(tl.float32)
        mixed = mixed * shrink[:, None] + tl.sum(chances[:, :, None] * past[None, :, :], 1)
        weight = weight * shrink + tl.sum(chances, 1)
        top = higher
    tl.store(out + mine, (mixed / weight[:, None]).to(out.dtype.element_ty))


@triton.jit
def _draw(
    scores, noise, codes, slots, temperature, top_k, top_p, noisy, family, width, noise_stride, BLOCK: tl.constexpr  # noqa: N803
):  # fmt: skip
    """One row: temperature, top-k, top-p, and the likeliest with its noise. What is kept is found by halving the range
    of float32's bits, 32 times, instead of sorting.
    """
    row, at = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    mine = tl.load(slots + row) * 2 + family
    inside = at < width
    score = tl.load(scores + row * width + at, mask=inside, other=float("-inf")).to(tl.float32)
    score = tl.math.div_rn(score, tl.load(temperature + mine))
    bits = score.to(tl.int32, bitcast=True)
    order = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)  # as integers they are in the order of the scores
    order = tl.where(inside, order, -0x80000000)
    count = tl.load(top_k + mine)
    low, high = tl.full((), -0x7FFFFFFF, tl.int64), tl.full((), 0x7FFFFFFF, tl.int64)
    for _ in range(32):  # the highest that `count` scores reach
        middle = low + (high - low + 1) // 2
        enough = tl.sum((order >= middle).to(tl.int32), 0) >= count
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    kept = order >= low
    share = tl.load(top_p + mine)
    if share < 1:
        chances = tl.where(kept, tl.exp(score - tl.max(score, 0)), 0.0)
        wanted = share * tl.sum(chances, 0)
        high = tl.full((), 0x7FFFFFFF, tl.int64)
        for _ in range(32):  # the lowest above which there is less than the share
            middle = low + (high - low) // 2
            less = tl.sum(tl.where(order > middle, chances, 0.0), 0) < wanted
            high = tl.where(less, middle, high)
            low = tl.where(less, low, middle + 1)
        kept = kept & (order >= high)
    drawn = score + tl.load(noise + row * noise_stride + at, mask=inside, other=0.0) * tl.load(noisy + mine)
    tl.store(codes + row, tl.argmax(tl.where(kept & inside, drawn, float("-inf")), 0).to(tl.int64))


def add_norm(x: Tensor, added: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    x, added, width = x.contiguous(), None if added is None else added.contiguous(), x.shape[-1]
    total, normed = x if added is None else torch.empty_like(x), torch.empty_like(x)
    _launch(
        _add_norm, (x.numel() // width,), x, x if added is None else added, weight, total, normed, width, eps,
        HAS_ADDED=added is not None, BLOCK=triton.next_power_of_2(width),
    )  # fmt: skip
    return total, normed


def swiglu(gate_up: Tensor) -> Tensor:
    width = gate_up.shape[-1] // 2
    out = gate_up.new_empty((*gate_up.shape[:-1], width))
    block = min(1024, triton.next_power_of_2(width))
    _launch(_swiglu, (out.numel() // width, triton.cdiv(width, block)), gate_up.contiguous(), out, width, BLOCK=block)
    return out


def attend(heads: Heads, keys: Tensor, values: Tensor, slots: Tensor, positions: Tensor) -> Tensor:
    """Write the keys and values of `heads` into their slots, and look at all up to them.

    keys and values[slots, kv_heads, positions, d], slots[B], positions[B, T] or [T].
    """
    config, (batch, length) = heads.config, heads.projected.shape[:2]
    rows, dim, group = batch * length, config.head_dim, config.heads // config.kv_heads
    queries = heads.projected.new_empty(batch, length, config.heads, dim)
    strides = keys.stride(0), keys.stride(1)
    _launch(
        _turn, (rows, config.heads + 2 * config.kv_heads),
        heads.projected.contiguous(), heads.norms, heads.cos, heads.sin, queries, keys, values, slots, positions,
        heads.cos.numel() // dim, positions.numel(), length, config.norm_eps, *strides,
        HEADS=config.heads, KV_HEADS=config.kv_heads, DIM=dim,
    )  # fmt: skip
    mixed = torch.empty_like(queries)
    _launch(
        _attend, (rows, config.kv_heads),
        queries, keys, values, mixed, slots, positions, positions.numel(), length, dim**-0.5, *strides,
        KV_HEADS=config.kv_heads, GROUP=group, DIM=dim, BLOCK=POSITIONS_AT_ONCE,
    )  # fmt: skip
    return mixed


class FusedKVCache(KVCache):
    """A cache whose single steps write and read slots where they are, and read only what is there."""

    def attention(self, slots: Tensor, positions: Tensor, context: int) -> Attention:
        if positions.shape[1] > SHORT:
            return super().attention(slots, positions, context)
        slots, positions = slots.contiguous(), positions.contiguous()
        return lambda layer, heads: attend(heads, self.keys[layer], self.values[layer], slots, positions)


@dataclass
class FusedFrameAttention(FrameAttention):
    slots: Tensor | None = None

    def __call__(self, layer: int, heads: Heads) -> Tensor:
        assert self.slots is not None
        length = heads.projected.shape[1]
        if length > SHORT:
            return super().__call__(layer, heads)
        positions = self.places[self.start : self.start + length]
        return attend(heads, self.keys[layer], self.values[layer], self.slots, positions)


def frame_attention(config: TransformerConfig, rows: int, places: Tensor, like: Tensor) -> FrameAttention:
    shape = (config.layers, rows, config.kv_heads, len(places), config.head_dim)
    slots = torch.arange(rows, device=like.device)
    return FusedFrameAttention(like.new_empty(shape), like.new_empty(shape), places, slots=slots)


class FusedDrawing(Drawing):
    """One kernel a draw; candidates beyond the sampler's cap that tie with the last one do count into top-p."""

    def _draw(self, scores: Tensor, family: int, noise: Tensor) -> Tensor:
        sampler, width = self.sampler, scores.shape[1]
        codes = torch.empty(len(scores), dtype=torch.int64, device=scores.device)
        _launch(
            _draw, (len(scores),), scores.contiguous(), noise, codes, self.slots.contiguous(),
            sampler.temperature, sampler.top_k, sampler.top_p, sampler.noisy, family, width, noise.stride(0),
            BLOCK=triton.next_power_of_2(width),
        )  # fmt: skip
        return codes


KERNELS = Kernels(Operations(add_norm, swiglu, turned, snake), FusedKVCache, frame_attention, FusedDrawing)


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: object, **shapes: object) -> None:
    kernel[grid](*arguments, **shapes)
