"""The kernels that a step runs on: torch's, which are always there, or FlashAttention, Triton and `torch.compile`.

Chosen once, at the start, by trying: what fails or does not agree with torch on a step of the model is out, and of the
rest the fastest is taken. Knows no sessions.
"""

import importlib
import importlib.util
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.config import CODE_GROUPS, Draw, Sampling
from avatar.engines.tts.qwen3.graphs import Runner
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.layers import Attention as Attend
from avatar.engines.tts.qwen3.layers import Heads
from avatar.engines.tts.qwen3.operations import compiled
from avatar.engines.tts.qwen3.sampling import Sampler
from avatar.engines.tts.qwen3.steps import SpeakRow, Steps

Attention = Literal["auto", "sdpa", "flash", "triton"]
Form = Literal["auto", "torch", "compiled", "triton"]

AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}
"""How far the results of a step may be from torch's, over their size: rounding grows layer by layer."""
TRIED_BATCHES, TRIED_STEPS, TRIED_POSITIONS = (1, 16), 20, 256  # half a GB of keys and values, for a moment
WAYS: dict[str, tuple[Attention, ...]] = {
    "torch": ("sdpa", "flash"),
    "triton": ("triton", "flash"),
    "compiled": ("sdpa", "flash"),
}
NAMES = {"sdpa": "SDPA", "flash": "FlashAttention", "triton": "Triton", "torch": "torch", "compiled": "torch.compile"}


class FlashKVCache(KVCache):
    """A cache whose single steps are FlashAttention's decode kernel: it writes and reads slots where they are.

    SDPA needs the rows' keys and values gathered first, which costs three times their bytes.
    """

    def attention(self, slots: Tensor, positions: Tensor, context: int) -> Attend:
        if positions.shape[1] > 1:
            return super().attention(slots, positions, context)
        step = importlib.import_module("flash_attn").flash_attn_with_kvcache
        rows, lengths = slots.int(), positions[:, 0].int()

        def attend(layer: int, heads: Heads) -> Tensor:
            queries, keys, values = heads.turned()
            mixed: Tensor = step(
                queries,
                self.keys[layer, :, :, :context].transpose(1, 2),
                self.values[layer, :, :, :context].transpose(1, 2),
                k=keys,
                v=values.contiguous(),
                cache_seqlens=lengths,
                cache_batch_idx=rows,
                causal=True,
            )
            return mixed

        return attend


@dataclass(frozen=True)
class Candidate:
    """A form of the small operations, and one of attention. `kernels`: None if it cannot be, `why_not` says why."""

    form: str
    attention: str
    kernels: Kernels | None = None
    why_not: str = ""
    ms: float = math.inf
    """Of a frame of one stream and one of 16; infinite if it was not measured."""

    @property
    def name(self) -> str:
        if self.form == self.attention:
            return NAMES[self.form]
        return f"{NAMES[self.form]} with {NAMES[self.attention]}"

    def __str__(self) -> str:
        return f"{self.name} ({self.why_not or f'{self.ms:.1f} ms'})"


def choose_kernels(
    checkpoint: Checkpoint, form: Form = "auto", attention: Attention = "auto", *, graphs: bool = True
) -> tuple[Kernels, str]:
    """The kernels to use for a model, and why, in words. Raises `ValueError` if what is asked for cannot be."""
    table = checkpoint.talker.codec_embedding
    if table.device.type == "cpu" and form in ("auto", "torch") and attention in ("auto", "sdpa"):
        return PLAIN, "torch with SDPA (no GPU)"
    found = [tried(checkpoint, candidate) for candidate in candidates(table.device, table.dtype, form, attention)]
    able = [candidate for candidate in found if candidate.kernels is not None]
    if not able:
        raise ValueError(f"{'; '.join(f'{one.name} cannot be used: {one.why_not}' for one in found)}.")
    if len(able) == 1:
        best, measured = able[0], ""
    else:
        able = [_timed(checkpoint, one, graphs=graphs) for one in able]
        best = min(able, key=lambda one: one.ms)
        measured = f" ({best.ms:.1f} ms for a frame of 1 and one of 16)"
    rest = [one for one in able if one is not best] + [one for one in found if one.kernels is None]
    assert best.kernels is not None
    return best.kernels, best.name + measured + (f"; not {'; '.join(map(str, rest))}" if rest else "")


def candidates(device: torch.device, dtype: torch.dtype, form: Form, attention: Attention) -> Iterator[Candidate]:
    """What could be used, the plainest first. `torch.compile` takes its time, so it must be asked for."""
    for one in ("torch", "triton") if form == "auto" else (form,):
        for other in WAYS[one] if attention == "auto" else (attention,):
            try:
                yield Candidate(one, other, replace(_form(one, device), cache=_cache(other, device, dtype)))
            except (ValueError, ImportError) as error:
                yield Candidate(one, other, why_not=str(error))


def _form(name: str, device: torch.device) -> Kernels:
    if name == "torch":
        return PLAIN
    return Kernels(compiled()) if name == "compiled" else _triton(device)


def _cache(name: str, device: torch.device, dtype: torch.dtype) -> type[KVCache]:
    if name == "sdpa":
        return KVCache
    if name == "triton":
        return _triton(device).cache
    if device.type != "cuda":
        raise ValueError("no GPU")
    if dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"it has no {str(dtype).removeprefix('torch.')}")
    if importlib.util.find_spec("flash_attn") is None:
        raise ValueError("flash_attn is not installed")
    return FlashKVCache


def _triton(device: torch.device) -> Kernels:
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError("no GPU")
    if importlib.util.find_spec("triton") is None:
        raise ValueError("triton is not installed")
    kernels: Kernels = importlib.import_module("avatar.engines.tts.qwen3.fused").KERNELS
    return kernels


def tried(checkpoint: Checkpoint, candidate: Candidate) -> Candidate:
    """The candidate, or without kernels if they fail or give something else than torch's."""
    if candidate.kernels is None or candidate.kernels == PLAIN:
        return candidate
    try:
        off = distance(checkpoint, candidate.kernels)
    except Exception as error:  # built for another torch, another GPU, another CUDA; no compiler
        return replace(candidate, kernels=None, why_not=f"it fails: {type(error).__name__}: {str(error)[:200]}")
    bound = AGREEMENT[checkpoint.talker.codec_embedding.dtype]
    return candidate if off <= bound else replace(candidate, kernels=None, why_not=f"it is off by {off:.2g}")


def _timed(checkpoint: Checkpoint, candidate: Candidate, *, graphs: bool) -> Candidate:
    assert candidate.kernels is not None
    try:
        each_ms = [
            frame_ms(checkpoint, candidate.kernels, graphs=graphs, batch=batch, repeats=TRIED_STEPS)
            for batch in TRIED_BATCHES
        ]
    except Exception as error:  # it cannot be captured, or there is no memory
        return replace(candidate, why_not=f"it fails: {type(error).__name__}: {str(error)[:200]}")
    return replace(candidate, ms=sum(each_ms))


@torch.no_grad()
def distance(checkpoint: Checkpoint, kernels: Kernels) -> float:
    """How far a step on these kernels is from torch's, over its size; infinite if other codes are drawn.

    Three rows look back 3, 200 and 0 positions; then come a frame's fifteen logits and its draws.
    """
    (expected, logits, codes), (made, made_logits, made_codes) = (_step(checkpoint, one) for one in (PLAIN, kernels))
    if not (torch.equal(codes, made_codes) and torch.equal(*(_drawn(checkpoint, one) for one in (PLAIN, kernels)))):
        return math.inf
    pairs = ((expected, made), (logits, made_logits))
    return max(float((ours - theirs).norm() / theirs.norm()) for theirs, ours in pairs)


def _step(checkpoint: Checkpoint, kernels: Kernels) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, all logits of the predictor (for given codes) in float32, and the frame's codes."""
    model, talker = checkpoint.using(kernels), checkpoint.talker
    table, reach = talker.codec_embedding, min(TRIED_POSITIONS, len(talker.transformer.cos))
    cache = kernels.cache.allocate(model.config.talker, 5, reach, device=table.device, dtype=table.dtype)
    chance = torch.Generator(table.device).manual_seed(0)
    for past in (cache.keys, cache.values):
        past.normal_(generator=chance)
    slots, positions = (torch.tensor(n, device=table.device) for n in ([4, 0, 2], [3, min(200, reach - 1), 0]))
    hidden = model.talker.step(table[:3], cache, slots, positions, reach)
    kept: list[Tensor] = []

    def draw(n: int, logits: Tensor) -> Tensor:
        kept.append(logits.float())
        return slots + n

    codes = model.predictor.frame(talker.step(table[:3], _same(cache), slots, positions, reach), slots, draw)
    return hidden.float(), torch.stack(kept), codes


def _same(cache: KVCache) -> KVCache:
    return KVCache(cache.keys.clone(), cache.values.clone())


def _drawn(checkpoint: Checkpoint, kernels: Kernels) -> Tensor:
    """A frame's codes of random scores: the likeliest, drawn by top-k, and drawn by top-k and top-p."""
    device, config = checkpoint.talker.codec_embedding.device, checkpoint.config
    sampler = Sampler(config, 3, device=device, drawing=kernels.drawing)
    for slot, draw in enumerate((Draw(sample=False), Draw(), Draw(top_k=40, top_p=0.8, temperature=1.3))):
        sampler.open(slot, Sampling(talker=draw, predictor=draw), seed=slot)
    chance = torch.Generator(device).manual_seed(0)
    scores = 3 * torch.randn(CODE_GROUPS, 3, config.codec_vocab, generator=chance, device=device)
    drawing = sampler.frame(torch.arange(3, device=device))
    others = [drawing.other(n, one[:, : config.code_vocab]) for n, one in enumerate(scores[1:])]
    return torch.stack([drawing.first(scores[0]), *others])


def frame_ms(
    checkpoint: Checkpoint,
    kernels: Kernels = PLAIN,
    *,
    graphs: bool = True,
    batch: int = 1,
    reach: int = TRIED_POSITIONS,
    repeats: int = TRIED_STEPS,
) -> float:
    """How long a frame of `batch` streams takes that look back as far as they can. Raises what fails."""
    device, reach = checkpoint.talker.codec_embedding.device, min(reach, len(checkpoint.talker.transformer.cos))
    steps, runner = Steps(checkpoint, batch, reach, kernels), Runner(device, graphs=graphs)
    rows = [SpeakRow(slot, reach - 1, 0, may_end=True, frame=0).values() for slot in range(batch)]
    return runner.time_ms(("speak", batch, reach), partial(steps.speak, context=reach), rows, repeats)
