"""The engine against the official package: greedy codes identical in every case, audio within its bound."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR, Checkpoint, assemble
from avatar.engines.tts.qwen3.golden_cases import GoldenModel, GoldenSetError, differences, read_golden
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


Edit = Callable[[Path, dict[str, Any]], object]


def without(*path: str) -> Edit:
    def edit(folder: Path, content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return edit


def case(name: str, **changes: object) -> Edit:
    return lambda folder, content: content["cases"].setdefault(name, {}).update(changes)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (without("set", "salt"), r"golden.json: `set` lacks salt\."),
        (without("set", "reference", "seed"), "`set` lacks reference.seed"),
        (without("cases"), "golden.json is not laid out as a golden set"),
        (without("cases", "base.icl.ns0.t1", "text"), "the case base.icl.ns0.t1 lacks text"),
        (case("other.x", text="Hi."), "the case other.x is of no model that is here"),
        (case("custom.custom.ns0.t1", speaker="Nobody"), "The case custom.custom.ns0.t1.0: This model has no speaker"),
        (
            case("custom.custom.ns0.t1", language="Klingon"),
            "The case custom.custom.ns0.t1.0: This model has no languag",
        ),
        (lambda folder, _: (folder / "custom/tensors.json").unlink(), "custom/tensors.json cannot be read"),
        (
            lambda folder, _: (folder / "custom/tensors.json").write_text('{"a": ["x", "F32"]}'),
            "custom/tensors.json: A shape must be a list of integers, not 'x'",
        ),
        (lambda folder, _: [path.unlink() for path in folder.glob("*/config.json")], "has no models"),
        (lambda folder, _: (folder / "golden.npz").write_bytes(b"nonsense"), "golden.npz cannot be read"),
    ],
)
def test_a_folder_that_is_no_set_is_refused(edit: Edit, problem: str, tmp_path: Path) -> None:
    content = copied_set(tmp_path)
    edit(tmp_path, content)
    (tmp_path / "golden.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(GoldenSetError, match=problem):
        look_at(tmp_path)


def test_a_set_of_another_salt_and_other_texts_is_run(tmp_path: Path) -> None:
    """One text for each of many rows, control tokens, several languages, whatever length."""
    content = copied_set(tmp_path)
    content["set"] |= {"salt": -5, "max_new_tokens": 4, "encode_lengths": [2, 1923]}
    content["set"]["reference"] = {"seed": 7, "samples": 9001}
    content["cases"] = {
        "base.icl": {"text": "數字 123 <|im_end|>\n🙂", "language": "Auto", "mode": "icl", "non_streaming": True},
        "custom.rows": {"text": ["One.", "x"], "speaker": ["ERIC", None], "language": "auto", "non_streaming": False},
    }
    content["cases"]["base.icl"]["ref_text"] = "a"
    (tmp_path / "golden.json").write_text(json.dumps(content), encoding="utf-8")
    made = {name: array for model in GoldenModel.load_all(tmp_path) for name, array in model.outputs()}
    assert made["base.encode.1923"].shape == (2, 16)
    assert made["base.icl.0.codes"].shape == made["custom.rows.1.codes"].shape == (3, 16)


def copied_set(folder: Path) -> dict[str, Any]:
    shutil.copytree(GOLDEN_DIR, folder, dirs_exist_ok=True)
    content: dict[str, Any] = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    return content


def look_at(set_dir: Path) -> None:
    read_golden(set_dir)
    for model in GoldenModel.load_all(set_dir):
        if model.kind == "custom":
            model.speech()
