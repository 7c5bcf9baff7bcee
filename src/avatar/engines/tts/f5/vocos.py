"""Vocos, the vocoder of F5-TTS: a mel spectrogram to audio, by one inverse Fourier transform.

Modules bear the names that the official tensors have. Always computes in float32. Knows no files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from avatar.engines.tts.f5.mel import BANDS, HOP_SAMPLES, N_FFT, window

_EPS = 1e-6
_LOUDEST = 100.0
"""Magnitudes are cut off there, as the official package does."""


@dataclass(frozen=True)
class VocosShape:
    """Sizes; those of `charactr/vocos-mel-24khz` unless told."""

    width: int = 512
    inner: int = 1536
    layers: int = 8

    @classmethod
    def of(cls, tensors: Mapping[str, Sequence[int]]) -> Self:
        """Read off the tensors' shapes by name. Raises `KeyError` where one that tells is missing."""
        blocks = {name.split(".")[2] for name in tensors if name.startswith("backbone.convnext.")}
        inner, width = tensors["backbone.convnext.0.pwconv1.weight"]
        return cls(width, inner, len(blocks))


class Vocos(nn.Module):
    """The whole vocoder."""

    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        self.backbone = _Backbone(shape)
        self.head = nn.ModuleDict({"out": nn.Linear(shape.width, N_FFT + 2)})

    def forward(self, mel: Tensor) -> Tensor:
        """mel[B, T, 100], natural logarithm -> pcm[B, (T - 1) * 256], 24 kHz."""
        log_size, phase = self.head["out"](self.backbone(mel)).transpose(1, 2).chunk(2, dim=1)
        spectrum = torch.polar(log_size.exp().clip(max=_LOUDEST), phase)
        return torch.istft(spectrum, N_FFT, HOP_SAMPLES, window=window().to(mel.device))


class _Backbone(nn.Module):
    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        self.embed = nn.Conv1d(BANDS, shape.width, 7, padding=3)
        self.norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.convnext = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.final_layer_norm = nn.LayerNorm(shape.width, eps=_EPS)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.norm(self.embed(mel.transpose(1, 2)).transpose(1, 2))
        for block in self.convnext:
            x = block(x)
        out: Tensor = self.final_layer_norm(x)
        return out


class _Block(nn.Module):
    """ConvNeXt, along the frames."""

    def __init__(self, shape: VocosShape) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(shape.width, shape.width, 7, padding=3, groups=shape.width)
        self.norm = nn.LayerNorm(shape.width, eps=_EPS)
        self.pwconv1 = nn.Linear(shape.width, shape.inner)
        self.pwconv2 = nn.Linear(shape.inner, shape.width)
        self.gamma = nn.Parameter(torch.ones(shape.width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x.transpose(1, 2)).transpose(1, 2))
        out: Tensor = x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return out
