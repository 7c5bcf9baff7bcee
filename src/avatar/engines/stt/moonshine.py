"""English speech to text by Moonshine (ONNX, merged decoder): fast enough to be asked at every pause.

Owns the decoding loop. What an utterance is, and when a result may be reused, is in `utterance`.
"""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from avatar.core.audio import INPUT_RATE_HZ, Pcm, silence
from avatar.core.errors import EngineFailed
from avatar.engines.base import Capabilities, Transcript
from avatar.engines.onnx import open_session
from avatar.engines.stt.cutting import trim
from avatar.engines.stt.loops import loop_period, without_loop
from avatar.engines.stt.utterance import Recognizer, Stopped, Utterance
from avatar.engines.worker import ModelThreads

ENCODER_FILE = "encoder_model.onnx"
DECODER_FILE = "decoder_model_merged.onnx"
TOKENIZER_FILE = "tokenizer.json"

_START_TOKEN = 1
_END_TOKEN = 2
_TOKENS_PER_S = 6.5
"""English speech has no more (the model's published generation limit); what goes on longer is a loop."""
_SHORTEST_SAMPLES = INPUT_RATE_HZ // 4
_LONGEST_SAMPLES = 15 * INPUT_RATE_HZ
"""The encoder's cost grows with the square of the length: 40 ms for 10 s, 100 ms for 20 s, 530 ms for 60 s. Longer
pieces are no more accurate, and from 45 s on the decoder begins to loop."""

# Moonshine loses short utterances in the silence around them, and the first word of those without any. Word errors of
# 60 short phrases by three espeak-ng voices, cut so many milliseconds before the first and after the last loud sound:
# 80: 20 %, 100: 14 %, 120: 9 %, 140: 14 %; untrimmed, with the 0.3 s before a turn and 0.2 s after it: 17 %.
_MARGIN_SAMPLES = 120 * INPUT_RATE_HZ // 1000
_FLOOR = 0.05


class Moonshine:
    """Fills `SpeechToText`. English only: a `language` hint changes nothing."""

    capabilities = Capabilities(languages=frozenset({"en"}), streams=True, concurrent=2)

    def __init__(self, weights: Path, *, threads: int = 1) -> None:
        """`weights`: a folder with the two ONNX files and `tokenizer.json`. `threads`: for one encoder run."""
        self.name = f"moonshine ({weights.name})"
        self._threads: ModelThreads[Recognizer] = ModelThreads(
            self.name, partial(_Model, weights, threads), self.capabilities.concurrent
        )

    async def warm_up(self) -> None:
        await self._threads.warm_up()

    async def aclose(self) -> None:
        await self._threads.aclose()

    def open(self, language: str | None = None) -> Utterance:
        return Utterance(self._threads, "en")


class _Model:
    """Fills `Recognizer`; its sessions may run in several threads at once."""

    longest_samples = _LONGEST_SAMPLES
    drafts = False

    def __init__(self, weights: Path, threads: int) -> None:
        self._encoder = open_session(weights / ENCODER_FILE, threads=threads)
        # One token is too little work to share among threads. Folding takes a third off each: the output layer is
        # otherwise made float anew every time.
        self._decoder = open_session(weights / DECODER_FILE, fold_weights=True)
        self._tokenizer = _open_tokenizer(weights / TOKENIZER_FILE)
        inputs = {spec.name: spec for spec in self._decoder.get_inputs()}
        caches = [name for name in inputs if name.startswith("past_key_values.")]
        _, heads, _, width = inputs[caches[0]].shape
        nothing = np.zeros((1, heads, 0, width), dtype=np.float32)
        self._empty_caches = dict.fromkeys(caches, nothing)
        self._growing = [name for name in caches if ".decoder." in name]
        self.recognize(silence(INPUT_RATE_HZ), None, thorough=True, stop=threading.Event())

    def recognize(self, pcm: Pcm, language: str | None, *, thorough: bool, stop: threading.Event) -> Transcript:
        """As `Recognizer.recognize`: stops within one token, or one encoder run."""
        pcm = trim(pcm, margin_samples=_MARGIN_SAMPLES, floor=_FLOOR)
        pcm = np.pad(pcm, (0, max(0, _SHORTEST_SAMPLES - pcm.size)))
        tokens = self._decode(pcm, stop)
        return Transcript(self._tokenizer.decode(tokens).strip(), "en")

    def _decode(self, pcm: Pcm, stop: threading.Event) -> list[int]:
        """Greedy: the likeliest token each time, from `pcm` and the tokens before."""
        feeds: dict[str, NDArray[Any]] = {
            **self._empty_caches,
            "use_cache_branch": np.array([False]),
            "input_ids": np.array([[_START_TOKEN]]),
        }
        _check(stop)
        (feeds["encoder_hidden_states"],) = self._encoder.run(None, {"input_values": pcm[np.newaxis]})
        tokens: list[int] = []
        updated = list(self._empty_caches)
        for _ in range(int(_TOKENS_PER_S * pcm.size / INPUT_RATE_HZ) + 1):
            _check(stop)
            logits, *caches = self._decoder.run(["logits", *map(_present, updated)], feeds)
            token = int(logits[0, -1].argmax())
            if token == _END_TOKEN:
                break
            tokens.append(token)
            if loop_period(tokens):
                break
            feeds.update(zip(updated, caches, strict=True))
            feeds["input_ids"] = np.array([[token]])
            # The first run also made the caches of what was heard; they never change again.
            feeds["use_cache_branch"], updated = np.array([True]), self._growing
        return without_loop(tokens)


def _present(past: str) -> str:
    """Name of the output that becomes the input `past`."""
    return past.replace("past_key_values", "present")


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped("The transcription was stopped.")


def _open_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise EngineFailed(
            f"The tokenizer {path.name} is missing in {path.parent}: fetch the weights, then start again."
        )
    return Tokenizer.from_file(str(path))
