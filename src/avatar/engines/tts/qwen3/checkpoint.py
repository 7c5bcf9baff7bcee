"""A model directory, read, checked and put together: exactly the files and tensors of a Qwen3-TTS model, or an error.

The only file that knows how a directory is laid out. Knows no session.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.qwen3.codec import CodecConfig, CodecDecoder, CodecEncoder, load_codec
from avatar.engines.tts.qwen3.config import CODE_GROUPS, ModelConfig, Section
from avatar.engines.tts.qwen3.kernels import Kernels
from avatar.engines.tts.qwen3.matrices import choose_product
from avatar.engines.tts.qwen3.predictor import Predictor
from avatar.engines.tts.qwen3.prompt import Prompter
from avatar.engines.tts.qwen3.sampling import CONTROL_CODES
from avatar.engines.tts.qwen3.speaker import TENSOR_PREFIX, SpeakerConfig, SpeakerEncoder, load_speaker_encoder
from avatar.engines.tts.qwen3.talker import Talker
from avatar.engines.tts.qwen3.text import TextTokenizer
from avatar.engines.tts.weights import Weights

T = TypeVar("T")

CODEC_DIR = "speech_tokenizer"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model, on one device. The speaker encoder is there if the model clones."""

    config: ModelConfig
    codec_config: CodecConfig
    tokenizer: TextTokenizer
    talker: Talker
    predictor: Predictor
    prompter: Prompter
    encoder: CodecEncoder
    decoder: CodecDecoder
    speaker_encoder: SpeakerEncoder | None
    matrices: str = ""
    """How the layers' matrices are kept, if not as they were loaded."""

    def using(self, kernels: Kernels) -> "Checkpoint":
        """The same weights, worked with by other kernels."""
        return replace(
            self,
            talker=self.talker.using(kernels.operations),
            predictor=self.predictor.using(kernels),
            decoder=self.decoder.using(kernels.operations),
        )

    def in_8_bits(self) -> "Checkpoint":
        """A copy whose language layers are in 8 bits: half the memory of bfloat16, once the original is gone."""
        table = self.talker.codec_embedding
        product, how = choose_product(table.device, table.dtype)
        talker, predictor = self.talker.in_8_bits(product), self.predictor.in_8_bits(product)
        prompter = Prompter(self.config, talker, predictor, self.tokenizer)
        return replace(
            self, talker=talker, predictor=predictor, prompter=prompter, matrices=f"layers in float8 ({how})"
        )


def read_checkpoint(
    directory: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_positions: int = 4096,
) -> Checkpoint:
    """Load a directory as the official models come. Raises `CheckpointError` naming what is missing or too much.

    `dtype` is the talker's and predictor's; the codec and the speaker encoder always compute in float32, since their
    codes and audio suffer otherwise. `max_positions` bounds the frames of an utterance, its prompt included.
    """
    tensors, codec_tensors = _read_tensors(directory), _read_tensors(directory / CODEC_DIR)
    return assemble(directory, tensors, codec_tensors, device=device, dtype=dtype, max_positions=max_positions)


def assemble(
    directory: Path,
    tensors: Mapping[str, Tensor],
    codec_tensors: Mapping[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_positions: int = 4096,
) -> Checkpoint:
    """`read_checkpoint` with the tensors at hand: only the JSON files of the directory are read."""
    config = ModelConfig.load(directory)
    codec_file = directory / CODEC_DIR / "config.json"
    codec_config = _named(codec_file, lambda: CodecConfig.from_json(Section.read(codec_file).values))
    tokenizer = TextTokenizer.load(directory)
    _check_fit(directory, config, codec_config, tokenizer)

    weights = Weights(tensors, str(directory / "model.safetensors"), device=device, dtype=dtype)
    talker = Talker(weights.under("talker."), config, min(max_positions, config.talker.max_positions))
    predictor = Predictor(weights.under("talker.code_predictor."), config, talker.codec_embedding)
    speaker_encoder = _speaker_encoder(directory, config, weights, device)
    weights.finish()

    on_device = {name: tensor.to(device) for name, tensor in codec_tensors.items()}
    encoder, decoder = _named(directory / CODEC_DIR / "model.safetensors", lambda: load_codec(on_device, codec_config))
    prompter = Prompter(config, talker, predictor, tokenizer)
    return Checkpoint(config, codec_config, tokenizer, talker, predictor, prompter, encoder, decoder, speaker_encoder)


def _speaker_encoder(
    directory: Path, config: ModelConfig, weights: Weights, device: torch.device | str
) -> SpeakerEncoder | None:
    if config.speaker_encoder is None:
        return None
    section = config.speaker_encoder
    speaker_config = _named(section.file, lambda: SpeakerConfig.from_json(section.values))
    if speaker_config.enc_dim != config.talker.hidden:
        raise section.error("enc_dim", f"is {speaker_config.enc_dim}, and the talker's width {config.talker.hidden}")
    tensors = {name: tensor.to(device) for name, tensor in weights.take_all(TENSOR_PREFIX).items()}
    return _named(directory / "model.safetensors", lambda: load_speaker_encoder(tensors, speaker_config))


def _check_fit(directory: Path, config: ModelConfig, codec: CodecConfig, tokenizer: TextTokenizer) -> None:
    codes = codec.decoder.codebook_size
    if codec.num_codebooks != CODE_GROUPS or not config.code_vocab == config.codec_vocab - CONTROL_CODES == codes:
        raise CheckpointError(
            f"{directory}: the speech tokenizer has {codec.num_codebooks} codebooks of {codes} codes, and the model"
            f" speaks {CODE_GROUPS} of {config.codec_vocab - CONTROL_CODES} and {config.code_vocab}."
        )
    ids = config.text_ids
    if tokenizer.size > min(ids.im_start, ids.im_end, ids.pad, ids.bos, ids.eos):
        raise CheckpointError(
            f"{directory}: plain text reaches token {tokenizer.size - 1}, beyond the first control token."
        )
    if len(tokenizer.encode("assistant\n")) != 2:
        raise CheckpointError(f"{directory}: the tokenizer has no tokens of their own for 'assistant' and a new line.")


def _named(file: Path, build: Callable[[], T]) -> T:
    try:
        return build()
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _read_tensors(directory: Path) -> dict[str, Tensor]:
    """All tensors of a directory, still in their files until used."""
    index = directory / "model.safetensors.index.json"
    if index.exists():
        files = {str(file) for file in Section.read(index).get("weight_map", dict).values()}
    else:
        files = {"model.safetensors"}
    if stray := sorted({path.name for path in directory.glob("*.safetensors")} - files):
        raise CheckpointError(f"{directory} has weights that do not belong to the model: {', '.join(stray)}.")
    tensors: dict[str, Tensor] = {}
    for file in sorted(files):
        path = directory / file
        if not path.is_file():
            raise CheckpointError(f"{path} is missing.")
        try:
            with safe_open(path, "pt") as opened:
                tensors.update((name, opened.get_tensor(name)) for name in opened.keys())  # noqa: SIM118 (no mapping)
        except SafetensorError as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from error
    return tensors
