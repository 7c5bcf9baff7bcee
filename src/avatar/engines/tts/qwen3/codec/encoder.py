"""Audio to codes: Mimi's encoder (arXiv 2410.00037), a whole clip at a time. Run once for a cloned voice."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention import Attention, LayerScale, Rotation
from .config import CodecConfig, EncoderConfig
from .rvq import ResidualQuantizer


class CodecEncoder(nn.Module):
    """24 kHz audio `[B, n]`, -1..1, to codes `[B, 16, ceil(n / 1920)]`. Made by `load_codec`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        shape = config.encoder
        self.encoder = SeaNet(shape)
        self.encoder_transformer = Transformer(shape)
        self.downsample = FilledConv(shape.hidden_size, shape.hidden_size, 4, stride=2, bias=False, fill="replicate")
        self.quantizer = SplitQuantizer(shape, config.num_codebooks)

    @torch.no_grad()
    def forward(self, wav: Tensor) -> Tensor:
        """The codes of `wav[B, n]`, n >= 1, int64. What a last part of a frame lacks is filled up, by every layer."""
        hidden = self.encoder(wav[:, None]).transpose(1, 2)
        hidden = self.encoder_transformer(hidden).transpose(1, 2)
        codes: Tensor = self.quantizer(self.downsample(hidden))
        return codes


class FilledConv(nn.Module):
    """A causal convolution that fills its input up on the right, to a whole number of strides."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        fill: str = "constant",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride, dilation=dilation, bias=bias)
        self.stride = stride
        self.left = (kernel - 1) * dilation + 1 - stride
        self.fill = fill

    def forward(self, hidden: Tensor) -> Tensor:
        right = -hidden.shape[-1] % self.stride
        output: Tensor = self.conv(functional.pad(hidden, (self.left, right), self.fill))
        return output


class SeaNet(nn.Module):
    """Strided convolutions, twice the channels each, with residual blocks before them."""

    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        channels = shape.num_filters
        layers: list[nn.Module] = [FilledConv(1, channels, shape.kernel_size)]
        for stride in reversed(shape.upsampling_ratios):
            for i in range(shape.num_residual_layers):
                layers.append(ResidualBlock(channels, shape, shape.dilation_growth_rate**i))
            layers += [nn.ELU(), FilledConv(channels, 2 * channels, 2 * stride, stride=stride)]
            channels *= 2
        layers += [nn.ELU(), FilledConv(channels, shape.hidden_size, shape.last_kernel_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, wav: Tensor) -> Tensor:
        hidden: Tensor = self.layers(wav)
        return hidden


class ResidualBlock(nn.Module):
    def __init__(self, channels: int, shape: EncoderConfig, dilation: int) -> None:
        super().__init__()
        inner = channels // shape.compress
        self.block = nn.Sequential(
            nn.ELU(),
            FilledConv(channels, inner, shape.residual_kernel_size, dilation=dilation),
            nn.ELU(),
            FilledConv(inner, channels, 1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        added: Tensor = self.block(hidden)
        return hidden + added


class Transformer(nn.Module):
    """Sees everything before: the configuration's `sliding_window` (250 positions, 10 s) is one that the official code
    does not apply in its eager and SDPA attention.
    """

    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        self.rotation = Rotation(shape.head_dim, shape.rope_theta)
        self.layers = nn.ModuleList(TransformerLayer(shape) for _ in range(shape.num_hidden_layers))

    def forward(self, hidden: Tensor) -> Tensor:
        length = hidden.shape[1]
        positions = torch.arange(length, device=hidden.device)[None]
        allowed = torch.ones(1, length, length, dtype=torch.bool, device=hidden.device).tril()
        rotation = self.rotation(positions, hidden.dtype)
        for layer in self.layers:
            hidden = layer(hidden, rotation, allowed)
        return hidden


class TransformerLayer(nn.Module):
    def __init__(self, shape: EncoderConfig) -> None:
        super().__init__()
        size = shape.hidden_size
        self.input_layernorm = nn.LayerNorm(size, shape.norm_eps)
        self.self_attn = Attention(size, shape.num_attention_heads, shape.head_dim)
        self.self_attn_layer_scale = LayerScale(size)
        self.post_attention_layernorm = nn.LayerNorm(size, shape.norm_eps)
        self.mlp = Mlp(size, shape.intermediate_size)
        self.mlp_layer_scale = LayerScale(size)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], allowed: Tensor) -> Tensor:
        queries, keys_values = self.self_attn.project(self.input_layernorm(hidden), rotation)
        hidden = hidden + self.self_attn_layer_scale(self.self_attn.attend(queries, keys_values, allowed))
        output: Tensor = hidden + self.mlp_layer_scale(self.mlp(self.post_attention_layernorm(hidden)))
        return output


class Mlp(nn.Module):
    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.fc2 = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.fc2(functional.gelu(self.fc1(hidden)))
        return output


class SplitQuantizer(nn.Module):
    """The semantic codes, then the acoustic ones, both of the same embedding; the later codebooks stay unused."""

    def __init__(self, shape: EncoderConfig, codebooks: int) -> None:
        super().__init__()

        def quantizer(kept: int, stored: int) -> ResidualQuantizer:
            prefix = "layers.{}.codebook."
            return ResidualQuantizer(
                shape.hidden_size,
                shape.codebook_dim,
                shape.codebook_size,
                kept=kept,
                stored=stored,
                names=(prefix + "embed_sum", prefix + "cluster_usage"),
                ignored=(prefix + "initialized",),
            )

        semantic = shape.num_semantic_quantizers
        self.semantic_residual_vector_quantizer = quantizer(semantic, semantic)
        self.acoustic_residual_vector_quantizer = quantizer(codebooks - semantic, shape.num_quantizers - semantic)

    def forward(self, embeddings: Tensor) -> Tensor:
        semantic = self.semantic_residual_vector_quantizer.encode(embeddings)
        return torch.cat([semantic, self.acoustic_residual_vector_quantizer.encode(embeddings)], 1)
