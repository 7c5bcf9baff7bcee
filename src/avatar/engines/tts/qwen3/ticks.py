"""The tick loop's body: admits utterances to slots, speaks a frame of those that are due, decodes, delivers, frees.

Everything here happens in one thread, `tick` by `tick`. On a GPU results are looked at one tick after they were
launched, so the device never waits for the host; a frame launched after an end that was not known yet is thrown away.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avatar.engines.tts.qwen3 import scheduler
from avatar.engines.tts.qwen3.attention import Prefix
from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.codec import DecoderSnapshot
from avatar.engines.tts.qwen3.graphs import Landing, Runner
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.prompt import Opening, Prompt, Voice
from avatar.engines.tts.qwen3.scheduler import bucket
from avatar.engines.tts.qwen3.speech import Emit, Finished, FinishReason, Hungry, Packet, Request, Speech
from avatar.engines.tts.qwen3.steps import SpeakRow, Steps
from avatar.engines.tts.qwen3.text import Committer
from avatar.engines.tts.qwen3.voices import Clone, state_after


@dataclass(frozen=True)
class Limits:
    """Sizes of an engine. Each slot takes `max_positions` of keys and values: 112 KiB a position in bfloat16.

    `contexts`: how far back a batch looks, the shortest that holds all its rows; `prefixes`: openings kept read.
    """

    slots: int = 64
    max_positions: int = 2048
    buckets: tuple[int, ...] = scheduler.BUCKETS
    contexts: tuple[int, ...] = (256, 512, 1024)
    max_lead_s: float = scheduler.MAX_LEAD_S
    prefixes: int = 64

    @property
    def batches(self) -> tuple[int, ...]:
        """The buckets that can be needed."""
        wanted = min(self.slots, self.buckets[-1])
        return tuple(size for size in self.buckets if size <= bucket(wanted, self.buckets))

    @property
    def reaches(self) -> tuple[int, ...]:
        return (*(context for context in self.contexts if context < self.max_positions), self.max_positions)


@dataclass
class Counts:
    """What an engine has done since its start."""

    opened: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    ticks: int = 0
    frames: int = 0
    decoded_frames: int = 0
    prefix_hits: int = 0
    prefix_misses: int = 0
    late_packets: int = 0
    """Packets of paced utterances that came after all before them had been played."""


@dataclass(frozen=True)
class _Start:
    """An opening, what reading it leaves behind, and where audio goes on."""

    opening: Opening
    prefix: Prefix
    decoder: DecoderSnapshot | None


@dataclass
class _Flight:
    """What one tick launched."""

    codes: Tensor | None = None
    spoken: Sequence[tuple[Speech, int]] = ()
    audio: list[tuple[Tensor, list[tuple[Speech, int]], int]] = field(default_factory=list)
    landing: Landing | None = None


class Ticks:
    """All utterances of one model. Not thread-safe: one thread calls everything."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        limits: Limits,
        runner: Runner,
        clock: Callable[[], float],
        kernels: Kernels = PLAIN,
    ) -> None:
        self.checkpoint = checkpoint
        self.limits = limits
        self.counts = Counts()
        self._runner = runner
        self._clock = clock
        self._steps = Steps(checkpoint, limits.slots, limits.max_positions, kernels)
        self._pipelined = runner.asynchronous
        self._free = deque(range(limits.slots))
        self._waiting: list[Speech] = []
        self._speaking: list[Speech] = []
        self._in_flight: _Flight | None = None
        self._starts: OrderedDict[Hashable, _Start] = OrderedDict()

    @property
    def active(self) -> int:
        """Utterances that have a slot."""
        return len(self._speaking)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def prepare(self) -> None:
        """Capture every shape, the largest first: graphs share their memory."""
        scratch = SpeakRow(self._steps.scratch, 0, 0, False, 0).values()
        for size in reversed(self.limits.batches):
            for context in reversed(self.limits.reaches):
                rows = torch.tensor([scratch] * size)
                self._runner.prepare(("speak", size, context), self._speak_step(context), rows)
            for frames in reversed(scheduler.CHUNKS):
                rows = torch.tensor([[self._steps.scratch, 0]] * size)
                self._runner.prepare(("decode", size, frames), self._decode_step(frames), rows)

    # --- what callers ask for ---------------------------------------------------------------------------------------

    def open(self, request: Request, emit: Emit) -> Speech:
        """Begin an utterance; `emit` is called in this thread. Raises `ValueError` for what the model has not."""
        speech = Speech(
            request, emit, self._start(request).opening, Committer(self.checkpoint.tokenizer), self._clock()
        )
        self._waiting.append(speech)
        self.counts.opened += 1
        return speech

    def push(self, speech: Speech, text: str) -> None:
        """More text. What comes after its end is dropped."""
        if speech.over or speech.closed or not text:
            return
        speech.text_s = self._clock() if speech.text_s is None else speech.text_s
        speech.says_something |= not text.isspace()
        speech.text.extend(speech.committer.push(text))
        speech.hungry = False
        if speech.slot is None and not speech.is_ready:
            self._ask(speech)

    def close(self, speech: Speech) -> None:
        """No more text will come."""
        if speech.over or speech.closed:
            return
        if not speech.says_something:
            self._finish(speech, "cancelled", ValueError("There is no text to speak."))
            return
        speech.text.extend(speech.committer.end())
        speech.closed = True
        if speech.slot is not None:  # otherwise its prompt sees to it
            speech.text.append(self.checkpoint.config.text_ids.eos)

    def cancel(self, speech: Speech) -> None:
        """Its slot is free at once; nothing of it is delivered any more."""
        if not speech.over:
            self._finish(speech, "cancelled")

    def fail(self, error: Exception) -> None:
        """End all utterances with `error`."""
        for speech in [*self._waiting, *self._speaking]:
            self._finish(speech, "cancelled", error)
        self._in_flight = None

    # --- a tick -----------------------------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """One round. Returns in how many seconds the next one is worth its while; None: only once something changes."""
        self._admit()
        flight = self._speak()
        if not self._pipelined:
            self._settle_codes(flight)
        self._decode(flight)
        if self._pipelined:
            flight.landing = self._runner.landing()
            flight, self._in_flight = self._in_flight or _Flight(), flight
            if flight.landing is not None:
                flight.landing.wait()
            self._settle_codes(flight)
        self._settle_audio(flight)
        self.counts.ticks += 1
        return self._rest_s()

    def _admit(self) -> None:
        for speech in [one for one in self._waiting if one.is_ready]:
            if not self._free:
                return
            self._waiting.remove(speech)
            try:
                self._begin(speech)
            except ValueError as error:
                self._finish(speech, "cancelled", error)

    def _begin(self, speech: Speech) -> None:
        request, model = speech.request, self.checkpoint
        start = self._start(request)
        prompt = self._prompt(speech, start.opening)
        sampling = request.sampling or model.config.sampling
        read = len(prompt.rows)
        limit = min(sampling.max_frames, self.limits.max_positions - read + 1)
        if limit < 1:
            raise ValueError(f"The text in front of speech takes {read} of {self.limits.max_positions} positions.")
        speech.slot = self._free.popleft()
        self._speaking.append(speech)
        rest = prompt.rows[start.prefix.length :]
        speech.position = self._steps.begin(speech.slot, start.prefix, rest, sampling, request.seed, start.decoder)
        speech.limit, speech.text = limit, deque(prompt.trailing)
        speech.admitted_s = self._clock()

    def _prompt(self, speech: Speech, opening: Opening) -> Prompt:
        ids = list(speech.text)
        if speech.request.mode == "whole":
            return self.checkpoint.prompter.whole(opening, ids)
        return self.checkpoint.prompter.streaming(opening, ids, ended=speech.closed)

    def _start(self, request: Request) -> _Start:
        """What utterances like this one have in common; kept for the next."""
        voice = request.voice
        key = (voice.key if isinstance(voice, Clone) else voice, request.language, request.instruction)
        if key in self._starts:
            self._starts.move_to_end(key)
            self.counts.prefix_hits += 1
            return self._starts[key]
        self.counts.prefix_misses += 1
        opening = self.checkpoint.prompter.opening(self._voice(voice), request.language, request.instruction)
        self._starts[key] = _Start(opening, self._steps.prefix(opening.rows), self._decoder(voice))
        if len(self._starts) > self.limits.prefixes:
            self._starts.popitem(last=False)
        return self._starts[key]

    def _decoder(self, voice: str | Clone | None) -> DecoderSnapshot | None:
        if not isinstance(voice, Clone) or voice.voice.reference is None:
            return None
        return voice.decoder or state_after(self.checkpoint, voice.voice.reference.codes.T)

    def _voice(self, voice: str | Clone | None) -> Voice:
        if isinstance(voice, Clone):
            return voice.voice
        return Voice() if voice is None else self.checkpoint.prompter.speaker(voice)

    def _speak(self) -> _Flight:
        now_s = self._clock()
        able = [speech for speech in self._speaking if speech.speaks]
        standings = [speech.standing(now_s) for speech in able]
        chosen = scheduler.choose(standings, self.limits.batches[-1], self.limits.max_lead_s)
        if not chosen:
            return _Flight()
        batch = [able[n] for n in chosen]
        rows = [self._row(speech) for speech in batch]
        context = bucket(max(row.position for row in rows) + 1, self.limits.reaches)
        padding = SpeakRow(self._steps.scratch, 0, 0, False, 0)
        size = bucket(len(rows), self.limits.batches)
        values = [row.values() for row in (*rows, *[padding] * (size - len(rows)))]
        codes = self._runner.run(("speak", size, context), self._speak_step(context), values)
        self.counts.frames += len(batch)
        return _Flight(
            self._runner.fetch(codes), [(speech, row.frame) for speech, row in zip(batch, rows, strict=True)]
        )

    def _row(self, speech: Speech) -> SpeakRow:
        assert speech.slot is not None
        text = speech.next_text(self.checkpoint.config.text_ids.pad)
        row = SpeakRow(speech.slot, speech.position, text, speech.may_end, speech.frames)
        speech.position += 1
        speech.frames += 1
        if speech.frames == speech.limit:
            speech.end, speech.reason = speech.limit, "limit"
        return row

    def _decode(self, flight: _Flight) -> None:
        now_s = self._clock()
        due: dict[int, list[tuple[Speech, int]]] = defaultdict(list)
        for speech in self._speaking:
            frames = speech.due(now_s)
            if frames:
                due[frames].append((speech, speech.decoded))
                speech.decoded += frames
                speech.packets += 1
        for frames, rows in due.items():
            for start in range(0, len(rows), self.limits.batches[-1]):
                self._decode_batch(flight, rows[start : start + self.limits.batches[-1]], frames)

    def _decode_batch(self, flight: _Flight, rows: list[tuple[Speech, int]], frames: int) -> None:
        size = bucket(len(rows), self.limits.batches)
        values = [(speech.slot, first) for speech, first in rows if speech.slot is not None]
        values += [(self._steps.scratch, 0)] * (size - len(rows))
        wav = self._runner.run(("decode", size, frames), self._decode_step(frames), values)
        flight.audio.append((self._runner.fetch(wav), rows, frames))
        self.counts.decoded_frames += frames * len(rows)

    def _settle_codes(self, flight: _Flight) -> None:
        """Find out who has ended."""
        if flight.codes is None:
            return
        codes = flight.codes.numpy()
        for (speech, frame), row in zip(flight.spoken, codes, strict=False):  # padding has no speech
            if speech.over or (speech.end is not None and frame >= speech.end):
                continue
            if row[0] == self.checkpoint.config.codec_ids.eos:
                speech.end, speech.reason = frame, "end"
            else:
                speech.codes.append(row)

    def _settle_audio(self, flight: _Flight) -> None:
        for wav, rows, frames in flight.audio:
            samples = wav.shape[1] // frames
            for (speech, first), pcm in zip(rows, wav.numpy(), strict=False):
                count = min(frames, (first + frames if speech.end is None else speech.end) - first)
                if count > 0 and not speech.over:
                    self._deliver(speech, pcm[: count * samples], first, count)
        for speech in list(self._speaking):
            if speech.end is not None and speech.delivered >= speech.end:
                self._finish(speech, speech.reason)
            elif speech.delivered == speech.frames > 0 and not speech.has_text:
                self._ask(speech)

    def _deliver(self, speech: Speech, pcm: npt.NDArray[np.float32], first: int, count: int) -> None:
        now_s = self._clock()
        codes, speech.codes = np.stack(speech.codes[:count]), speech.codes[count:]
        packet = Packet(pcm.copy(), first, codes, speech.timings(now_s))
        if speech.first_packet_s is None:
            speech.first_packet_s = now_s
        elif speech.is_late(now_s):
            self.counts.late_packets += 1
        speech.delivered += packet.frames
        speech.emit(packet)

    def _ask(self, speech: Speech) -> None:
        if not speech.hungry:
            speech.hungry = True
            speech.emit(Hungry())

    def _finish(self, speech: Speech, reason: FinishReason, error: Exception | None = None) -> None:
        speech.over = True
        if speech.slot is not None:
            self._free.append(speech.slot)
            self._speaking.remove(speech)
        elif speech in self._waiting:
            self._waiting.remove(speech)
        counted = "failed" if error else "cancelled" if reason == "cancelled" else "finished"
        setattr(self.counts, counted, getattr(self.counts, counted) + 1)
        speech.emit(Finished(reason, error))

    def _rest_s(self) -> float | None:
        if self._in_flight is not None and (self._in_flight.spoken or self._in_flight.audio):
            return 0.0
        if self._free and any(speech.is_ready for speech in self._waiting):
            return 0.0
        now_s = self._clock()
        rests = [self._rest_of(speech, now_s) for speech in self._speaking]
        return min((rest for rest in rests if rest is not None), default=None)

    def _rest_of(self, speech: Speech, now_s: float) -> float | None:
        standing = speech.standing(now_s)
        if speech.end is not None or speech.due(now_s):
            return 0.0
        if not standing.has_text:
            return None
        ahead_s = standing.lead_s - self.limits.max_lead_s if standing.has_spoken else 0.0
        if ahead_s <= 0:
            return 0.0
        return ahead_s if speech.request.paced else None

    def _speak_step(self, context: int) -> Callable[[Tensor], Tensor]:
        return partial(self._steps.speak, context=context)

    def _decode_step(self, frames: int) -> Callable[[Tensor], Tensor]:
        return partial(self._steps.decode, frames=frames)

    def statistics(self) -> dict[str, int]:
        """Counts, and how many speak and wait now."""
        return {**vars(self.counts), "active": self.active, "waiting": self.waiting, "free": len(self._free)}
