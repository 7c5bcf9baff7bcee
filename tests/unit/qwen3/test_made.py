"""The model of random weights has the tensors that official ones have: the golden sets list them by name."""

import json
from pathlib import Path

import pytest
import torch

from avatar.engines.tts.qwen3.config import ModelConfig
from avatar.engines.tts.qwen3.made import Kind, Size, codec_shapes, model_config, model_shapes
from avatar.engines.tts.qwen3.made import _random as random_tensor
from avatar.engines.tts.qwen3.made import _write_tokenizer as write_tokenizer
from avatar.engines.tts.qwen3.text import TextTokenizer
from tests.unit.qwen3.conftest import load_golden_set


def full_size(folder: Path, size: Size, kind: Kind) -> ModelConfig:
    (folder / "config.json").write_text(json.dumps(model_config(size, kind)))
    return ModelConfig.load(folder)


@pytest.mark.parametrize("kind", ["base", "custom"])
def test_names_and_shapes_are_those_of_the_golden_models(kind: str) -> None:
    made = load_golden_set(kind)
    expected = {name: tuple(tensor.shape) for name, tensor in made.model_tensors.items()}
    assert model_shapes(ModelConfig.load(made.folder)) == expected


def test_full_size_models_have_the_released_numbers_of_tensors_and_weights(tmp_path: Path) -> None:
    small = model_shapes(full_size(tmp_path, "0.6b", "base"))
    large = model_shapes(full_size(tmp_path, "1.7b", "base"))
    assert (len(small), len(large), len(codec_shapes())) == (478, 480, 496)
    weights = sum(torch.Size(shape).numel() for shape in small.values())
    assert weights == pytest.approx(914.64e6, rel=1e-4)
    codec = sum(torch.Size(shape).numel() for shape in codec_shapes().values())
    assert codec == pytest.approx((153.71 + 16.84) * 1e6, rel=1e-3)


def test_the_codecs_names_are_the_official_ones() -> None:
    def of_first_layers(names: set[str]) -> set[str]:
        return {name for name in names if ".layers." not in name or ".layers.0." in name or ".layers.1." in name}

    golden = set(load_golden_set("base").codec_tensors)
    assert of_first_layers(set(codec_shapes())) == of_first_layers(golden)


def test_the_tokenizer_knows_all_bytes_and_the_template(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = TextTokenizer.load(tmp_path)
    assert len(tokenizer.encode("assistant\n")) == 2
    assert len(tokenizer.encode("user\n")) == 2
    assert len(tokenizer.encode("今")) == 3
    assert tokenizer.size < 151_643


def test_values_are_of_a_sane_size() -> None:
    assert float(random_tensor("a.weight", (64, 400)).std()) == pytest.approx(0.05, rel=0.1)
    assert float(random_tensor("a.norm.weight", (8,)).min()) == 1.0
    assert float(random_tensor("x.cluster_usage", (8,)).min()) == 1.0
