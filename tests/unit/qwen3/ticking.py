"""Utterances on the tiny models, tick by tick, in this thread and at a time the test sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.graphs import Runner
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.scheduler import FRAME_S
from avatar.engines.tts.qwen3.speech import Event, Finished, Hungry, Packet, Request, Speech
from avatar.engines.tts.qwen3.ticks import Limits, Ticks
from tests.unit.qwen3.models import checkpoint

SMALL = Limits(slots=4, max_positions=128, buckets=(4,), contexts=())
MAX_TICKS = 2000


@dataclass
class Listener:
    """Collects what an utterance says; `takes` it at once, or never."""

    takes: bool = True
    speech: Speech | None = None
    packets: list[Packet] = field(default_factory=list)
    finished: Finished | None = None
    hungry: int = 0

    def __call__(self, event: Event) -> None:
        assert self.finished is None
        if isinstance(event, Packet):
            assert event.first_frame == sum(packet.frames for packet in self.packets)
            self.packets.append(event)
            if self.takes and self.speech is not None:
                self.speech.taken += event.frames
        elif isinstance(event, Hungry):
            self.hungry += 1
        else:
            self.finished = event

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        return np.concatenate([packet.codes for packet in self.packets])

    @property
    def pcm(self) -> npt.NDArray[np.float32]:
        return np.concatenate([packet.pcm for packet in self.packets])


class Stage:
    """A model's ticks, with a clock that moves `tick_s` a tick."""

    def __init__(
        self,
        limits: Limits = SMALL,
        kind: str = "custom",
        tick_s: float = 0.0,
        model: Checkpoint | None = None,
        asynchronous: bool = False,
        kernels: Kernels = PLAIN,
    ) -> None:
        self.now_s = 0.0
        self.tick_s = tick_s
        self.model = model or checkpoint(kind)
        runner = Runner(torch.device("cpu"))
        runner.asynchronous = asynchronous
        self.ticks = Ticks(self.model, limits, runner, lambda: self.now_s, kernels)

    def open(self, request: Request, takes: bool = True) -> tuple[Speech, Listener]:
        listener = Listener(takes)
        listener.speech = self.ticks.open(request, listener)
        return listener.speech, listener

    def tick(self) -> float | None:
        rest_s = self.ticks.tick()
        self.now_s += self.tick_s
        return rest_s

    def run(self, until: Callable[[], bool]) -> None:
        for _ in range(MAX_TICKS):
            if until():
                return
            rest_s = self.tick()
            self.now_s += rest_s or 0.0
        raise AssertionError(f"not done after {MAX_TICKS} ticks")

    def say(self, request: Request, pieces: Sequence[str] = ("Hello there, my friend.",)) -> Listener:
        """All of an utterance, whose text comes piece by piece, each when the one before it has been spoken."""
        speech, listener = self.open(request)
        for piece in pieces:
            self.ticks.push(speech, piece)
            if piece is not pieces[-1]:
                self.run(lambda: speech.hungry)
        self.ticks.close(speech)
        self.run(lambda: listener.finished is not None)
        return listener


def played_s(listener: Listener) -> float:
    return sum(packet.frames for packet in listener.packets) * FRAME_S
