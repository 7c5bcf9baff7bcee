"""The encoder's codes are the official ones, at every length."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from avatar.engines.tts.qwen3.codec import CodecConfig, CodecEncoder, load_codec
from tests.unit.qwen3.conftest import GOLDEN_DIR, load_golden_set

Golden = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module")
def encoder() -> CodecEncoder:
    golden_set = load_golden_set("base")
    return load_codec(golden_set.codec_tensors, CodecConfig.from_json(golden_set.codec_config))[0]


def noise(seed: int, samples: int) -> Tensor:
    return torch.from_numpy((0.1 * np.random.RandomState(seed).standard_normal(samples)).astype(np.float32))


def test_codes_are_the_official_ones_at_each_length(
    encoder: CodecEncoder, golden: Golden, golden_cases: dict[str, Any]
) -> None:
    for samples in golden_cases["set"]["encode_lengths"]:
        codes = encoder(noise(100 + samples, samples)[None])[0]
        assert codes.shape == (16, -(-samples // 1920))
        assert np.array_equal(codes.T.numpy(), golden[f"base.encode.{samples}"]), samples


def test_the_reference_has_its_official_codes(
    encoder: CodecEncoder, golden: Golden, golden_cases: dict[str, Any]
) -> None:
    reference = golden_cases["set"]["reference"]
    codes = encoder(noise(reference["seed"], reference["samples"])[None])[0]
    assert np.array_equal(codes.T.numpy(), golden["base.ref.codes"])


def test_a_clip_longer_than_the_window_that_the_configuration_names(encoder: CodecEncoder) -> None:
    """25 s: `sliding_window` says 10 s, and the official code lets each position see all before it."""
    with np.load(GOLDEN_DIR / "long_clip.npz") as official:
        ((name, expected),) = official.items()
    samples = int(name.rpartition(".")[2])
    assert np.array_equal(encoder(noise(100 + samples, samples)[None])[0].T.numpy(), expected)


def test_each_clip_of_a_batch_has_the_codes_it_has_alone(encoder: CodecEncoder) -> None:
    clips = torch.stack([noise(seed, 24_000) for seed in range(3)])
    together = encoder(clips)
    assert torch.equal(together, torch.cat([encoder(clip[None]) for clip in clips]))


def test_whole_frames_are_not_changed_by_what_comes_after(encoder: CodecEncoder) -> None:
    wav = noise(7, 24_000)
    assert torch.equal(encoder(wav[None])[..., :10], encoder(wav[None, : 10 * 1920])[..., :10])
