"""Kokoro-82M as a `TextToSpeech`: a good voice without a GPU, in eight languages.

Runs the ONNX export of `onnx-community` straight on ONNX Runtime. The package `kokoro-onnx` would load espeak-ng
a second time beside ours, whose state is global, through a GPL-licensed wrapper, and reads another export's voices. The
model tells no word times: marks inside a part are an estimate by length. `kokoro_sounds` makes sounds of text.
"""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from avatar.core.audio import Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.base import Capabilities, SpeechChunk
from avatar.engines.onnx import open_session
from avatar.engines.tts.kokoro_mandarin import HAN
from avatar.engines.tts.kokoro_sounds import MANDARIN, to_sounds
from avatar.engines.tts.parts import Part, estimated_part, speak_parts
from avatar.engines.worker import ModelThreads

SAMPLE_RATE_HZ = 24_000
_STYLE_WIDTH = 256
_MAX_SOUNDS = 510  # the model's context of 512 without its two ends
_PART_CHARS = 120  # about 8 s of speech: what is made ahead, and what a barge-in waits for
_MAX_THREADS = 4

_DEFAULT_VOICE = "af_heart"
# The first letter of a voice: ISO 639-1 for sessions, espeak-ng's voice for the sounds. Japanese needs a dictionary.
_LANGUAGES = {
    "a": ("en", "en-us"),
    "b": ("en", "en"),
    "e": ("es", "es"),
    "f": ("fr", "fr"),
    "h": ("hi", "hi"),
    "i": ("it", "it"),
    "p": ("pt", "pt-br"),
    "z": ("zh", MANDARIN),
}

Style = NDArray[np.float32]


@dataclass(frozen=True)
class _Model:
    """`vocabulary`: sound to token. `styles`: float32[510, 256] a voice; the row depends on the number of sounds."""

    session: onnxruntime.InferenceSession
    vocabulary: Mapping[str, int]
    styles: Mapping[str, Style]

    def run(self, tokens: list[int], voice: str, speed: float) -> Pcm:
        """float32[n] at 24 kHz of at most `_MAX_SOUNDS` tokens."""
        feeds = {
            "input_ids": np.array([[0, *tokens, 0]], np.int64),
            "style": self.styles[voice][len(tokens) - 1][None],
            "speed": np.array([speed], np.float32),
        }
        pcm: Pcm = np.asarray(self.session.run(["waveform"], feeds)[0], np.float32).ravel()
        return pcm


class Kokoro:
    """Speaks with the weights in `folder`, laid out as in the hub's repository. `voice`: a name of `voices`; `speed`:
    1 is the voice's own."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path, voice: str = "", speed: float = 1.0) -> None:
        names = sorted(path.stem for path in (folder / "voices").glob("*.bin") if path.stem[:1] in _LANGUAGES)
        default = voice if voice in names else _DEFAULT_VOICE if _DEFAULT_VOICE in names else next(iter(names), "")
        self.voices = (default, *(name for name in names if name != default))
        self._folder = folder
        self._speed = speed
        self._threads = ModelThreads("kokoro", self._load)
        languages = frozenset(_LANGUAGES[name[0]][0] for name in names)
        self.capabilities = Capabilities(languages=languages, streams=True)

    @property
    def name(self) -> str:
        return f"kokoro (82M, {self.voices[0]})"

    async def warm_up(self) -> None:
        await self._threads.run(lambda model: self._speak(model, "Hello.", None, None))

    async def aclose(self) -> None:
        await self._threads.aclose()

    def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        async def synthesize(words: str) -> Part:
            return await self._threads.run(lambda model: self._speak(model, words, voice, language))

        return speak_parts(text, synthesize, SAMPLE_RATE_HZ, max_chars=_PART_CHARS, pace=self._speed)

    def choose_voice(self, text: str, voice: str | None, language: str | None) -> tuple[str, str]:
        """(voice, espeak-ng's voice for the sounds). A voice asked for stays; the default gives way to one of
        `language`, or of Mandarin for Han characters."""
        wanted = "zh" if HAN.search(text) else (language or "").lower().partition("-")[0]
        if voice in self.voices:
            assert voice is not None
            chosen = voice
        else:
            speaks = (name for name in self.voices if _LANGUAGES[name[0]][0] == wanted)
            chosen = next(speaks, self.voices[0])
        own, sounds = _LANGUAGES[chosen[0]]
        others = {code: name for code, name in _LANGUAGES.values() if code != "en"} | {"en": "en-us"}
        return chosen, sounds if wanted in ("", own) else others.get(wanted, sounds)

    def _load(self) -> _Model:
        if not self.voices[0]:
            raise EngineFailed("Kokoro has no voices: fetch its weights again with `avatar models fetch kokoro-82m`.")
        try:
            vocabulary = json.loads((self._folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
            styles = {
                name: np.fromfile(self._folder / "voices" / f"{name}.bin", "<f4").reshape(-1, _STYLE_WIDTH)
                for name in self.voices
            }
            if not all(len(style) for style in styles.values()):
                raise ValueError("a voice without styles")
        except (OSError, ValueError, KeyError) as error:
            raise EngineFailed("Kokoro's tokenizer or voices cannot be read: fetch its weights again.") from error
        found = next(iter(sorted((self._folder / "onnx").glob("*.onnx"))), self._folder / "onnx" / "model.onnx")
        threads = min(_MAX_THREADS, os.cpu_count() or 1)
        return _Model(open_session(found, threads=threads), vocabulary, styles)

    def _speak(self, model: _Model, text: str, voice: str | None, language: str | None) -> Part:
        chosen, reader = self.choose_voice(text, voice, language)
        tokens = [model.vocabulary[sound] for sound in to_sounds(text, reader) if sound in model.vocabulary]
        longest = min(_MAX_SOUNDS, len(model.styles[chosen]))
        runs = [tokens[start : start + longest] for start in range(0, len(tokens), longest)]
        pcm = np.concatenate([silence(0), *(model.run(run, chosen, self._speed) for run in runs)])
        return estimated_part(text, np.clip(pcm, -1, 1), SAMPLE_RATE_HZ)
