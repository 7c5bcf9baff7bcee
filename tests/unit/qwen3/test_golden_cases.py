"""The engine against the official package: greedy codes identical in every case, audio within its bound."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR, Checkpoint, assemble
from avatar.engines.tts.qwen3.golden_cases import GoldenModel, differences
from avatar.engines.tts.qwen3.goldens import made_weights
from tests.unit.qwen3.conftest import GOLDEN_DIR, GoldenSet
from tests.unit.qwen3.models import checkpoint

Arrays = dict[str, npt.NDArray[Any]]


def golden_model(kind: str, made: GoldenSet, content: dict[str, Any]) -> GoldenModel:
    cases = {name: case for name, case in content["cases"].items() if name.startswith(f"{kind}.")}
    return GoldenModel(kind, checkpoint(kind), made.codec_tensors, cases, content["set"])


@pytest.mark.parametrize("kind", ["base", "custom"])
def test_every_output_is_the_official_one(
    kind: str, golden_set: Callable[[str], GoldenSet], golden_cases: dict[str, Any], golden: Arrays
) -> None:
    made = dict(golden_model(kind, golden_set(kind), golden_cases).outputs())
    expected = {name: array for name, array in golden.items() if name.split(".")[0] == kind and ".decoder." not in name}
    assert len(expected) > 15
    assert list(differences(made, expected)) == []


def test_a_set_gives_its_models_by_name() -> None:
    models = list(GoldenModel.load_all(GOLDEN_DIR))
    assert [model.kind for model in models] == ["base", "custom"]
    assert {name.split(".")[0] for model in models for name in model.cases} == {"base", "custom"}


def test_an_utterance_ends_before_its_end_code_and_its_neighbours_go_on() -> None:
    """With salt 7 the official package speaks 6 and 5 frames of these, and stops the third at the limit."""
    lines = "line one\nline two\n\nline three"
    cases = {
        "first": {"text": lines, "speaker": "Serena", "language": "Chinese", "non_streaming": False},
        "second": {"text": "1234567890", "speaker": "ERIC", "language": "english", "non_streaming": True},
        "third": {"text": lines, "speaker": "Serena", "language": "Chinese", "non_streaming": True},
    }
    model = GoldenModel("custom", salted("custom", 7), {}, cases, {"max_new_tokens": 40})
    assert [len(codes) for codes in model.speech()[1]] == [6, 5, 39]


def salted(kind: str, salt: int) -> Checkpoint:
    folder = GOLDEN_DIR / kind
    names = [json.loads((folder / place / "tensors.json").read_text()) for place in (".", CODEC_DIR)]
    tensors, codec = ({n: torch.from_numpy(a) for n, a in made_weights(some, salt).items()} for some in names)
    return assemble(folder, tensors, codec)


def test_streamed_decoding_is_whole_decoding(
    golden_set: Callable[[str], GoldenSet], golden_cases: dict[str, Any]
) -> None:
    model = golden_model("custom", golden_set("custom"), golden_cases)
    codes = np.random.RandomState(1).randint(0, 2048, (16, 90))
    whole, streamed = model.decoder_samples(codes), model.streamed_decoder_samples(codes, seed=2)
    np.testing.assert_allclose(streamed, whole, atol=1e-9)


def test_differences_are_named() -> None:
    golden = {"a.codes": np.array([1, 2]), "a.speaker": np.array([1.0]), "gone": np.array(0), "long": np.zeros(3)}
    made = {"a.codes": np.array([1, 3]), "a.speaker": np.array([1.0 + 5e-6]), "new": np.array(0), "long": np.zeros(2)}
    assert list(differences(made, golden)) == [
        "gone is missing",
        "new is not in the golden set",
        "a.codes is off by 1, bound 0",
        "long has shape (2,), not (3,)",
    ]
