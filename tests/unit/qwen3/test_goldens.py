"""Made weights follow their rules. That the rules are right, the goldens of every module show."""

import zlib

import numpy as np
import pytest

from avatar.engines.tts.qwen3.goldens import made_weights


def normal(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    state = np.random.RandomState((zlib.crc32(name.encode()) + salt) % 2**32)
    return state.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "shape", "scale", "offset"),
    [
        ("decoder.upsample.0.1.norm.weight", (8,), 0.1, 1),
        ("decoder.upsample.0.1.norm.bias", (8,), 0.05, 0),
        ("decoder.upsample.0.1.gamma", (8,), 0.05, 0.3),
        ("decoder.pre_transformer.layers.0.mlp_layer_scale.scale", (8,), 0.05, 0.3),
        ("decoder.decoder.5.alpha", (8,), 0.3, 0),
        ("decoder.q.vq.layers.0._codebook.embedding_sum", (8, 4), 1, 0),
        ("encoder.q.layers.0.codebook.embed_sum", (8, 4), 1, 0),
        ("talker.model.text_embedding.weight", (8, 4), 0.5, 0),
        ("talker.codec_head.weight", (8, 4), 1.2 / 2, 0),
        ("decoder.pre_conv.conv.weight", (8, 5, 5), 0.7 / 5, 0),
        ("decoder.decoder.1.block.1.conv.weight", (8, 4, 4), 0.7 / 4, 0),
        ("decoder.upsample.0.0.conv.weight", (8, 3, 4), 0.7 / 4, 0),
        ("speaker_encoder.fc.weight", (3, 4, 1), 1.2 / 2, 0),
    ],
)
def test_each_rule(name: str, shape: tuple[int, ...], scale: float, offset: float) -> None:
    made = made_weights({name: [list(shape), "F32"]}, salt=0)[name]
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, offset + scale * normal(name, shape), rtol=1e-6, atol=1e-7)


def test_usage_is_positive_and_initialized_is_one() -> None:
    made = made_weights({"a.cluster_usage": [[64], "F32"], "a.initialized": [[1], "F32"]}, salt=3)
    np.testing.assert_allclose(
        made["a.cluster_usage"], 3 * np.abs(normal("a.cluster_usage", (64,), 3)) + 0.5, rtol=1e-6
    )
    assert made["a.initialized"].tolist() == [1]


def test_the_salt_changes_every_drawn_tensor_and_wraps() -> None:
    spec = {"talker.codec_head.weight": [[4, 4], "F32"]}
    first = made_weights(spec, salt=0)["talker.codec_head.weight"]
    assert not np.array_equal(first, made_weights(spec, salt=1)["talker.codec_head.weight"])
    assert np.array_equal(first, made_weights(spec, salt=2**32)["talker.codec_head.weight"])


def test_a_malformed_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="list of integers"):
        made_weights({"a.weight": ["4x4", "F32"]}, salt=0)
