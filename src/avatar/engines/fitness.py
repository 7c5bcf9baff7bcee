"""Whether a folder of weights is what the engine of that model can load, told from its configuration alone.

Loads nothing and imports no package of an engine.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.f5.files import check_fit
from avatar.engines.tts.qwen3.config import Kind, ModelConfig, Section

_CODEC_TYPE = "qwen3_tts_tokenizer_12hz"


def misfit(key: str, folder: Path) -> str | None:
    """What keeps the engine from using the complete folder of model `key`, in words; None if nothing is seen."""
    check = _CHECKS.get(key)
    if check is None:
        return None
    try:
        return check(folder)
    except (CheckpointError, OSError) as error:
        return str(error)


def _codec(folder: Path) -> str | None:
    config = Section.read(folder / "config.json")
    found = config.get("model_type", str)
    return None if found == _CODEC_TYPE else f"{config.file}: model_type is {found!r}; {_CODEC_TYPE!r} is wanted."


def _f5(folder: Path) -> str | None:
    check_fit(folder)
    return None


def _qwen3(kind: Kind, size: str) -> Callable[[Path], str | None]:
    def check(folder: Path) -> str | None:
        config = ModelConfig.load(folder)
        if (config.kind, config.size) != (kind, size):
            return f"{folder} holds a model of kind {config.kind}, size {config.size}; {kind}, {size} is wanted."
        return _codec(folder / "speech_tokenizer")

    return check


_CHECKS: Mapping[str, Callable[[Path], str | None]] = {
    "f5-tts-v1-base": _f5,
    "qwen3-tts-tokenizer-12hz": _codec,
    "qwen3-tts-0.6b-base": _qwen3("base", "0b6"),
    "qwen3-tts-0.6b-custom": _qwen3("custom_voice", "0b6"),
    "qwen3-tts-1.7b-base": _qwen3("base", "1b7"),
    "qwen3-tts-1.7b-custom": _qwen3("custom_voice", "1b7"),
}
