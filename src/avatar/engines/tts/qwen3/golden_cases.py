"""A golden set run through the engine: every output the official package gave, made again and compared.

A set is a folder of tiny models (config files and tensor names, no weights) with `golden.json`, which names the cases,
and `golden.npz`, their outputs. Nothing here depends on one set's salt, sizes or texts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avatar.engines.tts.qwen3.attention import KVCache
from avatar.engines.tts.qwen3.checkpoint import CODEC_DIR, Checkpoint, assemble
from avatar.engines.tts.qwen3.codec import DecoderState, load_codec
from avatar.engines.tts.qwen3.config import Draw, Sampling
from avatar.engines.tts.qwen3.goldens import made_weights
from avatar.engines.tts.qwen3.prompt import Prompt, Voice
from avatar.engines.tts.qwen3.sampling import Sampler

Array = npt.NDArray[Any]
Arrays = dict[str, Array]

# How sets are made: recordings are white noise of this loudness, those to encode seeded with 100 + their length.
LOUDNESS, ENCODE_SEED = 0.1, 100
DECODER_SEED, DECODER_FRAMES, DECODER_STRIDE = 9, 320, 11
WAV_SAMPLES = 19_200
GREEDY = Draw(sample=False)
BOUNDS = {"speaker": 1e-5, "wav_first_10_frames": 2e-6, "every_11th_sample_f64": 1e-9}
"""Largest difference by the last part of an output's name; all else must be equal."""


class GoldenSetError(ValueError):
    """A folder is no golden set; the message says what is wrong where."""


def read_set(set_dir: Path) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]], tuple[Path, ...]]:
    """The parameters, the cases and the models' folders of a set. Raises `GoldenSetError`."""
    file = set_dir / "golden.json"
    content = _json(file)
    folders = tuple(sorted(path.parent for path in set_dir.glob("*/config.json")))
    if not folders:
        raise GoldenSetError(f"{set_dir} has no models: no folder in it has a config.json.")
    try:
        parameters, cases = content["set"], content["cases"]
        wanted = {"salt": int, "max_new_tokens": int, "encode_lengths": list, "reference": dict}
        wrong = [name for name, kind in wanted.items() if not isinstance(parameters.get(name), kind)]
        wrong += [f"reference.{n}" for n in ("seed", "samples") if not isinstance(parameters["reference"].get(n), int)]
        if wrong:
            raise GoldenSetError(f"{file}: `set` lacks {', '.join(wrong)}.")
        for name, case in cases.items():
            if name.split(".")[0] not in {folder.name for folder in folders}:
                raise GoldenSetError(f"{file}: the case {name} is of no model that is here.")
            if lacking := [key for key in ("text", "language", "non_streaming") if key not in case]:
                raise GoldenSetError(f"{file}: the case {name} lacks {', '.join(lacking)}.")
    except (KeyError, AttributeError, TypeError) as error:
        raise GoldenSetError(f"{file} is not laid out as a golden set: {error!r}.") from error
    return parameters, cases, folders


def made_tensors(file: Path, salt: int) -> dict[str, Tensor]:
    """The weights that a `tensors.json` names. Raises `GoldenSetError`."""
    try:
        return {name: torch.from_numpy(array) for name, array in made_weights(_json(file), salt).items()}
    except (AttributeError, IndexError, ValueError) as error:
        raise error if isinstance(error, GoldenSetError) else GoldenSetError(f"{file}: {error}") from error


def recording(seed: int, samples: int) -> Tensor:
    """White noise float32[samples]: what a set was made with for want of a speaker."""
    normal = np.random.RandomState(seed).standard_normal(samples)
    return torch.from_numpy((LOUDNESS * normal).astype(np.float32))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GoldenSetError(f"{file} cannot be read: {error}.") from error


@dataclass(frozen=True)
class GoldenModel:
    """One model of a set, with its weights made."""

    kind: str
    checkpoint: Checkpoint
    codec_tensors: Mapping[str, Tensor]
    cases: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Any]

    @classmethod
    def load_all(cls, set_dir: Path) -> "Iterator[GoldenModel]":
        """The models of a set, in the order of their names."""
        parameters, cases, folders = read_set(set_dir)
        for folder in folders:
            tensors = made_tensors(folder / "tensors.json", parameters["salt"])
            codec_tensors = made_tensors(folder / CODEC_DIR / "tensors.json", parameters["salt"])
            own = {name: case for name, case in cases.items() if name.split(".")[0] == folder.name}
            yield cls(folder.name, assemble(folder, tensors, codec_tensors), codec_tensors, own, parameters)

    def outputs(self) -> Iterator[tuple[str, Array]]:
        """Every output by name, but the decoder's: that needs codes."""
        if self.checkpoint.speaker_encoder is not None:
            codes, speaker = self.reference
            yield f"{self.kind}.ref.codes", _codes(codes)
            yield f"{self.kind}.ref.speaker", speaker.numpy()
            for length in self.parameters["encode_lengths"]:
                wav = recording(ENCODE_SEED + length, length)
                yield f"{self.kind}.encode.{length}", _codes(self.checkpoint.encoder(wav[None])[0].T)
        for name, spoken, wav in zip(*self.speech(), strict=True):
            yield f"{name}.codes", _codes(spoken)
            yield f"{name}.wav_first_10_frames", wav[:WAV_SAMPLES].numpy()
            yield f"{name}.n_samples", np.array(len(wav))

    @cached_property
    def reference(self) -> tuple[Tensor, Tensor]:
        """Codes[T, 16] and speaker vector of the set's reference recording."""
        wav = recording(self.parameters["reference"]["seed"], self.parameters["reference"]["samples"])
        assert self.checkpoint.speaker_encoder is not None
        return self.checkpoint.encoder(wav[None])[0].T, self.checkpoint.speaker_encoder(wav)

    def speech(self) -> tuple[list[str], list[Tensor], list[Tensor]]:
        """Names, codes[T, 16] and audio of all texts of all cases, spoken in one batch."""
        rows = {f"{name}.{n}": row for name, case in self.cases.items() for n, row in enumerate(_rows(case))}
        voices, prompts = [], []
        for name, row in rows.items():
            try:
                voices.append(self._voice(row))
                prompts.append(self._prompt(row, voices[-1]))
            except (ValueError, KeyError) as error:
                raise GoldenSetError(f"The case {name}: {error}") from error
        sampling = Sampling(
            talker=GREEDY,
            predictor=GREEDY,
            repetition_penalty=self.checkpoint.config.sampling.repetition_penalty,
            max_frames=self.parameters["max_new_tokens"] - 1,
        )
        codes = generate(self.checkpoint, prompts, sampling)
        wavs = [self._decode(voice, spoken) for voice, spoken in zip(voices, codes, strict=True)]
        return list(rows), codes, wavs

    def decoder_samples(self, codes: Array) -> Array:
        """One float64 pass of the decoder over codes[16, T], every 11th sample."""
        _, decoder = load_codec(self.codec_tensors, self.checkpoint.codec_config, torch.float64)
        wav: Tensor = decoder(torch.from_numpy(codes.astype(np.int64))[None])[0]
        return wav[::DECODER_STRIDE].numpy()

    def streamed_decoder_samples(self, codes: Array, seed: int) -> Array:
        """The same, decoded in pieces of random lengths."""
        config, chance = self.checkpoint.codec_config, np.random.RandomState(seed)
        _, decoder = load_codec(self.codec_tensors, config, torch.float64)
        state, slots = DecoderState.allocate(config.decoder, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
        pieces, rest = [], torch.from_numpy(codes.astype(np.int64))[None]
        while rest.shape[2]:
            count = int(chance.randint(1, 40))
            pieces.append(decoder.step(rest[..., :count], state, slots))
            rest = rest[..., count:]
        return torch.cat(pieces, 1)[0, ::DECODER_STRIDE].numpy()

    def _voice(self, case: Mapping[str, Any]) -> Voice:
        prompter = self.checkpoint.prompter
        if self.checkpoint.speaker_encoder is None:
            return prompter.speaker(case["speaker"]) if case.get("speaker") else Voice()
        codes, speaker = self.reference
        return prompter.clone(speaker) if case["mode"] == "xvec" else prompter.clone(speaker, codes, case["ref_text"])

    def _prompt(self, case: Mapping[str, Any], voice: Voice) -> Prompt:
        prompter = self.checkpoint.prompter
        opening = prompter.opening(voice, case["language"], case.get("instruct"))
        ids = prompter.text_ids(case["text"])
        return prompter.whole(opening, ids) if case["non_streaming"] else prompter.streaming(opening, ids, ended=True)

    def _decode(self, voice: Voice, codes: Tensor) -> Tensor:
        """Audio of codes[T, 16] spoken after the voice's reference, cut off as the official package does it."""
        read = codes[:0] if voice.reference is None else voice.reference.codes
        both = torch.cat([read, codes])
        wav: Tensor = self.checkpoint.decoder(both.T[None])[0]
        return wav[int(len(read) / max(len(both), 1) * len(wav)) :]


def generate(checkpoint: Checkpoint, prompts: list[Prompt], sampling: Sampling, seed: int = 0) -> list[Tensor]:
    """Codes[T, 16] of each prompt, in one batch, without the frame that ends it."""
    talker, predictor, config = checkpoint.talker, checkpoint.predictor, checkpoint.config
    slots = torch.arange(len(prompts))
    lengths = torch.tensor([len(prompt.rows) for prompt in prompts])
    cache = KVCache.allocate(config.talker, len(prompts), int(lengths.max()) + sampling.max_frames)
    sampler = Sampler(config, len(prompts))
    for slot in range(len(prompts)):
        sampler.open(slot, sampling, seed)
    rows = torch.nn.utils.rnn.pad_sequence([prompt.rows for prompt in prompts], batch_first=True)
    hidden = talker.prefill(rows, lengths, cache, slots)
    frames: list[Tensor] = []
    for n in range(sampling.max_frames):
        drawing = sampler.frame(slots)
        frames.append(predictor.frame(hidden, drawing.first(talker.logits(hidden)), drawing.other))
        text = [prompt.trailing[n] if n < len(prompt.trailing) else config.text_ids.pad for prompt in prompts]
        hidden = talker.step(predictor.embed(frames[-1]) + talker.text(torch.tensor(text)), cache, slots, lengths + n)
    return [_until(codes, config.codec_ids.eos) for codes in torch.stack(frames, dim=1)]


def golden_outputs(set_dir: Path) -> Arrays:
    """All outputs of a set by the names of its `golden.npz`."""
    given = read_golden(set_dir)
    outputs: Arrays = {}
    for model in GoldenModel.load_all(set_dir):
        outputs.update(model.outputs())
        codes = decoder_codes(given, model)
        outputs[f"{model.kind}.decoder.codes"] = codes
        outputs[f"{model.kind}.decoder.every_11th_sample_f64"] = model.decoder_samples(codes)
    return outputs


def decoder_codes(given: Arrays, model: GoldenModel) -> Array:
    """The codes[16, T] that the decoder is tried on: the set's, or those every set has had."""
    size = model.checkpoint.codec_config.decoder.codebook_size
    made = np.random.RandomState(DECODER_SEED).randint(0, size, (16, DECODER_FRAMES)).astype(np.int16)
    return given.get(f"{model.kind}.decoder.codes", made)


def read_golden(set_dir: Path) -> Arrays:
    """The set's `golden.npz`; nothing if it has none."""
    file = set_dir / "golden.npz"
    if not file.exists():
        return {}
    try:
        with np.load(file) as arrays:
            return dict(arrays)
    except (OSError, ValueError) as error:
        raise GoldenSetError(f"{file} cannot be read: {error}") from error


def differences(made: Arrays, golden: Arrays) -> Iterator[str]:
    """What is missing, new or further from the golden than its bound, a line each."""
    for name in sorted(made.keys() ^ golden.keys()):
        yield f"{name} is {'not in the golden set' if name in made else 'missing'}"
    for name in sorted(made.keys() & golden.keys()):
        bound = BOUNDS.get(name.rsplit(".", 1)[-1], 0.0)
        if made[name].shape != golden[name].shape:
            yield f"{name} has shape {made[name].shape}, not {golden[name].shape}"
        elif (off := largest_difference(made[name], golden[name])) > bound:
            yield f"{name} is off by {off:.3g}, bound {bound:g}"


def largest_difference(made: Array, golden: Array) -> float:
    return float(np.abs(made.astype(np.float64) - golden.astype(np.float64)).max(initial=0.0))


def _rows(case: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The texts of a case with what goes with each."""
    if isinstance(case["text"], str):
        return [case]
    return [
        {key: value[n] if isinstance(value, list) else value for key, value in case.items()}
        for n in range(len(case["text"]))
    ]


def _until(codes: Tensor, end: int) -> Tensor:
    ends = (codes[:, 0] == end).nonzero()
    return codes[: int(ends[0])] if len(ends) else codes


def _codes(codes: Tensor) -> Array:
    return codes.numpy().astype(np.int16)
