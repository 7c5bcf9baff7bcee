"""Which form of a step's small operations an engine uses: torch's, compiled ones, or others that agree with them.

A bundle, so that whoever runs steps is told once. Chooses nothing: that is `backends`' business.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from avatar.engines.tts.qwen3.attention import FrameAttention, KVCache, frame_attention
from avatar.engines.tts.qwen3.config import TransformerConfig
from avatar.engines.tts.qwen3.operations import TORCH, Operations
from avatar.engines.tts.qwen3.sampling import Drawing


@dataclass(frozen=True)
class Kernels:
    """`cache`: attention over slots; `within`: over one frame's codes; `drawing`: of codes."""

    operations: Operations = TORCH
    cache: type[KVCache] = KVCache
    within: Callable[[TransformerConfig, int, Tensor, Tensor], FrameAttention] = frame_attention
    drawing: type[Drawing] = Drawing


PLAIN = Kernels()
