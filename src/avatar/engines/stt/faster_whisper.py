"""Multilingual speech to text by faster-whisper (CTranslate2), on the CPU or on CUDA.

Owns the choice of precision and of decoding options. The library is imported when the model is loaded: importing it
takes a fifth of a second. Weights come from a folder, never from the network.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from avatar.core.audio import INPUT_RATE_HZ, Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.base import Capabilities, TimedWord, Transcript
from avatar.engines.stt.loops import without_loop
from avatar.engines.stt.utterance import Recognizer, Stopped, Utterance
from avatar.engines.worker import ModelThreads

T = TypeVar("T")

Device = Literal["auto", "cpu", "cuda"]

_ONLY_TRANSCRIBE = (".en", "turbo", "distil")
"""In the names of models that were never taught to translate."""

_COMPUTE_TYPES = {"cpu": ("int8", "float32"), "cuda": ("float16", "int8", "float32")}
"""The first that the hardware does well is taken."""
_BEAMS = 3
"""For a final result; fewer than the library's 5, because somebody waits for it."""
_LONGEST_SAMPLES = 28 * INPUT_RATE_HZ
"""Whisper hears 30 s at once (Radford et al. 2022); a piece leaves room for its end."""
_TOKENS_PER_S = 16
_SPARE_TOKENS = 16
_MOST_TOKENS = 224
"""Bounds on what is written for a piece, so that a stuck decoder ends: well above fast speech in any script, and never
more than half of Whisper's context of 448 tokens, as in Whisper itself."""


class FasterWhisper:
    """Fills `SpeechToText`. Detects the language unless told."""

    def __init__(self, weights: Path, *, device: Device = "auto", threads: int = 0, concurrent: int = 2) -> None:
        """`weights`: a CTranslate2 model folder with its `tokenizer.json`. `threads`: CPU threads for one stream;
        0 lets the library choose. `concurrent`: streams transcribed at the same time."""
        self.name = f"faster-whisper ({weights.name})"
        self.capabilities = Capabilities(
            languages=frozenset({"en"}) if weights.name.endswith(".en") else frozenset(),
            streams=True,
            translates=not any(word in weights.name for word in _ONLY_TRANSCRIBE),
            concurrent=concurrent,
        )
        load = partial(_Model, weights, device, threads, concurrent)
        self._threads: ModelThreads[_Model] = ModelThreads(self.name, load, concurrent)

    async def warm_up(self) -> None:
        await self._threads.warm_up()

    async def aclose(self) -> None:
        await self._threads.aclose()

    def open(self, language: str | None = None) -> Utterance:
        """As `SpeechToText.open`; a language the model does not know is detected instead."""
        return Utterance(self._threads, language)

    async def time_words(self, pcm: Pcm, language: str | None = None) -> Transcript:
        """As `WordTiming.time_words`: by the attention of the decoder to the sound."""
        never = threading.Event()
        return await self._threads.run(
            lambda model: model.recognize(pcm, language, thorough=True, stop=never, with_words=True)
        )

    def open_translation(self, language: str | None = None) -> Utterance:
        """As `SpeechTranslation.open_translation`."""
        return Utterance(_Translating(self._threads), language, written_in="en")


class _Translating:
    """Fills `RecognizerThreads`: the same model, writing English."""

    def __init__(self, threads: "ModelThreads[_Model]") -> None:
        self._threads = threads

    async def run(self, work: Callable[[Recognizer], T]) -> T:
        return await self._threads.run(lambda model: work(model.translation))

    async def run_aside(self, work: Callable[[Recognizer], T], stop: threading.Event) -> T | None:
        return await self._threads.run_aside(lambda model: work(model.translation), stop)


class _Translation:
    """Fills `Recognizer`."""

    longest_samples = _LONGEST_SAMPLES
    drafts = True

    def __init__(self, model: "_Model") -> None:
        self._model = model

    def recognize(self, pcm: Pcm, language: str | None, *, thorough: bool, stop: threading.Event) -> Transcript:
        return self._model.recognize(pcm, language, thorough=thorough, stop=stop, task="translate")


class _Model:
    """Fills `Recognizer`."""

    longest_samples = _LONGEST_SAMPLES
    drafts = True

    def __init__(self, weights: Path, device: Device, threads: int, concurrent: int) -> None:
        for file in ("model.bin", "config.json", "tokenizer.json"):
            # Without its tokenizer the library would go and download one.
            if not (weights / file).is_file():
                raise EngineFailed(f"{file} is missing in {weights}: fetch the weights, then start again.")
        import ctranslate2
        from faster_whisper import WhisperModel

        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        self._whisper = WhisperModel(
            str(weights),
            device=device,
            compute_type=next(
                t for t in _COMPUTE_TYPES[device] if t in ctranslate2.get_supported_compute_types(device)
            ),
            cpu_threads=threads,
            num_workers=concurrent,
            local_files_only=True,
        )
        self._languages = frozenset(self._whisper.supported_languages)
        self.translation = _Translation(self)
        self.recognize(silence(INPUT_RATE_HZ), None, thorough=True, stop=threading.Event())

    def recognize(
        self,
        pcm: Pcm,
        language: str | None,
        *,
        thorough: bool,
        stop: threading.Event,
        task: Literal["transcribe", "translate"] = "transcribe",
        with_words: bool = False,
    ) -> Transcript:
        """As `Recognizer.recognize`: stops before each segment; one that is being decoded is bounded by its tokens."""
        if stop.is_set():
            raise Stopped("The transcription was stopped.")
        segments, info = self._whisper.transcribe(
            pcm,
            language=language if language in self._languages else None,
            task=task,
            beam_size=_BEAMS if thorough else 1,
            temperature=0.0,  # the library's retries at higher temperatures would take many times as long
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
            word_timestamps=with_words,
            max_new_tokens=min(_MOST_TOKENS, _SPARE_TOKENS + _TOKENS_PER_S * pcm.size // INPUT_RATE_HZ),
        )
        texts, words = [], []
        for segment in segments:
            if stop.is_set():
                raise Stopped("The transcription was stopped.")
            kept = without_loop(segment.tokens)
            texts.append(segment.text if kept == segment.tokens else self._whisper.hf_tokenizer.decode(kept))
            words += _timed(segment.words or (), texts[-1])
        return Transcript("".join(texts).strip(), info.language, tuple(words))


def _timed(words: Sequence[Any], text: str) -> list[TimedWord]:
    """The library's words, as far as `text` goes."""
    timed, length = list[TimedWord](), 0
    for word in words:
        length += len(word.word)
        if length > len(text):
            break
        timed.append(TimedWord(word.word.strip(), float(word.start), float(word.end)))
    return timed
