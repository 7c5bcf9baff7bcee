"""A model folder of full size with random weights: as long to load and as fast to run as the real one, and it babbles.

For measuring where no weights are. Takes every tensor's name and shape from the code that loads them, so it makes what
`read_checkpoint` expects, exactly. The tokenizer knows bytes and the words of the prompt's template.
"""

import inspect
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR
from avatar.engines.tts.qwen3.codec import CodecConfig, CodecDecoder, CodecEncoder
from avatar.engines.tts.qwen3.config import CODE_GROUPS, ModelConfig
from avatar.engines.tts.qwen3.predictor import Predictor
from avatar.engines.tts.qwen3.speaker import SpeakerConfig, SpeakerEncoder
from avatar.engines.tts.qwen3.talker import Talker
from avatar.engines.tts.weights import Weights

Size = Literal["0.6b", "1.7b"]
Kind = Literal["base", "custom_voice"]
Shapes = dict[str, tuple[int, ...]]

HIDDEN = {"0.6b": 1024, "1.7b": 2048}
LANGUAGES = {
    "english": 2050,
    "german": 2053,
    "spanish": 2054,
    "chinese": 2055,
    "japanese": 2058,
    "french": 2061,
    "korean": 2064,
    "russian": 2069,
    "italian": 2070,
    "portuguese": 2071,
}


def make_model(folder: Path, size: Size = "0.6b", kind: Kind = "custom_voice", seed: int = 0) -> Path:
    """Fill `folder`: 2.5 GB for 0.6b, 4.5 GB for 1.7b; bfloat16, and float32 for the codec, as the official ones."""
    codec_folder = folder / CODEC_DIR
    codec_folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", model_config(size, kind))
    _write(
        codec_folder / "config.json",
        {"model_type": "qwen3_tts_tokenizer_12hz", "encoder_config": {}, "decoder_config": {}},
    )
    _write_tokenizer(folder)
    torch.manual_seed(seed)
    config = ModelConfig.load(folder)
    model = {name: _random(name, shape).bfloat16() for name, shape in model_shapes(config).items()}
    save_file(model, folder / "model.safetensors")
    del model
    save_file({n: _random(n, shape) for n, shape in codec_shapes().items()}, codec_folder / "model.safetensors")
    return folder


def model_config(size: Size, kind: Kind) -> dict[str, Any]:
    """`config.json` as released (QwenLM/Qwen3-TTS)."""
    stack = {
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
        "attention_bias": False,
        "num_code_groups": CODE_GROUPS,
    }
    hidden = HIDDEN[size]
    predictor = {
        "vocab_size": 2048,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 5,
        "max_position_embeddings": 65_536,
    }
    custom = kind == "custom_voice"
    talker = {
        "vocab_size": 3072,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": 28,
        "max_position_embeddings": 32_768,
        "text_hidden_size": 2048,
        "text_vocab_size": 151_936,
        "codec_pad_id": 2148,
        "codec_bos_id": 2149,
        "codec_eos_token_id": 2150,
        "codec_think_id": 2154,
        "codec_nothink_id": 2155,
        "codec_think_bos_id": 2156,
        "codec_think_eos_id": 2157,
        "spk_id": {"serena": 3066, "ryan": 3061} if custom else {},
        "spk_is_dialect": {"serena": False, "ryan": False} if custom else {},
        "codec_language_id": LANGUAGES,
        "code_predictor_config": {**stack, **predictor},
    }
    return {
        "model_type": "qwen3_tts",
        "tokenizer_type": "qwen3_tts_tokenizer_12hz",
        "tts_model_size": {"0.6b": "0b6", "1.7b": "1b7"}[size],
        "tts_model_type": kind,
        "im_start_token_id": 151_644,
        "im_end_token_id": 151_645,
        "tts_pad_token_id": 151_671,
        "tts_bos_token_id": 151_672,
        "tts_eos_token_id": 151_673,
        "talker_config": {**stack, **talker},
        "speaker_encoder_config": {"enc_dim": hidden},
    }


def model_shapes(config: ModelConfig) -> Shapes:
    """Every tensor of `model.safetensors`."""
    found: Shapes = {}
    talker = Talker(_Names(found, "talker."), config, 1)
    Predictor(_Names(found, "talker.code_predictor."), config, talker.codec_embedding)
    if config.speaker_encoder is not None:
        with torch.device("meta"):
            encoder = SpeakerEncoder(SpeakerConfig.from_json(config.speaker_encoder.values))
        found.update((f"speaker_encoder.{name}", shape) for name, shape in _module_shapes(encoder))
    return found


def codec_shapes() -> Shapes:
    """Every tensor of `speech_tokenizer/model.safetensors`."""
    with torch.device("meta"):
        codec = nn.ModuleDict({"encoder": CodecEncoder(CodecConfig()), "decoder": CodecDecoder(CodecConfig())})
    return dict(_module_shapes(codec))


class _Names(Weights):
    """Writes down what is asked for, and gives tensors without memory."""

    def __init__(self, found: Shapes, prefix: str) -> None:
        super().__init__({}, "")
        self._found, self._path = found, prefix

    def under(self, prefix: str) -> "_Names":
        return _Names(self._found, self._path + prefix)

    def take(self, name: str, *shape: int) -> Tensor:
        self._found[self._path + name] = shape
        return torch.empty(shape, device="meta")


def _module_shapes(root: nn.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What `load_exactly` wants: a module's parameters, but where they are folded, what they are folded of."""
    folded: set[str] = set()
    for path, module in root.named_modules():
        prefix = f"{path}." if path else ""
        for hook in module._load_state_dict_pre_hooks.values():
            made_by = inspect.getclosurevars(cast(Any, hook).hook).nonlocals
            folded.add(prefix + made_by["target"])
            yield from ((prefix + name, tuple(shape)) for name, shape in made_by["sources"].items())
    yield from ((name, tuple(tensor.shape)) for name, tensor in root.state_dict().items() if name not in folded)


def _random(name: str, shape: tuple[int, ...]) -> Tensor:
    """Of a size that keeps what flows through at a sane one."""
    if name.endswith(("cluster_usage", "initialized")) or ("norm" in name and name.endswith("weight")):
        return torch.ones(shape)
    if name.endswith(("bias", "alpha", "beta", "gamma", "scale")):
        return torch.full(shape, 0.1 if name.endswith(("gamma", "scale")) else 0.0)
    return torch.randn(shape) / math.sqrt(max(math.prod(shape[1:]), 1))


def _write_tokenizer(folder: Path) -> None:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    vocab = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(rest))]  # GPT-2's names for bytes
    merges = [(word[:n], word[n]) for word in ("assistant", "user") for n in range(1, len(word))]
    vocab += [start + letter for start, letter in merges]
    _write(folder / "vocab.json", {token: number for number, token in enumerate(vocab)})
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
