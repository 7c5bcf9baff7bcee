"""What the talker reads before its first frame, and the text that goes on the frames after it.

Every position is a text track plus a codec track. Streaming text is the base case: the text lies over the codec track
position by position, and what is left of it goes on later frames. A voice without reference recording is the case of a
codec track of one position, and text known in full is the case that ended before the first frame. Knows no slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar.engines.tts.qwen3.config import ModelConfig
from avatar.engines.tts.qwen3.predictor import Predictor
from avatar.engines.tts.qwen3.talker import Talker
from avatar.engines.tts.qwen3.text import Committer, TextTokenizer

AUTO = "auto"
"""Language left to the model."""


@dataclass(frozen=True)
class Reference:
    """A recording that is read in front of the text, and its words: codes[T, 16], tokens of what is said in it."""

    codes: Tensor
    text_ids: tuple[int, ...]


@dataclass(frozen=True)
class Voice:
    """Who speaks. `speaker`[H] is None where an instruction alone describes the voice."""

    speaker: Tensor | None = None
    dialect: str | None = None
    reference: Reference | None = None


@dataclass(frozen=True)
class Opening:
    """All of a prompt that its text does not change, so that it can be read once for many utterances."""

    rows: Tensor
    """[T, H]: instruction, role, language, speaker."""
    codec_track: Tensor
    """[n, H]: what the text is laid over: the beginning of speech, then the reference's frames."""
    reference_ids: tuple[int, ...]

    @property
    def wanted_tokens(self) -> int:
        """Text tokens that streaming text must have before speech can begin, unless it has ended."""
        return max(0, len(self.codec_track) - len(self.reference_ids))


@dataclass(frozen=True)
class Prompt:
    """Rows[T, H] to read, and the text tokens for the frames that follow: one each, then padding for ever."""

    rows: Tensor
    trailing: tuple[int, ...]


class Prompter:
    """Lays out prompts for one model. All tensors are on the model's device and of its type."""

    def __init__(self, config: ModelConfig, talker: Talker, predictor: Predictor, tokenizer: TextTokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self._talker = talker
        self._predictor = predictor
        self._role_ids = [config.text_ids.im_start, *tokenizer.encode("assistant\n")]
        self._line_ids = tokenizer.encode("\n")

    def text_ids(self, text: str) -> list[int]:
        """Tokens of a whole text, as a `Committer` gives them for any split of it."""
        committer = Committer(self.tokenizer)
        return committer.push(text) + committer.end()

    def speaker(self, name: str) -> Voice:
        """A voice that the model was trained with, by its name in any case. Raises `ValueError`."""
        key = name.lower()
        if key not in self.config.speakers:
            known = ", ".join(sorted(self.config.speakers)) or "none"
            raise ValueError(f"This model has no speaker {name!r}; it has {known}.")
        return Voice(self._codes(self.config.speakers[key])[0], self.config.dialects.get(key))

    def clone(self, speaker: Tensor, codes: Tensor | None = None, text: str | None = None) -> Voice:
        """A voice from its vector[H] alone, or also from a recording: its codes[T, 16] and what is said in it."""
        reference = None
        if codes is not None:
            if not text:
                raise ValueError("A reference recording needs its transcript.")
            reference = Reference(codes, tuple(self.text_ids(text)))
        return Voice(speaker, reference=reference)

    def opening(self, voice: Voice, language: str = AUTO, instruction: str | None = None) -> Opening:
        """Begin a prompt. An instruction to a model that takes none is left out, as the official package does."""
        ids, talker = self.config.codec_ids, self._talker
        rows = [talker.text(self._ids(self._role_ids))]
        if instruction and self.config.takes_instructions:
            rows.insert(0, talker.text(self._ids(self._instruction_ids(instruction))))
        code = self._language_code(language, voice.dialect)
        control = [ids.nothink, ids.think_bos] if code is None else [ids.think, ids.think_bos, code]
        codec = [self._codes(*control, ids.think_eos)]
        if voice.speaker is not None:
            codec.append(voice.speaker.to(codec[0]).unsqueeze(0))
        rows.append(torch.cat(codec) + self._pad)
        rows.append(self._codes(ids.pad) + talker.text(self._ids([self.config.text_ids.bos])))
        track = self._codes(ids.bos)
        if voice.reference is None:
            return Opening(torch.cat(rows), track, ())
        frames = self._predictor.embed(voice.reference.codes.to(track.device))
        return Opening(torch.cat(rows), torch.cat([track, frames]), voice.reference.text_ids)

    def streaming(self, opening: Opening, ids: Sequence[int], ended: bool) -> Prompt:
        """The prompt for text that has come as far as `ids`, at least `opening.wanted_tokens` unless it has `ended`.

        Later tokens go behind `trailing`, and `config.text_ids.eos` behind the last; a frame whose token has not come
        must wait.
        """
        if not ended and len(ids) < opening.wanted_tokens:
            raise ValueError(f"Speech begins on {opening.wanted_tokens} tokens of text, not on {len(ids)}.")
        text = [*opening.reference_ids, *ids, *([self.config.text_ids.eos] if ended else [])]
        wanted = len(opening.codec_track)
        laid = text[:wanted] + [self.config.text_ids.pad] * (wanted - len(text))
        rows = self._talker.text(self._ids(laid)) + opening.codec_track
        return Prompt(torch.cat([opening.rows, rows]), tuple(text[wanted:]))

    def whole(self, opening: Opening, ids: Sequence[int]) -> Prompt:
        """The prompt that reads all its text before it speaks (`non_streaming_mode` of the official package)."""
        text = self._talker.text(self._ids([*opening.reference_ids, *ids, self.config.text_ids.eos]))
        silent = self._codes(self.config.codec_ids.pad)
        return Prompt(torch.cat([opening.rows, text + silent, opening.codec_track + self._pad]), ())

    @property
    def _pad(self) -> Tensor:
        return self._talker.text(self._ids([self.config.text_ids.pad]))

    def _language_code(self, language: str, dialect: str | None) -> int | None:
        key, languages = language.lower(), self.config.languages
        if dialect is not None and key in (AUTO, "chinese"):
            return languages[dialect]
        if key != AUTO and key not in languages:
            raise ValueError(f"This model has no language {language!r}; it has {AUTO}, {', '.join(sorted(languages))}.")
        return languages.get(key)

    def _instruction_ids(self, instruction: str) -> list[int]:
        ids = self.config.text_ids
        return [ids.im_start, *self.tokenizer.encode(f"user\n{instruction}"), ids.im_end, *self._line_ids]

    def _codes(self, *codes: int) -> Tensor:
        return self._talker.codec_embedding[self._ids(codes)]

    def _ids(self, ids: Sequence[int]) -> Tensor:
        device, made = self._talker.codec_embedding.device, torch.tensor(list(ids))
        pinned = made.pin_memory() if device.type == "cuda" else made  # the copy then waits for nothing
        return pinned.to(device, non_blocking=True)
