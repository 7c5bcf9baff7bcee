"""Who speaks: 24 kHz audio to the vector that stands for a voice (ECAPA-TDNN, arXiv 2005.07143, without batch norm).

Takes the whole clip as it is: no voice activity, no gain. Knows nothing of prompts or of where a voice is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from .codec.config import SAMPLE_RATE_HZ, read_options
from .codec.folding import load_exactly

FFT_SAMPLES = 1024
HOP_SAMPLES = 256
MEL_BANDS = 128
MEL_TOP_HZ = 12_000.0
TENSOR_PREFIX = "speaker_encoder."


@dataclass(frozen=True)
class SpeakerConfig:
    """`speaker_encoder_config` of `config.json`. Defaults are the official ones; lists begin at the lowest layer."""

    mel_dim: int = MEL_BANDS
    enc_dim: int = 1024
    enc_channels: tuple[int, ...] = (512, 512, 512, 512, 1536)
    enc_kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
    enc_dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
    enc_attention_channels: int = 128
    enc_res2net_scale: int = 8
    enc_se_channels: int = 128
    sample_rate: int = SAMPLE_RATE_HZ

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Self:
        """The configuration in a parsed JSON object. Raises ValueError that names the key that does not fit."""
        prefix = "speaker_encoder_config."
        config = cls(**read_options(section, cls, prefix))
        if config.sample_rate != SAMPLE_RATE_HZ or config.mel_dim != MEL_BANDS:
            raise ValueError(f"{prefix}sample_rate must be {SAMPLE_RATE_HZ} and mel_dim {MEL_BANDS}.")
        layers = len(config.enc_channels)
        if layers < 3 or any(len(sizes) != layers for sizes in (config.enc_kernel_sizes, config.enc_dilations)):
            raise ValueError(
                f"{prefix}enc_channels, enc_kernel_sizes and enc_dilations must be of one length, 3 or more."
            )
        if any(channels % config.enc_res2net_scale for channels in config.enc_channels[1:-1]):
            raise ValueError(f"{prefix}enc_channels must be multiples of enc_res2net_scale.")
        if len(set(config.enc_channels[:-1])) != 1 or sum(config.enc_channels[1:-1]) != config.enc_channels[-1]:
            raise ValueError(f"{prefix}enc_channels must be equal, and the last the sum of those after the first.")
        return config


def load_speaker_encoder(
    tensors: Mapping[str, Tensor], config: SpeakerConfig, dtype: torch.dtype = torch.float32
) -> "SpeakerEncoder":
    """The encoder in `dtype` from the tensors `speaker_encoder.*` of `model.safetensors`, on their device.

    Raises ValueError that names each tensor that is missing, unknown or of another shape.
    """
    with torch.device("meta"):
        encoder = SpeakerEncoder(config)
    load_exactly(nn.ModuleDict({"speaker_encoder": encoder}), tensors, dtype)
    return encoder


class SpeakerEncoder(nn.Module):
    """24 kHz audio to a speaker vector. Made by `load_speaker_encoder`."""

    def __init__(self, config: SpeakerConfig) -> None:
        super().__init__()
        channels, kernels, dilations = config.enc_channels, config.enc_kernel_sizes, config.enc_dilations
        self.log_mel = LogMel()
        self.blocks = nn.ModuleList([TimeDelay(config.mel_dim, channels[0], kernels[0], dilations[0])])
        for i in range(1, len(channels) - 1):
            self.blocks.append(SqueezedRes2Net(channels[i], kernels[i], dilations[i], config))
        self.mfa = TimeDelay(channels[-1], channels[-1], kernels[-1], dilations[-1])
        self.asp = AttentiveStatistics(channels[-1], config.enc_attention_channels)
        self.fc = nn.Conv1d(2 * channels[-1], config.enc_dim, 1)
        reach = max(dilation * (kernel - 1) // 2 for kernel, dilation in zip(kernels, dilations, strict=True))
        self.min_samples = (reach + 1) * HOP_SAMPLES
        """Less than this has too few mel frames to be mirrored at its ends."""

    @torch.no_grad()
    def forward(self, wav: Tensor) -> Tensor:
        """The vector `[dim]` of `wav[n]`, -1..1. Raises ValueError for less than `min_samples`."""
        if len(wav) < self.min_samples:
            raise ValueError(f"A voice needs {self.min_samples / SAMPLE_RATE_HZ:.3f} s of audio or more.")
        hidden = self.log_mel(wav)[None].to(self.fc.weight.dtype)
        outputs = []
        for block in self.blocks:
            hidden = block(hidden)
            outputs.append(hidden)
        statistics = self.asp(self.mfa(torch.cat(outputs[1:], 1)))
        vector: Tensor = self.fc(statistics[..., None])[0, :, 0]
        return vector


class LogMel(nn.Module):
    """Audio `[n]` to natural-log mel magnitudes `[128, n // 256]`, in float32."""

    bands: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bands", torch.from_numpy(mel_bands()), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT_SAMPLES, device="cpu"), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        margin = (FFT_SAMPLES - HOP_SAMPLES) // 2
        padded = functional.pad(wav[None].float(), (margin, margin), "reflect")[0]
        spectrum = torch.stft(padded, FFT_SAMPLES, HOP_SAMPLES, window=self.window, center=False, return_complex=True)
        magnitudes = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()
        return (self.bands @ magnitudes).clamp(min=1e-5).log()


def mel_bands() -> npt.NDArray[np.float32]:
    """Slaney's triangles of equal area, `[128, 513]`, from 0 to 12 kHz, as librosa makes them."""
    edges_hz = _hz(np.linspace(0.0, _mel(MEL_TOP_HZ), MEL_BANDS + 2))
    bins_hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1)
    widths = np.diff(edges_hz)[:, None]
    rising = (bins_hz - edges_hz[:-2, None]) / widths[:-1]
    falling = (edges_hz[2:, None] - bins_hz) / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    areas = (edges_hz[2:] - edges_hz[:-2])[:, None] / 2
    bank: npt.NDArray[np.float32] = (triangles / areas).astype(np.float32)
    return bank


# Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, 15 mel there; then 27 mel for every factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27


def _mel(hz: float) -> float:
    return float(_KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP) if hz >= _KNEE_HZ else hz / _LINEAR_HZ_PER_MEL


def _hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ_PER_MEL, _KNEE_HZ * np.exp((mel - _KNEE_MEL) * _LOG_STEP))


class TimeDelay(nn.Module):
    """A convolution over time, mirrored at the ends, and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel, dilation=dilation, padding="same", padding_mode="reflect"
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.relu(self.conv(hidden))


class SqueezedRes2Net(nn.Module):
    """A residual block: mix channels, look around at growing distances, mix again, weigh the channels."""

    def __init__(self, channels: int, kernel: int, dilation: int, config: SpeakerConfig) -> None:
        super().__init__()
        self.tdnn1 = TimeDelay(channels, channels, 1, 1)
        self.res2net_block = Res2Net(channels, kernel, dilation, config.enc_res2net_scale)
        self.tdnn2 = TimeDelay(channels, channels, 1, 1)
        self.se_block = SqueezeExcitation(channels, config.enc_se_channels)

    def forward(self, hidden: Tensor) -> Tensor:
        added: Tensor = self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(hidden))))
        return hidden + added


class Res2Net(nn.Module):
    """Groups of channels; each but the first is convolved after the group before it was added."""

    def __init__(self, channels: int, kernel: int, dilation: int, scale: int) -> None:
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(TimeDelay(width, width, kernel, dilation) for _ in range(scale - 1))

    def forward(self, hidden: Tensor) -> Tensor:
        groups = hidden.chunk(len(self.blocks) + 1, 1)
        outputs = [groups[0]]
        for i, (block, group) in enumerate(zip(self.blocks, groups[1:], strict=True)):
            outputs.append(block(group + outputs[-1] if i else group))
        return torch.cat(outputs, 1)


class SqueezeExcitation(nn.Module):
    """Each channel weighed by what the whole clip says of it."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, squeezed, 1)
        self.conv2 = nn.Conv1d(squeezed, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        weights = self.conv2(functional.relu(self.conv1(hidden.mean(2, keepdim=True))))
        return hidden * torch.sigmoid(weights)


class AttentiveStatistics(nn.Module):
    """`[B, C, T]` to mean and deviation over time `[B, 2C]`, each channel attending to the moments it needs."""

    def __init__(self, channels: int, attention_channels: int) -> None:
        super().__init__()
        self.tdnn = TimeDelay(3 * channels, attention_channels, 1, 1)
        self.conv = nn.Conv1d(attention_channels, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        even = torch.full_like(hidden[:, :1], 1 / hidden.shape[2])
        context = _statistics(hidden, even)[..., None].expand(-1, -1, hidden.shape[2])
        scores = self.conv(torch.tanh(self.tdnn(torch.cat([hidden, context], 1))))
        return _statistics(hidden, scores.softmax(2))


def _statistics(hidden: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and deviation over time, side by side: `[B, 2C]`."""
    mean = (weights * hidden).sum(2)
    variance = (weights * (hidden - mean[..., None]).square()).sum(2)
    return torch.cat([mean, variance.clamp(min=1e-12).sqrt()], 1)
