"""What `speech_tokenizer/config.json` says of the codec's shape. Defaults are the released codec's values.

Reads the JSON's content, never a file; options that no released codec uses are refused, not ignored.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

SAMPLE_RATE_HZ = 24_000
MODEL_TYPE = "qwen3_tts_tokenizer_12hz"


@dataclass(frozen=True)
class EncoderConfig:
    """Audio to codes: SEANet convolutions, a transformer, a downsampling by two, two residual quantizers."""

    num_filters: int = 64
    kernel_size: int = 7
    last_kernel_size: int = 3
    residual_kernel_size: int = 3
    num_residual_layers: int = 1
    dilation_growth_rate: int = 2
    compress: int = 2
    upsampling_ratios: tuple[int, ...] = (8, 6, 5, 4)  # the strides, last one first
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    head_dim: int = 64
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    num_quantizers: int = 32
    num_semantic_quantizers: int = 1
    codebook_size: int = 2048
    codebook_dim: int = 256

    @property
    def frame_samples(self) -> int:
        """Samples of a frame: every stride, then the downsampling by two."""
        return 2 * math.prod(self.upsampling_ratios)


@dataclass(frozen=True)
class DecoderConfig:
    """Codes to audio: two residual quantizers, a transformer with a window, upsampling convolutions."""

    codebook_size: int = 2048
    codebook_dim: int = 512  # of the quantizers' output; a codebook's own vectors have half of it
    num_quantizers: int = 16
    num_semantic_quantizers: int = 1
    latent_dim: int = 1024
    hidden_size: int = 512
    intermediate_size: int = 1024
    num_hidden_layers: int = 8
    num_attention_heads: int = 16
    head_dim: int = 64
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    sliding_window: int = 72  # frames, the present one included
    upsampling_ratios: tuple[int, ...] = (2, 2)
    upsample_rates: tuple[int, ...] = (8, 5, 4, 3)
    decoder_dim: int = 1536

    @property
    def frame_samples(self) -> int:
        """Samples that a frame becomes."""
        return math.prod(self.upsampling_ratios) * math.prod(self.upsample_rates)


@dataclass(frozen=True)
class CodecConfig:
    """Both halves; they share the codes: `num_codebooks` numbers below `codebook_size` a frame."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)

    @property
    def num_codebooks(self) -> int:
        return self.decoder.num_quantizers

    @property
    def frame_samples(self) -> int:
        return self.decoder.frame_samples

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The configuration in a parsed `config.json`. Raises ValueError that names the key that does not fit."""
        config = cls(
            encoder=EncoderConfig(**_section(content, "encoder_config", EncoderConfig, _ENCODER_FIXED)),
            decoder=DecoderConfig(**_section(content, "decoder_config", DecoderConfig, _DECODER_FIXED)),
        )
        _require(
            content,
            "",
            {
                "model_type": MODEL_TYPE,
                "input_sample_rate": SAMPLE_RATE_HZ,
                "output_sample_rate": SAMPLE_RATE_HZ,
                "encoder_valid_num_quantizers": config.num_codebooks,
                "encode_downsample_rate": config.encoder.frame_samples,
                "decode_upsample_rate": config.frame_samples,
            },
        )
        _check_halves(config)
        return config


# What the official code can be told and no released codec tells it.
_ENCODER_FIXED: dict[str, object] = {
    "audio_channels": 1,
    "attention_bias": False,
    "hidden_act": "gelu",
    "pad_mode": "constant",
    "sampling_rate": SAMPLE_RATE_HZ,
    "use_causal_conv": True,
    "use_conv_shortcut": False,
}
_DECODER_FIXED: dict[str, object] = {"attention_bias": False, "hidden_act": "silu"}


def _section(content: Mapping[str, Any], name: str, of: type[Any], fixed: Mapping[str, object]) -> dict[str, Any]:
    section = content.get(name)
    if not isinstance(section, Mapping):
        raise ValueError(f"{name} must be an object, not {section!r}.")
    heads = section.get("num_attention_heads", of.num_attention_heads)
    _require(section, f"{name}.", {**fixed, "num_key_value_heads": heads})
    return read_options(section, of, f"{name}.")


def read_options(section: Mapping[str, Any], of: type[Any], prefix: str) -> dict[str, Any]:
    """The fields of the dataclass `of` that a JSON object gives, each of its default's type; `prefix` leads its keys.

    Raises ValueError that names the key that does not fit.
    """
    return {
        option.name: _value(section[option.name], option.default, prefix + option.name)
        for option in fields(of)
        if option.name in section
    }


def _require(content: Mapping[str, Any], prefix: str, expected: Mapping[str, object]) -> None:
    for key, value in expected.items():
        if content.get(key, value) != value:
            raise ValueError(f"{prefix}{key} must be {value!r}, not {content[key]!r}.")


def _value(value: object, like: object, key: str) -> object:
    """`value` as the type of the default; a JSON number without a fraction will do for a float."""
    if isinstance(like, tuple):
        if isinstance(value, list) and value and all(_is_size(entry) for entry in value):
            return tuple(value)
        raise ValueError(f"{key} must be a list of positive integers, not {value!r}.")
    if isinstance(like, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        raise ValueError(f"{key} must be a positive number, not {value!r}.")
    if not _is_size(value):
        raise ValueError(f"{key} must be a positive integer, not {value!r}.")
    return value


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_halves(config: CodecConfig) -> None:
    encoder, decoder = config.encoder, config.decoder
    if encoder.num_quantizers < decoder.num_quantizers:
        raise ValueError(
            f"encoder_config.num_quantizers is {encoder.num_quantizers}: the decoder needs {decoder.num_quantizers}."
        )
    for name in ("num_semantic_quantizers", "codebook_size", "frame_samples"):
        if getattr(encoder, name) != getattr(decoder, name):
            raise ValueError(
                f"The codec's halves differ in {name}: {getattr(encoder, name)} and {getattr(decoder, name)}."
            )
    if decoder.num_semantic_quantizers >= decoder.num_quantizers:
        raise ValueError("decoder_config.num_semantic_quantizers must leave at least one acoustic quantizer.")
    if decoder.sliding_window < 2 or decoder.codebook_dim % 2:
        raise ValueError("decoder_config.sliding_window must be 2 or more, and codebook_dim even.")
    if decoder.decoder_dim % 2 ** len(decoder.upsample_rates):
        raise ValueError("decoder_config.decoder_dim must halve once for each of upsample_rates.")
