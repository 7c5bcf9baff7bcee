"""Where the files of an F5-TTS model are in its folder, and whether they fit each other, told without loading them.

Knows neither torch nor what the tensors are for.
"""

from pathlib import Path

from avatar.engines.tts.checkpoints import CheckpointError, tensor_shapes

MODEL = "F5TTS_v1_Base/model_1250000.safetensors"
VOCABULARY = "vocab.txt"
"""Beside the model's file."""
CONFIG = "vocos-mel-24khz/config.yaml"
VOCODER = "vocos-mel-24khz/pytorch_model.bin"

_SYMBOLS = "ema_model.transformer.text_embed.text_embed.weight"


def model_file(folder: Path) -> Path:
    """The official model, or the one that somebody trained on and put into `folder` or a folder in it."""
    others = (*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*/*.safetensors")))
    return folder / MODEL if (folder / MODEL).is_file() or not others else others[0]


def vocabulary_file(folder: Path) -> Path:
    """Its symbols."""
    return model_file(folder).parent / VOCABULARY


def read_vocabulary(file: Path) -> list[str]:
    """The symbols in `file`, one a line. Raises `CheckpointError`."""
    try:
        symbols = file.read_text("utf-8").split("\n")[:-1]
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    if " " not in symbols[:1]:
        raise CheckpointError(f"{file} is not F5-TTS's vocabulary: its first line must be a space.")
    return symbols


def check_fit(folder: Path) -> None:
    """Raise `CheckpointError` if the model has not been made for the vocabulary beside it."""
    file, vocabulary = model_file(folder), vocabulary_file(folder)
    rows = tensor_shapes(file).get(_SYMBOLS, (0,))[0]
    if not rows:
        raise CheckpointError(f"{file} has no tensor {_SYMBOLS}: it is no model of F5-TTS v1.")
    symbols = len(dict.fromkeys(read_vocabulary(vocabulary)))
    if rows != symbols + 1:
        raise CheckpointError(f"{vocabulary} has {symbols} symbols, and {file} was made for {rows - 1}.")
