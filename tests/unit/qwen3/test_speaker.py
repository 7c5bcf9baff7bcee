"""The speaker vector is the official one."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from avatar.engines.tts.qwen3.speaker import (
    TENSOR_PREFIX,
    LogMel,
    SpeakerConfig,
    SpeakerEncoder,
    load_speaker_encoder,
    mel_bands,
)
from tests.unit.qwen3.conftest import load_golden_set


def tensors() -> dict[str, Tensor]:
    every = load_golden_set("base").model_tensors
    return {name: tensor for name, tensor in every.items() if name.startswith(TENSOR_PREFIX)}


def section() -> dict[str, Any]:
    found: dict[str, Any] = load_golden_set("base").config["speaker_encoder_config"]
    return found


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return load_speaker_encoder(tensors(), SpeakerConfig.from_json(section()))


def test_the_vector_of_the_reference_is_the_official_one(
    encoder: SpeakerEncoder, golden: dict[str, npt.NDArray[Any]], golden_cases: dict[str, Any]
) -> None:
    reference = golden_cases["set"]["reference"]
    wav = 0.1 * np.random.RandomState(reference["seed"]).standard_normal(reference["samples"])
    vector = encoder(torch.from_numpy(wav.astype(np.float32)))
    assert vector.shape == (64,)
    assert np.abs(vector.numpy() - golden["base.ref.speaker"]).max() < 1e-5


def test_a_tone_is_loudest_in_its_own_band_and_silence_is_the_floor() -> None:
    log_mel = LogMel()
    seconds = torch.arange(24_000) / 24_000
    bands = mel_bands()
    for hz in (300.0, 1000.0, 4000.0):
        loudest = int(log_mel(torch.sin(2 * torch.pi * hz * seconds))[:, 40].argmax())
        centre_hz = float(bands[loudest].argmax()) * 24_000 / 1024
        assert centre_hz == pytest.approx(hz, abs=40 + 0.03 * hz)
    assert log_mel(torch.zeros(24_000)).shape == (128, 93)
    torch.testing.assert_close(
        log_mel(torch.zeros(2_560)), torch.full((128, 10), float(np.log(1e-5))), atol=1.5, rtol=0
    )


def test_bands_have_equal_area() -> None:
    areas = mel_bands().astype(np.float64).sum(1) * 24_000 / 1024
    wide = areas[80:]  # a triangle narrower than a few bins is only sampled
    assert np.abs(wide - 1).max() < 0.02


def test_the_shortest_clip_gives_a_vector_and_a_shorter_one_says_what_is_needed(encoder: SpeakerEncoder) -> None:
    wav = torch.from_numpy(np.random.RandomState(0).standard_normal(encoder.min_samples).astype(np.float32)) / 10
    assert bool(encoder(wav).isfinite().all())
    with pytest.raises(ValueError, match=r"0\.053 s"):
        encoder(wav[:-1])


def test_missing_and_unknown_tensors_are_refused_by_name() -> None:
    config = SpeakerConfig.from_json(section())
    name = "speaker_encoder.blocks.2.res2net_block.blocks.6.conv.bias"
    incomplete = tensors()
    del incomplete[name]
    with pytest.raises(ValueError, match=re.escape(name)):
        load_speaker_encoder(incomplete, config)
    with pytest.raises(ValueError, match=r"speaker_encoder\.norm\.weight"):
        load_speaker_encoder({**tensors(), "speaker_encoder.norm.weight": torch.ones(1)}, config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sample_rate", 16_000),
        ("mel_dim", 80),
        ("enc_dim", -1),
        ("enc_kernel_sizes", [5, 3]),
        ("enc_channels", [32, 32, 32, 32, 64]),
        ("enc_res2net_scale", 7),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        SpeakerConfig.from_json({**section(), key: value})


def test_the_default_is_the_released_encoder() -> None:
    with torch.device("meta"):
        encoder = SpeakerEncoder(SpeakerConfig.from_json({}))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == pytest.approx(8.85e6, rel=1e-3)
