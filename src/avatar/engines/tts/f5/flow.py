"""From noise to a mel spectrogram: a flow followed in Euler steps, guided away from what it would be without the text.

Owns the times of the steps. Can be stopped between steps. Knows the network, and nothing of voices or audio.
"""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.engines.tts.f5.dit import DiT, Modulation
from avatar.engines.tts.f5.mel import BANDS

GUIDANCE = 2.0
"""How far to go beyond the text's own flow (official default)."""
SWAY = -1.0
"""Steps are shorter at the beginning, where the most is decided (F5-TTS paper, section 3.3)."""

_PRUNED = {
    5: (0, 2, 4, 8, 16, 32),
    6: (0, 2, 4, 6, 8, 16, 32),
    7: (0, 2, 4, 6, 8, 16, 24, 32),
    10: (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32),
    12: (0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32),
    16: (*range(9), 10, 12, 14, 16, 20, 24, 28, 32),
}
"""The steps of 32 that are worth taking when few are: found by trial (official `get_epss_timesteps`)."""


class Stopped(Exception):
    """Nobody wants the rest."""


def times(steps: int) -> Tensor:
    """float32[steps + 1] from 0 to 1."""
    even = torch.tensor(_PRUNED[steps]) / 32 if steps in _PRUNED else torch.linspace(0, 1, steps + 1)
    return even + SWAY * (torch.cos(torch.pi / 2 * even) - 1 + even)


@dataclass(frozen=True)
class Flow:
    """A network, and how it works at the times of each step."""

    network: DiT
    times: Tensor
    modulations: tuple[Modulation, ...]

    @classmethod
    @torch.inference_mode()
    def of(cls, network: DiT, steps: int) -> "Flow":
        grid = times(steps)
        device = network.proj_out.weight.device
        return cls(network, grid, tuple(network.modulations(grid[:-1].to(device))))

    @torch.inference_mode()
    def sample(self, noise: Tensor, reference: Tensor, symbols: Tensor, stop: threading.Event) -> Tensor:
        """noise[T, 100] and reference[R, 100], R < T, become float32[T, 100]: the reference and what follows it.

        symbols[n]: of all the text. Raises `Stopped` within a step of `stop` being set.
        """
        weight = self.network.proj_out.weight
        heard = len(reference)
        x = noise.to(weight.device, torch.float32)
        cond = torch.zeros(2, len(x), BANDS, device=weight.device, dtype=weight.dtype)
        cond[0, :heard] = reference.to(weight)
        text = self.network.text_embed(symbols.to(weight.device), len(x))
        for modulation, step in zip(self.modulations, self.times.diff().tolist(), strict=True):
            if stop.is_set():
                raise Stopped
            guided, free = self.network(x.to(weight.dtype).expand(2, -1, -1), cond, text, modulation).float()
            x = x + step * (guided + GUIDANCE * (guided - free))
        return torch.cat([reference.to(x), x[heard:]])
