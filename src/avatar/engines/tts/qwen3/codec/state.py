"""What a stream of decoding has to remember, for many streams at once: a slot each, in tensors allocated once.

Knows the sizes, and how to start, save and resume a stream; what the numbers mean is the decoder's business.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from .config import DecoderConfig


@dataclass(frozen=True)
class DecoderSnapshot:
    """One stream at a point in time. It shares nothing with the state it was taken of."""

    inputs: Tensor
    keys_values: Tensor
    frames: Tensor


@dataclass(frozen=True)
class DecoderState:
    """The streams' memory, first dimension: slots. Steps write it in place, so CUDA graphs can hold on to it.

    `inputs[slots, values]`: the last inputs of every convolution, one after the other in the order they run.
    `keys_values[slots, window - 1, layers, 2, heads, head_dim]`: a ring; frame f is at f mod (window - 1).
    `frames[slots]`: frames decoded so far, int64, which says what of the ring is in use.
    """

    inputs: Tensor
    keys_values: Tensor
    frames: Tensor

    @classmethod
    def allocate(
        cls,
        config: DecoderConfig,
        slots: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Memory for `slots` streams, each at its start."""
        ring = (config.sliding_window - 1, config.num_hidden_layers, 2, config.num_attention_heads, config.head_dim)
        return cls(
            inputs=torch.zeros(slots, _input_values(config), device=device, dtype=dtype),
            keys_values=torch.zeros(slots, *ring, device=device, dtype=dtype),
            frames=torch.zeros(slots, device=device, dtype=torch.int64),
        )

    def reset(self, slots: Tensor) -> None:
        """Put the streams `slots[n]` at their start; nothing of what they were is left."""
        for tensor in self._tensors():
            tensor.index_fill_(0, slots, 0)

    def snapshot(self, slot: int) -> DecoderSnapshot:
        """A copy of the stream in `slot`, to be resumed in any slot, any number of times."""
        return DecoderSnapshot(*(tensor[slot].clone() for tensor in self._tensors()))

    def restore(self, slot: int, snapshot: DecoderSnapshot) -> None:
        """Let the stream in `slot` go on from `snapshot`."""
        saved = (snapshot.inputs, snapshot.keys_values, snapshot.frames)
        for tensor, source in zip(self._tensors(), saved, strict=True):
            tensor[slot].copy_(source)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.inputs, self.keys_values, self.frames


def _input_values(config: DecoderConfig) -> int:
    """How many values all convolutions of a stream remember: (kernel - 1) · dilation inputs, one before a transposed
    convolution of stride r and kernel 2r, in the order of the decoder.
    """
    values = 2 * config.codebook_dim + 6 * config.latent_dim * len(config.upsampling_ratios) + 6 * config.latent_dim
    channels = config.decoder_dim
    for _ in config.upsample_rates:
        values += channels
        channels //= 2
        values += 6 * (1 + 3 + 9) * channels
    return values + 6 * channels


class PastInputs:
    """The last inputs of every convolution, on their way through one step: handed out and collected in running order.

    `rows[B, values]` are the streams' rows of `DecoderState.inputs`.
    """

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self._next = 0
        self._collected: list[Tensor] = []

    def before(self, inputs: Tensor, count: int) -> Tensor:
        """`inputs[B, C, T]` behind the `count` inputs that came before them: `[B, C, count + T]`."""
        if count == 0:
            return inputs
        batch, channels, _ = inputs.shape
        past = self._rows[:, self._next : self._next + channels * count].view(batch, channels, count)
        self._next += channels * count
        extended = torch.cat([past, inputs], -1)
        self._collected.append(extended[..., -count:].flatten(1))
        return extended

    def collected(self) -> Tensor:
        """The rows for the next step."""
        return torch.cat(self._collected, 1)


class PastKeysValues:
    """The keys and values inside the window, on their way through one step of `count` frames.

    `ring[B, window - 1, layers, 2, heads, head_dim]` are the streams' rows of `DecoderState.keys_values`, `frames[B]`
    how many frames each stream has decoded.
    """

    def __init__(self, ring: Tensor, frames: Tensor, count: int) -> None:
        size = ring.shape[1]
        places = torch.arange(size, device=ring.device)
        last = frames[:, None] - 1
        held = last - (last - places) % size  # the frame at each place of the ring; below 0: none yet
        self.positions = frames[:, None] + torch.arange(count, device=ring.device)
        """Absolute positions `[B, count]` of the new frames."""
        keys, queries = torch.cat([held, self.positions], 1)[:, None, :], self.positions[:, :, None]
        self.allowed = (keys >= 0) & (keys <= queries) & (keys >= queries - size)
        """Which of the window's and the new frames each new frame may see: bool `[B, count, window - 1 + count]`."""
        self._ring = ring
        self._new: list[Tensor] = []

    def before(self, keys_values: Tensor) -> Tensor:
        """The next layer's `keys_values[B, count, 2, heads, head_dim]` behind those of the window."""
        past = self._ring[:, :, len(self._new)]
        self._new.append(keys_values)
        return torch.cat([past, keys_values], 1)

    def write(self, state: DecoderState, slots: Tensor) -> None:
        """Put the new frames' keys and values where the oldest ones were, and count the frames."""
        size = self._ring.shape[1]
        new = torch.stack(self._new, 2)[:, -size:]
        state.keys_values[slots[:, None], self.positions[:, -size:] % size] = new
        state.frames[slots] = self.positions[:, -1] + 1
