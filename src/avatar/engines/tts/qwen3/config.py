"""What a Qwen3-TTS model directory says of itself: sizes, ids, names, sampling defaults; checked, with precise errors.

Knows JSON and nothing of tensors. The speech tokenizer's own config is the codec's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, cast, get_args

from avatar.engines.tts.checkpoints import CheckpointError

T = TypeVar("T")

Kind = Literal["base", "custom_voice", "voice_design"]
CODE_GROUPS = 16
"""Codebooks a frame has in the 12 Hz tokenizer; the predictor makes all but the first."""


@dataclass(frozen=True)
class Section:
    """One JSON object of a file. Every value is asked for by key and type; `CheckpointError` names what is wrong."""

    file: Path
    values: Mapping[str, Any]
    path: str = ""

    @classmethod
    def read(cls, file: Path) -> Self:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(f"{file} is missing.") from None
        except ValueError as error:
            raise CheckpointError(f"{file} is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"{file} must hold a JSON object.")
        return cls(file, values)

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value at `key`. Without a default the key is required; a whole number is good for a float."""
        value = self.values.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(key, f"must be of type {kind.__name__}, not {value!r}")
        return value

    def section(self, key: str) -> "Section":
        return Section(self.file, self.get(key, dict), f"{self.path}{key}.")

    def require(self, key: str, *allowed: object) -> None:
        """Refuse values this implementation does not compute; an absent key means the first."""
        if (value := self.values.get(key, allowed[0])) not in allowed:
            raise self.error(key, f"is {value!r}, and only {' or '.join(map(repr, allowed))} is supported")

    def index(self, key: str, below: int) -> int:
        """An id into a table of `below` rows."""
        value = self.get(key, int)
        if not 0 <= value < below:
            raise self.error(key, f"is {value}, outside its table of {below} rows")
        return value

    def error(self, key: str, what: str) -> CheckpointError:
        return CheckpointError(f"{self.file}: {self.path}{key} {what}.")


@dataclass(frozen=True)
class TransformerConfig:
    """A Qwen3 decoder stack: RMS norms, grouped-query attention with per-head norms and RoPE, SwiGLU; no biases.

    The talker's three RoPE axes always carry the same position, so its sectioned RoPE is the plain one.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    max_positions: int

    @classmethod
    def of(cls, section: Section) -> Self:
        section.require("hidden_act", "silu")
        section.require("attention_bias", False)
        section.require("use_sliding_window", False)
        if section.values.get("rope_scaling"):
            scaling = section.section("rope_scaling")
            scaling.require("rope_type", "default")
            scaling.require("type", "default")
        config = cls(
            hidden=section.get("hidden_size", int),
            intermediate=section.get("intermediate_size", int),
            layers=section.get("num_hidden_layers", int),
            heads=section.get("num_attention_heads", int),
            kv_heads=section.get("num_key_value_heads", int),
            head_dim=section.get("head_dim", int),
            norm_eps=section.get("rms_norm_eps", float),
            rope_theta=section.get("rope_theta", float),
            max_positions=section.get("max_position_embeddings", int),
        )
        if config.heads % config.kv_heads:
            raise section.error("num_attention_heads", "is no multiple of num_key_value_heads")
        return config


@dataclass(frozen=True)
class TextIds:
    """Control tokens of the text track."""

    im_start: int
    im_end: int
    pad: int
    bos: int
    eos: int


@dataclass(frozen=True)
class CodecIds:
    """Control codes of the first codebook."""

    pad: int
    bos: int
    eos: int
    think: int
    nothink: int
    think_bos: int
    think_eos: int


@dataclass(frozen=True)
class Draw:
    """How a code is drawn. `top_k` counts candidates, ties kept; `sample=False` takes the likeliest."""

    sample: bool = True
    temperature: float = 0.9
    top_k: int = 50
    top_p: float = 1.0


@dataclass(frozen=True)
class Sampling:
    """How an utterance is drawn; the defaults are those of the official package."""

    talker: Draw = field(default=Draw())
    predictor: Draw = field(default=Draw())
    repetition_penalty: float = 1.05
    max_frames: int = 8191

    @classmethod
    def of(cls, section: Section) -> Self:
        def draw(prefix: str, switch: str) -> Draw:
            return Draw(
                sample=section.get(switch, bool, True),
                temperature=section.get(f"{prefix}temperature", float, Draw.temperature),
                top_k=section.get(f"{prefix}top_k", int, Draw.top_k),
                top_p=section.get(f"{prefix}top_p", float, Draw.top_p),
            )

        return cls(
            talker=draw("", "do_sample"),
            predictor=draw("subtalker_", "subtalker_dosample"),
            repetition_penalty=section.get("repetition_penalty", float, cls.repetition_penalty),
            # The last token of a capped run is never expanded to a frame.
            max_frames=section.get("max_new_tokens", int, cls.max_frames + 1) - 1,
        )


@dataclass(frozen=True)
class ModelConfig:
    """A model directory's `config.json` and `generation_config.json`."""

    kind: Kind
    size: str
    talker: TransformerConfig
    predictor: TransformerConfig
    text_vocab: int
    text_hidden: int
    codec_vocab: int
    """Rows of the first codebook's table: codes, then control codes."""
    code_vocab: int
    """Codes of each other codebook."""
    text_ids: TextIds
    codec_ids: CodecIds
    languages: Mapping[str, int]
    """Lower-case name -> control code; dialects too."""
    speakers: Mapping[str, int]
    dialects: Mapping[str, str]
    """Speaker -> the dialect it speaks where the language is Chinese or left open."""
    sampling: Sampling
    speaker_encoder: Section | None
    """Only a base model clones."""

    @property
    def takes_instructions(self) -> bool:
        """Whether an instruction in words steers the voice; the others were not trained for it."""
        return self.kind == "voice_design" or (self.kind == "custom_voice" and self.size != "0b6")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a directory. Raises `CheckpointError`."""
        root = Section.read(directory / "config.json")
        root.require("model_type", "qwen3_tts")
        root.require("tokenizer_type", "qwen3_tts_tokenizer_12hz")
        root.require("tts_model_type", *get_args(Kind))
        root.require("tts_model_size", "0b6", "1b7")
        talker = root.section("talker_config")
        talker.require("num_code_groups", CODE_GROUPS)
        predictor = talker.section("code_predictor_config")
        predictor.require("num_code_groups", CODE_GROUPS)
        kind = cast(Kind, root.get("tts_model_type", str))
        text_vocab, codec_vocab = talker.get("text_vocab_size", int), talker.get("vocab_size", int)
        return cls(
            kind=kind,
            size=root.get("tts_model_size", str),
            talker=TransformerConfig.of(talker),
            predictor=TransformerConfig.of(predictor),
            text_vocab=text_vocab,
            text_hidden=talker.get("text_hidden_size", int),
            codec_vocab=codec_vocab,
            code_vocab=predictor.get("vocab_size", int),
            text_ids=TextIds(
                im_start=root.index("im_start_token_id", text_vocab),
                im_end=root.index("im_end_token_id", text_vocab),
                pad=root.index("tts_pad_token_id", text_vocab),
                bos=root.index("tts_bos_token_id", text_vocab),
                eos=root.index("tts_eos_token_id", text_vocab),
            ),
            codec_ids=CodecIds(
                pad=talker.index("codec_pad_id", codec_vocab),
                bos=talker.index("codec_bos_id", codec_vocab),
                eos=talker.index("codec_eos_token_id", codec_vocab),
                think=talker.index("codec_think_id", codec_vocab),
                nothink=talker.index("codec_nothink_id", codec_vocab),
                think_bos=talker.index("codec_think_bos_id", codec_vocab),
                think_eos=talker.index("codec_think_eos_id", codec_vocab),
            ),
            languages=_ids(talker.section("codec_language_id"), codec_vocab),
            speakers=_ids(talker.section("spk_id"), codec_vocab) if kind == "custom_voice" else {},
            dialects=_dialects(talker) if kind == "custom_voice" else {},
            sampling=_sampling(directory / "generation_config.json"),
            speaker_encoder=root.section("speaker_encoder_config") if kind == "base" else None,
        )


def _ids(section: Section, below: int) -> dict[str, int]:
    return {name.lower(): section.index(name, below) for name in section.values}


def _dialects(talker: Section) -> dict[str, str]:
    dialects, known = talker.section("spk_is_dialect"), talker.section("codec_language_id").values
    spoken = {name.lower(): dialects.get(name, str).lower() for name, dialect in dialects.values.items() if dialect}
    for speaker, dialect in spoken.items():
        if dialect not in map(str.lower, known):
            raise dialects.error(speaker, f"names {dialect!r}, which codec_language_id does not know")
    return spoken


def _sampling(file: Path) -> Sampling:
    return Sampling.of(Section.read(file)) if file.exists() else Sampling()
