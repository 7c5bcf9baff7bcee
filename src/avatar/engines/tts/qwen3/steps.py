"""What a tick runs on the device: the next frame of a batch of slots, and audio of frames that are made.

All state is in tensors with a row for each slot and one more, the scratch slot, that fills batches up. Both steps take
their batch as one int64 tensor and choose nothing by values, so they can be captured in CUDA graphs. Knows no session
and no schedule.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.attention import Prefix
from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.codec import DecoderSnapshot, DecoderState
from avatar.engines.tts.qwen3.config import CODE_GROUPS, Sampling
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.sampling import Sampler

RING_FRAMES = 16
"""Frames a slot keeps until they are decoded: a chunk of 8, and as many made meanwhile."""
NO_TEXT = -1
"""As a text token: the row's input holds its text already."""


@dataclass(frozen=True)
class SpeakRow:
    """A slot's place in a speaking batch: where its input goes, the token laid over it, whether speech may end."""

    slot: int
    position: int
    text: int
    may_end: bool
    frame: int

    def values(self) -> tuple[int, ...]:
        return self.slot, self.position, self.text, self.may_end, self.frame % RING_FRAMES


class Steps:
    """One model's slots. `slots` streams at once, each of at most `max_positions`, prompt included."""

    def __init__(self, checkpoint: Checkpoint, slots: int, max_positions: int, kernels: Kernels = PLAIN) -> None:
        known = len(checkpoint.talker.transformer.cos)
        if max_positions > known:
            raise ValueError(f"The checkpoint was loaded for {known} positions, not {max_positions}.")
        table = checkpoint.talker.codec_embedding
        self.device, self.dtype = table.device, table.dtype
        self.checkpoint = checkpoint if kernels == PLAIN else checkpoint.using(kernels)
        self.scratch = slots
        rows, config = slots + 1, checkpoint.config
        self.cache = kernels.cache.allocate(config.talker, rows, max_positions, device=self.device, dtype=self.dtype)
        self.sampler = Sampler(config, rows, device=self.device, drawing=kernels.drawing)
        self.decoding = DecoderState.allocate(checkpoint.codec_config.decoder, rows, self.device)
        self._inputs = torch.zeros(rows, config.talker.hidden, device=self.device, dtype=self.dtype)
        self._codes = torch.zeros(rows, RING_FRAMES, CODE_GROUPS, dtype=torch.int64, device=self.device)
        self._ids = torch.arange(max(rows, RING_FRAMES, max_positions + 1), device=self.device)

    @torch.no_grad()
    def prefix(self, rows: Tensor) -> Prefix:
        """What reading rows[T, H] leaves behind, from the first position on."""
        self._read(rows, self.scratch, 0)
        return self.cache.snapshot(self.scratch, len(rows))

    @torch.no_grad()
    def begin(
        self, slot: int, prefix: Prefix, rows: Tensor, sampling: Sampling, seed: int, decoder: DecoderSnapshot | None
    ) -> int:
        """Start an utterance: what is read already, the prompt's other rows[T, H], T >= 1, and where audio goes on.

        The last row becomes the slot's input, so that the first frame is a frame like any other. Returns its position.
        Raises `ValueError` for sampling parameters that cannot be.
        """
        self.sampler.open(slot, sampling, seed)
        if decoder is None:
            self.decoding.reset(self._ids[slot : slot + 1])
        else:
            self.decoding.restore(slot, decoder)
        self.cache.restore(slot, prefix)
        if len(rows) > 1:
            self._read(rows[:-1], slot, prefix.length)
        self._inputs[slot] = rows[-1]
        return prefix.length + len(rows) - 1

    def _read(self, rows: Tensor, slot: int, start: int) -> None:
        length, at, starts = (self._ids[n : n + 1] for n in (len(rows), slot, start))
        self.checkpoint.talker.prefill(rows[None], length, self.cache, at, starts if start else None)

    @torch.no_grad()
    def speak(self, rows: Tensor, context: int) -> Tensor:
        """One frame: rows[B, 5] of `SpeakRow` -> codes[B, 16]. All positions are below `context`."""
        slots, positions, text, may_end, place = rows.t().contiguous()  # kernels want them in one piece
        talker, predictor, sampler = self.checkpoint.talker, self.checkpoint.predictor, self.sampler
        laid_over = talker.text(text.clamp(min=0)) * (text >= 0).unsqueeze(1).to(self.dtype)
        hidden = talker.step(self._inputs[slots] + laid_over, self.cache, slots, positions, context)
        barred = (may_end == 0).unsqueeze(1) & sampler.ends
        drawing = sampler.frame(slots)
        first = drawing.first(talker.logits(hidden).masked_fill(barred, -torch.inf))
        codes = predictor.frame(hidden, first, drawing.other)
        self._inputs[slots] = predictor.embed(codes)
        self._codes[slots, place] = codes
        return codes

    @torch.no_grad()
    def decode(self, rows: Tensor, frames: int) -> Tensor:
        """Audio: rows[B, 2], each a slot and its first frame to decode -> float32[B, frames * 1920], -1..1.

        The code that ends speech sounds like the last one: whoever knows of it cuts that off.
        """
        slots, first = rows.unbind(1)
        places = (first.unsqueeze(1) + self._ids[:frames]) % RING_FRAMES
        codes = self._codes[slots.unsqueeze(1), places].clamp(max=self.checkpoint.config.code_vocab - 1)
        return self.checkpoint.decoder.step(codes.transpose(1, 2), self.decoding, slots)
