"""A model folder is read whole, or what is wrong with it is said by name; sizes are read off the tensors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avatar.engines.fitness import misfit
from avatar.engines.tts.checkpoints import CheckpointError, tensor_shapes
from avatar.engines.tts.f5.checkpoint import PREFIX, read_network, read_vocoder
from avatar.engines.tts.f5.dit import DiT, Shape
from avatar.engines.tts.f5.files import CONFIG, MODEL, VOCODER, check_fit, vocabulary_file
from avatar.engines.tts.f5.vocos import Vocos, VocosShape
from tests.tiny_f5 import SHAPE, VOCOS_SHAPE, make_weights

Tensors = dict[str, torch.Tensor]
PROJ = f"{PREFIX}proj_out.weight"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder to write to."""
    return make_weights(tmp_path)


def change_model(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / MODEL)
    change(tensors)
    save_file(tensors, folder / MODEL)


def change_vocoder(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = torch.load(folder / VOCODER, weights_only=True)
    change(tensors)
    torch.save(tensors, folder / VOCODER)


def test_the_official_sizes_have_the_released_numbers_of_weights() -> None:
    """Paper, table 1: 336 M; Vocos: 13.5 M."""
    with torch.device("meta"):
        network, vocoder = DiT(Shape()), Vocos(VocosShape())
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(336e6, rel=0.005)
    assert sum(weight.numel() for weight in vocoder.parameters()) == pytest.approx(13.5e6, rel=0.01)


def test_sizes_are_read_off_the_tensors(folder: Path) -> None:
    shapes = {name.removeprefix(PREFIX): shape for name, shape in tensor_shapes(folder / MODEL).items()}
    assert Shape.of(shapes) == SHAPE
    tensors = torch.load(folder / VOCODER, weights_only=True)
    assert VocosShape.of({name: tensor.shape for name, tensor in tensors.items()}) == VOCOS_SHAPE
    assert misfit("f5-tts-v1-base", folder) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop(PROJ), "no tensor .*proj_out.weight"),
        (lambda t: t.pop(f"{PREFIX}norm_out.linear.bias"), "no tensor .*norm_out.linear.bias"),
        (
            lambda t: t.update({f"{PREFIX}long_skip_connection.weight": t[PROJ].clone()}),
            "unexpected tensors: .*long_skip",
        ),
        (
            lambda t: t.update({f"{PREFIX}proj_out.bias": torch.zeros(80)}),
            r"proj_out.bias has shape \[80\], not \[100\]",
        ),
        (lambda t: t.update({f"{PREFIX}text_embed.text_embed.weight": torch.zeros(7)}), "another kind of model"),
    ],
)
def test_a_model_that_is_another_is_refused(mine: Path, change: Callable[[Tensors], object], why: str) -> None:
    change_model(mine, change)
    with pytest.raises(CheckpointError, match=why):
        read_network(mine)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop("head.out.bias"), "no tensor head.out.bias"),
        (lambda t: t.update({"backbone.extra": torch.zeros(1)}), "unexpected tensors: backbone.extra"),
        (lambda t: t["feature_extractor.mel_spec.mel_scale.fb"].mul_(2), "not that of the mel spectrogram"),
    ],
)
def test_a_vocoder_that_is_another_is_refused(mine: Path, change: Callable[[Tensors], object], why: str) -> None:
    change_vocoder(mine, change)
    with pytest.raises(CheckpointError, match=why):
        read_vocoder(mine)


def test_a_vocoder_for_other_mels_is_refused(mine: Path) -> None:
    config = json.loads((mine / CONFIG).read_text())
    config["head"]["init_args"]["padding"] = "same"
    (mine / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="padding is 'same', and must be 'center'"):
        read_vocoder(mine)
    (mine / CONFIG).write_text("- :")
    with pytest.raises(CheckpointError, match="not the configuration of a mel vocoder"):
        read_vocoder(mine)


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, b"\x02" + bytes(7) + b"{}"])
def test_damaged_files_are_told(mine: Path, content: bytes) -> None:
    (mine / MODEL).write_bytes(content)
    (mine / VOCODER).write_bytes(content)
    assert MODEL in str(misfit("f5-tts-v1-base", mine))
    with pytest.raises(CheckpointError):
        read_network(mine)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_vocoder(mine)


def test_code_in_the_vocoders_file_is_not_run(mine: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(mine / "owned").touch, ())

    torch.save({"a": Evil()}, mine / VOCODER)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_vocoder(mine)
    assert not (mine / "owned").exists()


def test_a_vocabulary_of_another_model_is_refused(mine: Path) -> None:
    file = vocabulary_file(mine)
    whole = file.read_text("utf-8")
    file.write_text(whole + "extra\n", "utf-8")
    assert "has 126 symbols, and" in str(misfit("f5-tts-v1-base", mine))
    file.write_text("a\n" + whole, "utf-8")
    with pytest.raises(CheckpointError, match="first line must be a space"):
        check_fit(mine)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"vocab\.txt is missing"):
        check_fit(mine)
