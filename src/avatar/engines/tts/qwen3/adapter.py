"""Our Qwen3-TTS engine as a `TextToSpeech` that clones.

Text goes to the model as it comes, token by token, unless the voice is a recording that the model reads on from: then a
piece at a time. Owns the choice of voice and language, the end of what does not end, and an estimate of the marks; all
else is the engine's. The one file of the package that knows the rest of AVATAR.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from avatar.core.audio import Pcm, resample, silence
from avatar.core.errors import EngineFailed, EngineLost
from avatar.core.voices import Reference
from avatar.engines.base import Capabilities, Mark, SpeechChunk
from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.devices import Device, choose_device
from avatar.engines.tts.parts import LETTERS_PER_S, LeadingSilence, letters, split, word_ends
from avatar.engines.tts.qwen3.checkpoint import read_checkpoint
from avatar.engines.tts.qwen3.codec.config import SAMPLE_RATE_HZ
from avatar.engines.tts.qwen3.config import ModelConfig
from avatar.engines.tts.qwen3.engine import Engine, EngineStopped, Options, Report, Session
from avatar.engines.tts.qwen3.prompt import AUTO
from avatar.engines.tts.qwen3.speech import Packet
from avatar.engines.tts.qwen3.voices import Clone, from_bytes, to_bytes

logger = logging.getLogger(__name__)

LANGUAGES = {
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "it": "italian",
    "ja": "japanese",
    "ko": "korean",
    "pt": "portuguese",
    "ru": "russian",
    "zh": "chinese",
}
NOBODY = "default"
"""The voice of a base model that has learned none: whatever it makes up."""

PATIENCE_S = 2.0
PART_CHARS = 300
UTTERANCE_CHARS = 600
"""After so much text (about 45 s) the next piece begins a new utterance: a slot's positions are bounded."""

GPU_SHARE = 0.5
"""Of the GPU memory that is free once the model is loaded, what slots may take: language models live there too."""
GPU_SLOTS, CPU_SLOTS = 64, 4
POSITIONS = 2048  # of an utterance, prompt and all: 160 s


class Qwen3Tts:
    """The model in the folder `weights`. `voice`: the default; empty: the model's first.

    `device`: `cuda` (in bfloat16) or `cpu` (in float32); `auto` takes a GPU if there is one. `slots`: utterances at the
    same time; 0: as many as there is memory for. `clones_by`: whether a learned voice is its recording, if its words
    are known, which resembles it most, or always its vector, which lets text come token by token. `patience`: how many
    times as long as read at a usual pace a text may take, before it is cut off. `fp8`: the language layers in 8 bits,
    for half their memory and some loss. `seed`: of what is drawn; the same text then sounds the same.
    """

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(
        self,
        weights: Path,
        voice: str = "",
        *,
        device: Device = "auto",
        slots: int = 0,
        clones_by: Literal["recording", "vector"] = "recording",
        patience: float = 2.5,
        fp8: bool = False,
        seed: int = 0,
        options: Options | None = None,
    ) -> None:
        self._weights = weights
        self._wanted = voice
        self._device = choose_device(device)
        self._slots = slots
        self._clones_by = clones_by
        self._patience = patience
        self._fp8 = fp8
        self._seed = seed
        self._options = options or Options()
        try:
            self._config = ModelConfig.load(weights)
        except CheckpointError as error:
            raise EngineFailed(f"Qwen3-TTS cannot be loaded. {error}") from error
        self._clones: dict[str, Clone] = {}
        self._loading = asyncio.Lock()
        self._engine: Engine | None = None
        self._report: Report | None = None
        self._closed = False

    @property
    def name(self) -> str:
        size = {"0b6": "0.6B", "1b7": "1.7B"}[self._config.size]
        where = f", {self._report.device}" if self._report else ""
        return f"qwen3-tts ({size} {self._config.kind.replace('_', ' ')}{where})"

    @property
    def capabilities(self) -> Capabilities:
        spoken = frozenset(code for code, name in LANGUAGES.items() if name in self._config.languages)
        slots = self._report.slots if self._report else self._slots or CPU_SLOTS
        return Capabilities(
            spoken,
            streams=True,
            clones=self._config.kind == "base",
            has_own_voices=self._config.kind != "base",
            concurrent=slots,
        )

    @property
    def voices(self) -> tuple[str, ...]:
        own = tuple(self._config.speakers) or (NOBODY,)
        first = (self._wanted.lower(),) if self._wanted.lower() in own else ()
        return (*dict.fromkeys((*first, *own)), *self._clones)

    async def warm_up(self) -> None:
        engine = await self._running()
        async with aclosing(
            self._utter(engine, self._resolve(None, None), "Hello there.", _none(), _Marks())
        ) as chunks:
            await anext(chunks, None)

    async def aclose(self) -> None:
        self._closed = True
        async with self._loading:
            if self._engine is not None:
                await asyncio.to_thread(self._engine.close)
                self._engine = None

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        marks = _Marks()
        try:
            wanted = self._resolve(voice, language)
            engine = await self._running()
            async with aclosing(_parts(text)) as parts:
                async for part in parts:
                    marks.begin(part)
                    if any(char.isalnum() for char in part):
                        async with aclosing(self._utter(engine, wanted, part, parts, marks)) as chunks:
                            async for chunk in chunks:
                                yield chunk
                    yield marks.end()
        finally:
            if isinstance(text, AsyncGenerator):
                await text.aclose()

    # --- voices -----------------------------------------------------------------------------------------------------

    @property
    def conditioning_version(self) -> str:
        return f"qwen3-tts-1 {self._config.size} {self._clones_by}"

    async def condition(self, reference: Reference) -> bytes:
        engine = await self._running()
        pcm = resample(reference.pcm, reference.rate_hz, SAMPLE_RATE_HZ)
        transcript = reference.text.strip() if self._clones_by == "recording" else ""
        try:
            return to_bytes(await engine.clone(pcm, transcript or None))
        except (ValueError, EngineStopped) as error:
            raise EngineFailed(str(error)) from error

    def learn(self, voice: str, conditioning: bytes) -> None:
        if self._engine is None:
            raise EngineFailed("The speech engine has to be warmed up before it learns voices.")
        try:
            self._clones[voice] = from_bytes(self._engine.checkpoint, conditioning)
        except ValueError:
            raise EngineFailed("What was kept of this voice cannot be read: enrol it again.") from None

    def forget(self, voice: str) -> None:
        self._clones.pop(voice, None)

    def _resolve(self, voice: str | None, language: str | None) -> "_Wanted":
        """Fixed for a stream, whatever is forgotten meanwhile."""
        named = LANGUAGES.get((language or "").lower(), AUTO)
        spoken = named if named in self._config.languages else AUTO
        if voice in self._clones:
            return _Wanted(self._clones[voice], spoken)
        known = voice.lower() if voice and voice.lower() in self._config.speakers else self.voices[0]
        return _Wanted(None if known == NOBODY else known, spoken)

    # --- speech -----------------------------------------------------------------------------------------------------

    async def _utter(
        self, engine: Engine, wanted: "_Wanted", part: str, parts: AsyncIterator[str], marks: "_Marks"
    ) -> AsyncGenerator[SpeechChunk, None]:
        """An utterance that begins with `part` and takes more of `parts` when it has spoken that."""
        leading, given = LeadingSilence(SAMPLE_RATE_HZ), False
        try:
            session = engine.open(wanted.voice, wanted.language, seed=self._seed, paced=False)
            try:
                ended = _give(session, part, last=wanted.reads_whole_pieces)
                async for event in session.events():
                    if isinstance(event, Packet):
                        pcm = leading.strip(event.pcm)
                        room_samples = marks.room_samples(self._patience) if ended else pcm.size
                        if pcm.size and room_samples:
                            given = True
                            yield marks.chunk(pcm[:room_samples])
                        if pcm.size > room_samples:
                            logger.warning("an utterance did not end and was cut off")
                            return
                    elif not ended:
                        more = await anext(parts, None) if marks.utterance_chars < UTTERANCE_CHARS else None
                        if more:
                            marks.add(more)
                        ended = _give(session, more or "", last=more is None)
            finally:
                session.cancel()
        except EngineStopped as error:
            raise (EngineLost if given else EngineFailed)(str(error)) from error
        except ValueError as error:
            raise EngineFailed(str(error)) from error

    async def _running(self) -> Engine:
        async with self._loading:
            if self._closed:
                raise EngineFailed("The speech engine has been closed.")
            if self._engine is None:
                try:
                    engine, self._report = await asyncio.to_thread(self._load)
                except (CheckpointError, RuntimeError, ValueError, OSError) as error:
                    logger.exception("Qwen3-TTS cannot be loaded")
                    raise EngineFailed(f"Qwen3-TTS cannot be loaded. {error}") from error
                self._engine = engine
            return self._engine

    def _load(self) -> tuple[Engine, Report]:
        limits = self._options.limits
        on_gpu = self._device.type == "cuda"
        positions = min(limits.max_positions, POSITIONS, self._config.talker.max_positions)
        dtype = torch.bfloat16 if on_gpu else torch.float32
        checkpoint = read_checkpoint(self._weights, device=self._device, dtype=dtype, max_positions=positions)
        if self._fp8:
            checkpoint = checkpoint.in_8_bits()
        slots = self._slots or (self._slots_in_memory(positions) if on_gpu else CPU_SLOTS)
        engine = Engine(
            checkpoint, replace(self._options, limits=replace(limits, slots=slots, max_positions=positions))
        )
        return engine, engine.start()

    def _slots_in_memory(self, positions: int) -> int:
        shape = self._config.talker
        slot_bytes = 2 * 2 * shape.layers * shape.kv_heads * shape.head_dim * positions
        free_bytes, _ = torch.cuda.mem_get_info(self._device)
        return max(1, min(GPU_SLOTS, int(free_bytes * GPU_SHARE) // slot_bytes))


@dataclass(frozen=True)
class _Wanted:
    """Who speaks, and in which language."""

    voice: str | Clone | None
    language: str

    @property
    def reads_whole_pieces(self) -> bool:
        """Whether text must be known before speech begins: it is laid over the recording."""
        return isinstance(self.voice, Clone) and self.voice.voice.reference is not None


class _Marks:
    """How far the text has been spoken, while nobody tells: an estimate by its letters, until the utterance ends."""

    def __init__(self) -> None:
        self._chars = self._samples = 0
        self._due: deque[Mark] = deque()
        self._began = self._letters = 0
        self.utterance_chars = 0
        self._usual_s = 0.0

    def begin(self, part: str) -> None:
        """A new utterance, and its first text."""
        self._began, self._letters, self.utterance_chars, self._usual_s = self._samples, 0, 0, 0.0
        self.add(part)

    def add(self, part: str) -> None:
        """More of its text."""
        spoken = letters(part)
        for end in (*word_ends(part), len(part)):
            at = self._began + int((self._letters + spoken[end - 1]) * SAMPLE_RATE_HZ / LETTERS_PER_S)
            self._due.append(Mark(self._chars + end, at))
        self._chars += len(part)
        self._letters += int(spoken[-1])
        self.utterance_chars += len(part)
        self._usual_s += _usual_s(part)

    def chunk(self, pcm: Pcm) -> SpeechChunk:
        """The next of its audio, with the marks that fall in it."""
        start, self._samples = self._samples, self._samples + pcm.size
        reached = []
        while self._due and self._due[0].sample <= self._samples:
            mark = self._due.popleft()
            reached.append(Mark(mark.text_end, max(mark.sample, start)))
        return SpeechChunk(pcm, tuple(reached))

    def end(self) -> SpeechChunk:
        """All its text has been spoken."""
        due, self._due = self._due, deque()
        return SpeechChunk(silence(0), tuple(Mark(mark.text_end, self._samples) for mark in due))

    def room_samples(self, patience: float) -> int:
        """What is left until this utterance is too long: `PATIENCE_S` over `patience` times what its text takes as a
        rule. Cut to the sample, for packets are larger when the listener lags behind."""
        longest_samples = int((patience * self._usual_s + PATIENCE_S) * SAMPLE_RATE_HZ)
        return max(0, self._began + longest_samples - self._samples)


def _usual_s(text: str) -> float:
    """How long a text is as a rule. Digits are words, and East Asian syllables take as long as three letters."""
    weights = (6 if char.isdigit() else 3 if char >= "\u2e80" else 1 for char in text if char.isalnum())
    return sum(weights) / LETTERS_PER_S


def _give(session: Session, text: str, *, last: bool) -> bool:
    """Push text, and end it if it is the `last`."""
    if text:
        session.push_text(text)
    if last:
        session.end_text()
    return last


async def _parts(text: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    async for piece in text:
        for part in split(piece, PART_CHARS):
            yield part


async def _none() -> AsyncGenerator[str, None]:
    return
    yield
