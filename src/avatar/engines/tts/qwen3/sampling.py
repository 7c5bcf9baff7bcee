"""Drawing codes, on the device: each slot has its own parameters, seed, seen codes and frame count.

The order is that of Hugging Face `generate`: repetition penalty, minimum length, suppression, temperature, top-k,
top-p. Noise is a function of (seed, frame, codebook, code) alone, so a session draws the same codes in any company.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.config import CODE_GROUPS, Draw, ModelConfig, Sampling

MIN_FRAMES = 2
"""Frames before which an utterance cannot end (`min_new_tokens` of the official package)."""
CONTROL_CODES = 1024
"""Rows at the end of the first codebook's table that are no codes: never drawn, but for the end."""
EVER = 2.0
"""More than any sum of probabilities: a top-p that cuts nothing."""


def kept_by(scores: Tensor, top_k: Tensor, top_p: Tensor, cap: int) -> Tensor:
    """Scores[B, V] with all but each row's best set to -inf; top_k[B] (1..cap) and top_p[B] choose, ties are kept.

    Candidates beyond the `cap` best do not count into the probabilities that top-p adds up.
    """
    best = scores.topk(min(cap, scores.shape[-1])).values
    fits = best >= best.gather(1, top_k.unsqueeze(1) - 1)
    chances = best.masked_fill(~fits, -torch.inf).softmax(-1)
    likelier = chances.cumsum(-1) - chances
    fits &= likelier < top_p.unsqueeze(1)
    floor = best.masked_fill(~fits, torch.inf).amin(-1, keepdim=True)
    return scores.masked_fill(scores < floor, -torch.inf)


def gumbel_noise(seeds: Tensor, frames: Tensor, width: int) -> Tensor:
    """Standard Gumbel draws float32[B, width] that depend on seeds[B], frames[B] (int64) and the column alone.

    The largest of (scores + noise) is a draw from softmax(scores).
    """
    keys = _mixed(_mixed(seeds) + frames)
    bits = _mixed(keys.unsqueeze(1) + torch.arange(width, device=seeds.device)) & (2**23 - 1)
    uniform = (bits.float() + 0.5) * 2.0**-23  # exact, and never 0 or 1
    return -(-uniform.log()).log()


def _mixed(x: Tensor) -> Tensor:
    """The output function of SplitMix64 (Steele et al. 2014) after one step, on int64 that wraps."""
    x = x * -0x61C8864680B583EB + -0x61C8864680B583EB
    x = (x ^ _shifted(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shifted(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    return (x >> by) & ((1 << (64 - by)) - 1)


@dataclass(frozen=True)
class Drawing:
    """The draws of one frame, for the rows of a batch; made by `Sampler.frame`, used once."""

    sampler: "Sampler"
    slots: Tensor
    noise: Tensor

    def first(self, logits: Tensor) -> Tensor:
        """First codes, the end among them: logits[B, codec_vocab] -> codes[B]. Counts the frame and what was drawn."""
        sampler, slots = self.sampler, self.slots
        scores, seen, frames = logits.float(), sampler.seen[slots], sampler.frames[slots]
        penalty = sampler.penalty[slots].unsqueeze(1)
        scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
        early = (frames < MIN_FRAMES).unsqueeze(1)
        scores = scores.masked_fill(sampler.suppressed | (early & sampler.ends), -torch.inf)
        codes = self._draw(scores, 0, self.noise[:, : scores.shape[1]])
        sampler.seen.index_copy_(0, slots, seen.scatter(1, codes.unsqueeze(1), True))
        sampler.frames.index_copy_(0, slots, frames + 1)
        return codes

    def other(self, n: int, logits: Tensor) -> Tensor:
        """The code after the n-th: logits[B, code_vocab] -> codes[B]."""
        width = logits.shape[1]
        start = self.sampler.suppressed.shape[0] + n * width
        return self._draw(logits.float(), 1, self.noise[:, start : start + width])

    def _draw(self, scores: Tensor, family: int, noise: Tensor) -> Tensor:
        sampler, slots = self.sampler, self.slots
        warped = kept_by(
            scores / sampler.temperature[slots, family].unsqueeze(1),
            sampler.top_k[slots, family],
            sampler.top_p[slots, family],
            sampler.top_k_cap,
        )
        return (warped + noise * sampler.noisy[slots, family].unsqueeze(1)).argmax(-1)


class Sampler:
    """Sampling state of all slots, on the device. [slots, 2] holds the talker's value, then the predictor's."""

    def __init__(
        self,
        config: ModelConfig,
        slots: int,
        *,
        device: torch.device | str = "cpu",
        top_k_cap: int = 64,
        drawing: type[Drawing] = Drawing,
    ) -> None:
        self.top_k_cap = top_k_cap
        self._drawing = drawing
        self.temperature = torch.ones(slots, 2, device=device)
        self.top_k = torch.ones(slots, 2, dtype=torch.int64, device=device)
        self.top_p = torch.full((slots, 2), EVER, device=device)
        self.noisy = torch.zeros(slots, 2, device=device)
        self.penalty = torch.ones(slots, device=device)
        self.seeds = torch.zeros(slots, dtype=torch.int64, device=device)
        self.frames = torch.zeros(slots, dtype=torch.int64, device=device)
        self.seen = torch.zeros(slots, config.codec_vocab, dtype=torch.bool, device=device)
        codes = torch.arange(config.codec_vocab, device=device)
        self.ends = codes == config.codec_ids.eos
        self.suppressed = (codes >= config.codec_vocab - CONTROL_CODES) & ~self.ends
        self._noise_width = config.codec_vocab + (CODE_GROUPS - 1) * config.code_vocab

    def open(self, slot: int, sampling: Sampling, seed: int) -> None:
        """Begin an utterance in a slot: nothing seen, no frame yet. Raises `ValueError` for what cannot be drawn."""
        for family, draw in enumerate((sampling.talker, sampling.predictor)):
            self._check(draw)
            # filled, not copied: a copy from the host would wait for the device
            self.temperature[slot, family].fill_(draw.temperature if draw.sample else 1.0)
            self.top_k[slot, family].fill_(draw.top_k if draw.sample else 1)
            self.top_p[slot, family].fill_(draw.top_p if draw.top_p < 1 else EVER)
            self.noisy[slot, family].fill_(float(draw.sample))
        self.penalty[slot].fill_(sampling.repetition_penalty)
        self.seeds[slot].fill_(seed)
        self.frames[slot].fill_(0)
        self.seen[slot].fill_(False)

    def frame(self, slots: Tensor) -> Drawing:
        """The draws of the next frame of slots[B]."""
        return self._drawing(self, slots, gumbel_noise(self.seeds[slots], self.frames[slots], self._noise_width))

    def _check(self, draw: Draw) -> None:
        if draw.temperature <= 0:
            raise ValueError(f"temperature must be above 0, not {draw.temperature}; sample=False takes the likeliest.")
        if not 1 <= draw.top_k <= self.top_k_cap:
            raise ValueError(f"top_k must be 1 to {self.top_k_cap}, not {draw.top_k}.")
        if not 0 < draw.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {draw.top_p}.")
