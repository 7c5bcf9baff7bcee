"""A model directory: exactly its files and tensors, or an error that names what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR, read_checkpoint
from tests.unit.qwen3.conftest import load_golden_set
from tests.unit.qwen3.models import checkpoint, rows

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], object]
HEAD = "talker.codec_head.weight"
PARTS = ("config.json", "model.safetensors")
LAYER = "talker.code_predictor.model.layers.1.mlp.up_proj.weight"


def directory(tmp_path: Path, kind: str = "custom") -> Path:
    """A copy of a golden model with its weights in files, as the official models come."""
    made, folder = load_golden_set(kind), tmp_path / "model"
    shutil.copytree(made.folder, folder)
    save_file(made.model_tensors, folder / "model.safetensors")
    save_file(made.codec_tensors, folder / CODEC_DIR / "model.safetensors")
    return folder


def sharded(folder: Path, tensors: Tensors) -> None:
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    places = {name: file for file, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")


@pytest.mark.parametrize("kind", ["base", "custom"])
@pytest.mark.parametrize("shards", [False, True])
def test_files_give_the_model_that_the_tensors_give(tmp_path: Path, kind: str, shards: bool) -> None:
    folder = directory(tmp_path, kind)
    if shards:
        sharded(folder, load_golden_set(kind).model_tensors)
    read, expected = read_checkpoint(folder, max_positions=512), checkpoint(kind)
    hidden = rows(2, expected.config.talker.hidden, seed=1)
    first, likeliest = torch.tensor([3, 4]), lambda _, logits: logits.argmax(-1)
    codes = expected.predictor.frame(hidden, first, likeliest)
    assert torch.equal(read.talker.logits(hidden), expected.talker.logits(hidden))
    assert torch.equal(read.predictor.frame(hidden, first, likeliest), codes)
    assert torch.equal(read.decoder(codes.T[None]), expected.decoder(codes.T[None]))
    assert (read.speaker_encoder is None) is (kind == "custom")


def test_the_language_model_may_be_half_precision_and_the_codec_is_not(tmp_path: Path) -> None:
    read = read_checkpoint(directory(tmp_path, "base"), dtype=torch.bfloat16, max_positions=64)
    assert read.talker.codec_embedding.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in read.decoder.parameters()} == {torch.float32}
    assert read.speaker_encoder is not None
    opening = read.prompter.opening(read.prompter.clone(rows(1, 64, seed=1)[0]), "english")
    assert opening.rows.dtype == torch.bfloat16


def drop(name: str) -> Change:
    return lambda tensors: tensors.pop(name)


def put(name: str, *shape: int) -> Change:
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (".", drop(HEAD), rf"model\.safetensors has no tensor {HEAD}"),
        (".", drop(LAYER), rf"model\.safetensors has no tensor {LAYER}"),
        (".", put(HEAD, 3072, 31), rf"{HEAD} has shape \[3072, 31\], not \[3072, 32\]"),
        (".", put("talker.extra.weight", 1), r"unexpected tensors: talker\.extra\.weight"),
        (".", put("speaker_encoder.fc.bias", 1), r"unexpected tensors: speaker_encoder\.fc\.bias"),
        (CODEC_DIR, drop("decoder.pre_conv.conv.bias"), r"(?s)speech_tokenizer.*decoder\.pre_conv\.conv\.bias"),
        (CODEC_DIR, put("decoder.more", 1), r"(?s)speech_tokenizer.*decoder\.more"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, place: str, change: Change, message: str) -> None:
    folder, made = directory(tmp_path), load_golden_set("custom")
    tensors = dict(made.model_tensors if place == "." else made.codec_tensors)
    change(tensors)
    save_file(tensors, folder / place / "model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


def test_a_speaker_encoder_with_a_tensor_missing_is_refused(tmp_path: Path) -> None:
    folder, tensors = directory(tmp_path, "base"), dict(load_golden_set("base").model_tensors)
    del tensors["speaker_encoder.fc.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)model\.safetensors.*speaker_encoder\.fc\.bias"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "file",
    ["vocab.json", "merges.txt", *(f"{place}{file}" for place in ("", f"{CODEC_DIR}/") for file in PARTS)],
)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = directory(tmp_path)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=rf"{file} is missing"):
        read_checkpoint(folder)


def test_files_that_are_too_much_or_broken_are_named(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    (folder / "model-old.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"do not belong to the model: model-old\.safetensors"):
        read_checkpoint(folder)
    (folder / "model-old.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        read_checkpoint(folder)


def rewrite(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    rewrite(folder / CODEC_DIR / "config.json", lambda c: c.update(model_type="qwen3_tts_tokenizer_25hz"))
    with pytest.raises(CheckpointError, match=r"speech_tokenizer.config\.json.*25hz"):
        read_checkpoint(folder)
    shutil.copy(load_golden_set("custom").folder / CODEC_DIR / "config.json", folder / CODEC_DIR / "config.json")
    rewrite(folder / "vocab.json", lambda c: c.update(more=268))
    with pytest.raises(CheckpointError, match="plain text reaches token 268, beyond"):
        read_checkpoint(folder)


def test_a_model_that_knows_fewer_positions_is_asked_for_no_more(tmp_path: Path) -> None:
    folder = directory(tmp_path)
    rewrite(folder / "config.json", lambda c: c["talker_config"].update(max_position_embeddings=8))  # type: ignore[attr-defined]
    assert len(read_checkpoint(folder).talker.transformer.cos) == 8
