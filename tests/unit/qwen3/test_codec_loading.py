"""A codec is loaded from exactly its own configuration and tensors; anything else is refused by name."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from avatar.engines.tts.qwen3.codec import CodecConfig, DecoderConfig, EncoderConfig, load_codec
from tests.unit.qwen3.conftest import load_golden_set

CODEBOOK = "decoder.quantizer.rvq_rest.vq.layers.14._codebook.embedding_sum"
UNUSED_CODEBOOK = "encoder.quantizer.acoustic_residual_vector_quantizer.layers.30.codebook.initialized"


def tensors() -> dict[str, Tensor]:
    return dict(load_golden_set("base").codec_tensors)


def config() -> CodecConfig:
    return CodecConfig.from_json(load_golden_set("base").codec_config)


@pytest.mark.parametrize(
    "name",
    [
        "decoder.pre_conv.conv.bias",
        "decoder.pre_transformer.layers.1.self_attn.k_proj.weight",
        "decoder.pre_transformer.layers.0.mlp.up_proj.weight",
        "decoder.decoder.5.beta",
        "encoder.downsample.conv.weight",
        CODEBOOK,
        UNUSED_CODEBOOK,
    ],
)
def test_a_missing_or_misshapen_tensor_is_refused_by_name(name: str) -> None:
    incomplete = tensors()
    tensor = incomplete.pop(name)
    with pytest.raises(ValueError, match=f"(?s)Missing.*{name}"):
        load_codec(incomplete, config())
    with pytest.raises(ValueError, match=f"size mismatch for {name}"):
        load_codec({**incomplete, name: torch.cat([tensor, tensor])}, config())


@pytest.mark.parametrize(
    "name",
    [
        "decoder.decoder.7.conv.bias",
        "decoder.quantizer.rvq_rest.vq.layers.15._codebook.embedding_sum",
        "encoder.encoder_transformer.layers.0.self_attn.q_proj.bias",
        "upsample.conv.weight",
    ],
)
def test_an_unknown_tensor_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"(?s)Unexpected.*{name}"):
        load_codec({**tensors(), name: torch.zeros(1)}, config())


def test_what_is_folded_is_folded_from_what_was_stored_however_it_is_stored() -> None:
    """A quotient of two rounded numbers, not a rounded quotient: bfloat16 files must not lose twice."""
    stored = {name: tensor.bfloat16() for name, tensor in tensors().items()}
    widened = {name: tensor.float() for name, tensor in stored.items()}
    codes = torch.randint(0, 2048, (1, 16, 3), generator=torch.Generator().manual_seed(0))
    assert torch.equal(load_codec(stored, config())[1](codes), load_codec(widened, config())[1](codes))


def test_the_model_code_stands_alone() -> None:
    """It needs nothing of the assistant around it, so it can run on a machine that has torch and little else."""
    code = (
        "import sys, avatar.engines.tts.qwen3.codec, avatar.engines.tts.qwen3.speaker\n"
        "alone = 'avatar avatar.engines avatar.engines.tts'.split()\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('avatar', 'pydantic', 'fastapi')"
        " and m not in alone and not m.startswith('avatar.engines.tts.qwen3')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_never_used_entry_does_not_divide_by_zero() -> None:
    unused = tensors()
    name = "decoder.quantizer.rvq_first.vq.layers.0._codebook."
    unused[name + "cluster_usage"] = torch.zeros(2048)
    unused[name + "embedding_sum"] = torch.full((2048, 16), 1e-5)
    _, decoder = load_codec(unused, config())
    torch.testing.assert_close(decoder.quantizer.rvq_first.tables, torch.ones(1, 2048, 16))


def test_the_defaults_are_the_released_codec() -> None:
    released = CodecConfig.from_json({"encoder_config": {}, "decoder_config": {}})
    assert released == CodecConfig(EncoderConfig(), DecoderConfig())
    assert (released.num_codebooks, released.frame_samples, released.encoder.frame_samples) == (16, 1920, 1920)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("", "model_type", "qwen3_tts_tokenizer_25hz"),
        ("", "input_sample_rate", 16_000),
        ("", "encoder_valid_num_quantizers", 8),
        ("", "decode_upsample_rate", 960),
        ("", "decoder_config", None),
        ("decoder_config", "num_key_value_heads", 2),
        ("decoder_config", "hidden_act", "relu"),
        ("decoder_config", "hidden_size", 0),
        ("decoder_config", "hidden_size", True),
        ("decoder_config", "sliding_window", 1),
        ("decoder_config", "rope_theta", "big"),
        ("decoder_config", "upsample_rates", [8, 5, 4, "3"]),
        ("decoder_config", "upsampling_ratios", [2, 2, 2]),
        ("decoder_config", "codebook_size", 1024),
        ("decoder_config", "decoder_dim", 72),
        ("encoder_config", "pad_mode", "reflect"),
        ("encoder_config", "use_causal_conv", False),
        ("encoder_config", "num_quantizers", 8),
        ("encoder_config", "upsampling_ratios", []),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_its_key(section: str, key: str, value: object) -> None:
    content: dict[str, Any] = dict(load_golden_set("base").codec_config)
    if section:
        content[section] = {**content[section], key: value}
    else:
        content[key] = value
    with pytest.raises(ValueError, match=key if value != [2, 2, 2] else "decode_upsample_rate"):
        CodecConfig.from_json(content)
