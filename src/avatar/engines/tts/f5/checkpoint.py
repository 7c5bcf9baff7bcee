"""A model folder, read and checked: exactly the tensors of F5-TTS v1 and of its vocoder, or an error that names them.

The only file that knows how the folder is laid out: as the hub has the model, with the vocoder's files in a folder of
their own below. Sizes are read off the tensors, so models trained on from F5-TTS v1 load too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.f5.dit import DiT, Shape
from avatar.engines.tts.f5.files import CONFIG, VOCODER, model_file
from avatar.engines.tts.f5.mel import BANDS, HOP_SAMPLES, N_FFT, SAMPLE_RATE_HZ, filterbank, window
from avatar.engines.tts.f5.vocos import Vocos, VocosShape
from avatar.engines.tts.weights import Weights

S = TypeVar("S", Shape, VocosShape)

PREFIX = "ema_model.transformer."
LEFT_OVERS = frozenset(
    ("initted", "step", "ema_model.mel_spec.mel_stft.spectrogram.window", "ema_model.mel_spec.mel_stft.mel_scale.fb")
)
"""What training left in the model's file."""

CONSTANTS = {
    "feature_extractor.mel_spec.spectrogram.window": window,
    "feature_extractor.mel_spec.mel_scale.fb": filterbank,
    "head.istft.window": window,
}
"""What the vocoder's file repeats of the spectrogram it was trained on: it must be ours."""

VOCOS_CONFIG: Mapping[str, Mapping[str, object]] = {
    "feature_extractor": {
        "sample_rate": SAMPLE_RATE_HZ,
        "n_fft": N_FFT,
        "hop_length": HOP_SAMPLES,
        "n_mels": BANDS,
        "padding": "center",
    },
    "head": {"n_fft": N_FFT, "hop_length": HOP_SAMPLES, "padding": "center"},
}
"""The `init_args` that its configuration must have; the other sizes are read off the tensors."""


def read_network(folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> DiT:
    """The network of the model in `folder`. Raises `CheckpointError` naming what is missing or too much."""
    file = model_file(folder)
    try:
        found = load_file(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing.") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    tensors = {name: tensor for name, tensor in found.items() if name not in LEFT_OVERS}
    weights = Weights(tensors, str(file), device=device, dtype=dtype).under(PREFIX)
    with torch.device("meta"):
        network = DiT(_shape(Shape, file, tensors, PREFIX))
    _fill(network, weights)
    exact = tensors[f"{PREFIX}rotary_embed.inv_freq"].to(device, torch.float32)
    network.rotary_embed.register_buffer("inv_freq", exact)  # angles of far positions need all their bits
    return network


def read_vocoder(folder: Path, *, device: torch.device | str = "cpu") -> Vocos:
    """The vocoder in `folder`, in float32. Raises `CheckpointError` as `read_network`."""
    _check_config(folder / CONFIG)
    file = folder / VOCODER
    try:
        tensors: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing.") from None
    except Exception as error:  # whatever an unpickler comes upon
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    weights = Weights(tensors, str(file), device=device)
    for name, ours in CONSTANTS.items():
        theirs = weights.take(name, *ours().shape)
        if not torch.allclose(theirs.cpu(), ours(), atol=1e-4):
            raise CheckpointError(f"{file}: {name} is not that of the mel spectrogram F5-TTS makes.")
    with torch.device("meta"):
        vocoder = Vocos(_shape(VocosShape, file, tensors))
    _fill(vocoder, weights)
    return vocoder


def _shape(kind: type[S], file: Path, tensors: Mapping[str, Tensor], prefix: str = "") -> S:
    shapes = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        return kind.of(shapes)
    except KeyError as error:
        raise CheckpointError(f"{file} has no tensor {prefix}{error.args[0]}.") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{file} holds tensors of another kind of model.") from error


def _fill(module: nn.Module, weights: Weights) -> None:
    """Give `module`, made without memory, its tensors by name, and be sure that there are no others."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    module.load_state_dict({name: weights.take(name, *shape) for name, shape in expected.items()}, assign=True)
    weights.finish()
    module.requires_grad_(False).eval()


def _check_config(file: Path) -> None:
    try:
        config: Any = yaml.safe_load(file.read_text("utf-8"))
        for section, wanted in VOCOS_CONFIG.items():
            found = config[section]["init_args"]
            for key, value in wanted.items():
                if found[key] != value:
                    raise CheckpointError(f"{file}: {section}: {key} is {found[key]!r}, and must be {value!r}.")
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing.") from None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{file} is not the configuration of a mel vocoder.") from error
