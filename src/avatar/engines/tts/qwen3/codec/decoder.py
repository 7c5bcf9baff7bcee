"""Codes to audio, as they come: every layer looks back only, and what it looks back at is in a `DecoderState`.

Decoding at once is the same steps on a state of its own. Knows nothing of voices, sessions or who schedules a step.
"""

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from avatar.engines.tts.qwen3.operations import TORCH, Operations

from .attention import Attention, LayerScale, Rotation
from .config import CodecConfig, DecoderConfig
from .folding import fold_at_load
from .rvq import ResidualQuantizer
from .state import DecoderState, PastInputs, PastKeysValues

# Frames that decoding at once takes at a time: bounds its memory (5 s of audio), changes nothing of its output.
OFFLINE_FRAMES = 64


class CodecDecoder(nn.Module):
    """Codes `[B, 16, T]` to 24 kHz audio `[B, T * 1920]`, -1..1. Made by `load_codec`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = shape = config.decoder
        self.quantizer = SplitQuantizer(shape)
        self.pre_conv = CausalConv(shape.codebook_dim, shape.latent_dim, 3)
        self.pre_transformer = Transformer(shape)
        self.upsample = nn.ModuleList(
            nn.ModuleList([Upsampling(shape.latent_dim, shape.latent_dim, ratio, ratio), ConvNeXt(shape.latent_dim)])
            for ratio in shape.upsampling_ratios
        )
        channels = [shape.decoder_dim // 2**i for i in range(len(shape.upsample_rates) + 1)]
        blocks = [UpsamplingBlock(channels[i], channels[i + 1], rate) for i, rate in enumerate(shape.upsample_rates)]
        self.decoder = nn.ModuleList(
            [CausalConv(shape.latent_dim, channels[0], 7), *blocks, Snake(channels[-1]), CausalConv(channels[-1], 1, 7)]
        )

    def using(self, operations: Operations) -> Self:
        """The same weights, worked with in another form."""
        shared = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        made = copy.deepcopy(self, shared)
        for module in made.modules():
            if isinstance(module, Snake):
                module.operations = operations
        return made

    @torch.no_grad()
    def forward(self, codes: Tensor) -> Tensor:
        """All of `codes[B, 16, T]`, from the start: audio `[B, T * 1920]`."""
        batch = len(codes)
        tables = self.quantizer.rvq_first.tables
        state = DecoderState.allocate(self.config, batch, tables.device, tables.dtype)
        slots = torch.arange(batch, device=codes.device)
        return torch.cat([self.step(part, state, slots) for part in torch.split(codes, OFFLINE_FRAMES, -1)], -1)

    @torch.no_grad()
    def step(self, codes: Tensor, state: DecoderState, slots: Tensor) -> Tensor:
        """The next frames `codes[B, 16, n]`, n >= 1, of the streams in `slots[B]`: audio `[B, n * 1920]`.

        What a stream's steps return, one after the other, is what decoding its codes at once returns. The shapes alone
        decide which operations run, on the device alone, so a CUDA graph of a (B, n) can be captured. A slot may be
        given twice only if nobody needs what its stream says.
        """
        frames = state.frames[slots]
        inputs = PastInputs(state.inputs[slots])
        keys_values = PastKeysValues(state.keys_values[slots], frames, codes.shape[-1])
        hidden = self.pre_conv(self.quantizer(codes), inputs)
        hidden = self.pre_transformer(hidden.transpose(1, 2), keys_values).transpose(1, 2)
        for layer in [layer for pair in self.upsample for layer in pair.children()] + list(self.decoder):
            hidden = layer(hidden, inputs)
        state.inputs[slots] = inputs.collected()
        keys_values.write(state, slots)
        wav: Tensor = hidden[:, 0].clamp(-1, 1)
        return wav


class SplitQuantizer(nn.Module):
    """The semantic codes and the acoustic ones, each with their own projection, summed."""

    def __init__(self, shape: DecoderConfig) -> None:
        super().__init__()
        self.semantic = shape.num_semantic_quantizers

        def quantizer(count: int) -> ResidualQuantizer:
            prefix = "vq.layers.{}._codebook."
            return ResidualQuantizer(
                shape.codebook_dim,
                shape.codebook_dim // 2,
                shape.codebook_size,
                kept=count,
                stored=count,
                names=(prefix + "embedding_sum", prefix + "cluster_usage"),
            )

        self.rvq_first = quantizer(self.semantic)
        self.rvq_rest = quantizer(shape.num_quantizers - self.semantic)

    def forward(self, codes: Tensor) -> Tensor:
        first, rest = codes[:, : self.semantic], codes[:, self.semantic :]
        return self.rvq_first.decode(first) + self.rvq_rest.decode(rest)


class Transformer(nn.Module):
    """Layers over frames, each seeing itself and the frames before it inside the window."""

    def __init__(self, shape: DecoderConfig) -> None:
        super().__init__()
        self.input_proj = nn.Linear(shape.latent_dim, shape.hidden_size)
        self.rotation = Rotation(shape.head_dim, shape.rope_theta)
        self.layers = nn.ModuleList(TransformerLayer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.output_proj = nn.Linear(shape.hidden_size, shape.latent_dim)

    def forward(self, latent: Tensor, past: PastKeysValues) -> Tensor:
        hidden = self.input_proj(latent)
        rotation = self.rotation(past.positions, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation, past)
        output: Tensor = self.output_proj(self.norm(hidden))
        return output


class TransformerLayer(nn.Module):
    def __init__(self, shape: DecoderConfig) -> None:
        super().__init__()
        size = shape.hidden_size
        self.input_layernorm = RmsNorm(size, shape.rms_norm_eps)
        self.self_attn = Attention(size, shape.num_attention_heads, shape.head_dim)
        self.self_attn_layer_scale = LayerScale(size)
        self.post_attention_layernorm = RmsNorm(size, shape.rms_norm_eps)
        self.mlp = GatedMlp(size, shape.intermediate_size)
        self.mlp_layer_scale = LayerScale(size)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], past: PastKeysValues) -> Tensor:
        queries, keys_values = self.self_attn.project(self.input_layernorm(hidden), rotation)
        attended = self.self_attn.attend(queries, past.before(keys_values), past.allowed)
        hidden = hidden + self.self_attn_layer_scale(attended)
        output: Tensor = hidden + self.mlp_layer_scale(self.mlp(self.post_attention_layernorm(hidden)))
        return output


class RmsNorm(nn.Module):
    """Normalised in float32 whatever the model's precision, as the official code does it."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        return self.weight * functional.rms_norm(hidden.float(), self.weight.shape, eps=self.eps).to(hidden.dtype)


class GatedMlp(nn.Module):
    """SwiGLU; gate and up are one product."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(hidden_size, 2 * intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)
        shape = (intermediate_size, hidden_size)
        fold_at_load(self, "gate_up.weight", {"gate_proj.weight": shape, "up_proj.weight": shape}, torch.cat)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, up = self.gate_up(hidden).chunk(2, -1)
        output: Tensor = self.down_proj(functional.silu(gate) * up)
        return output


class CausalConv(nn.Module):
    """A convolution whose output at a sample sees that sample and those before it; zeros before the first."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, dilation=dilation, groups=groups)
        self.past = (kernel - 1) * dilation

    def forward(self, hidden: Tensor, inputs: PastInputs) -> Tensor:
        output: Tensor = self.conv(inputs.before(hidden, self.past))
        return output


class Upsampling(nn.Module):
    """A transposed convolution, `stride` outputs for an input; a kernel of two strides also sees the input before.

    Run as what it is to its input: a causal convolution to all `stride` outputs at once, set side by side. So it
    remembers inputs as every other convolution does, and has fast kernels for the few inputs of a step.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        taps = kernel // stride
        self.phases = nn.Conv1d(in_channels, out_channels * stride, taps)
        self.past = taps - 1
        self.shape = (out_channels, stride)
        sources = {"conv.weight": (in_channels, out_channels, kernel)}
        fold_at_load(self, "phases.weight", sources, lambda conv: _phases(conv[0], stride))
        fold_at_load(
            self, "phases.bias", {"conv.bias": (out_channels,)}, lambda conv: conv[0].repeat_interleave(stride)
        )

    def forward(self, hidden: Tensor, inputs: PastInputs) -> Tensor:
        phases: Tensor = self.phases(inputs.before(hidden, self.past))
        return torch.unflatten(phases, 1, self.shape).transpose(2, 3).flatten(2)


def _phases(weight: Tensor, stride: int) -> Tensor:
    """A transposed convolution's `[in, out, taps * stride]` as a convolution's `[out * stride, in, taps]`."""
    return torch.unflatten(weight, 2, (-1, stride)).flip(2).permute(1, 3, 0, 2).flatten(0, 1)


class ConvNeXt(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = CausalConv(channels, channels, 7, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.empty(channels))

    def forward(self, hidden: Tensor, inputs: PastInputs) -> Tensor:
        added = self.norm(self.dwconv(hidden, inputs).transpose(1, 2))
        added = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(added)))
        output: Tensor = hidden + added.transpose(1, 2)
        return output


class Snake(nn.Module):
    """SnakeBeta: x + sin²(x·e^alpha) / e^beta, a factor for each channel (arXiv 2006.08195, with a magnitude)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.empty(channels, 1))
        self.magnitude = nn.Parameter(torch.empty(channels, 1))
        self.operations = TORCH
        fold_at_load(self, "frequency", {"alpha": (channels,)}, lambda alpha: alpha[0].exp()[:, None])
        # 1e-9: the official guard against a division by zero
        fold_at_load(self, "magnitude", {"beta": (channels,)}, lambda beta: 1 / (beta[0].exp() + 1e-9)[:, None])

    def forward(self, hidden: Tensor, inputs: PastInputs | None = None) -> Tensor:
        # .data: torch.compile takes parameters' sizes for fixed, and would make a kernel for each
        return self.operations.snake(hidden, self.frequency.data, self.magnitude.data)


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.act1 = Snake(channels)
        self.conv1 = CausalConv(channels, channels, 7, dilation)
        self.act2 = Snake(channels)
        self.conv2 = CausalConv(channels, channels, 1)

    def forward(self, hidden: Tensor, inputs: PastInputs) -> Tensor:
        added = self.conv1(self.act1(hidden), inputs)
        output: Tensor = hidden + self.conv2(self.act2(added), inputs)
        return output


class UpsamplingBlock(nn.Module):
    """`rate` outputs for an input, in half or fewer channels, and three residual units that look ever further back."""

    def __init__(self, in_channels: int, out_channels: int, rate: int) -> None:
        super().__init__()
        units = [ResidualUnit(out_channels, dilation) for dilation in (1, 3, 9)]
        self.block = nn.ModuleList([Snake(in_channels), Upsampling(in_channels, out_channels, 2 * rate, rate), *units])

    def forward(self, hidden: Tensor, inputs: PastInputs) -> Tensor:
        for layer in self.block:
            hidden = layer(hidden, inputs)
        return hidden
