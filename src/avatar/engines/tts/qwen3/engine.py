"""The engine: a model, the one thread that runs it, and sessions that asyncio code talks to.

Owns the thread and the way between it and event loops. Policy is the scheduler's, the work is in `ticks`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from avatar.engines.tts.qwen3.backends import Attention, Form, choose_kernels
from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.config import Sampling
from avatar.engines.tts.qwen3.graphs import Runner, process_settings
from avatar.engines.tts.qwen3.prompt import AUTO
from avatar.engines.tts.qwen3.speech import End, Event, Finished, FinishReason, Hungry, Mode, Packet, Request, Speech
from avatar.engines.tts.qwen3.ticks import Limits, Ticks
from avatar.engines.tts.qwen3.voices import Clone, CloneCache

T = TypeVar("T")

_log = logging.getLogger(__name__)

CLOSE_S = 10.0
"""How long `close` waits for the tick that runs."""


class EngineStopped(RuntimeError):
    """The engine was closed, or a tick failed; its cause says why. Nothing can be spoken with it any more."""


@dataclass(frozen=True)
class Options:
    """How an engine runs.

    `graphs`: CUDA graphs on a GPU. `kernels`, of the small operations, and `attention`: `auto` takes the fastest of
    what is installed and agrees with torch, but `compiled` (`torch.compile`, which takes a minute) only if asked for.
    `codec_tf32`: the codec's convolutions on a GPU round their inputs to 10 bits, 3 more than the bfloat16 that the
    official package decodes in, and take a fraction of the time; off where audio is compared.
    """

    limits: Limits = field(default_factory=Limits)
    graphs: bool = True
    kernels: Form = "auto"
    attention: Attention = "auto"
    codec_tf32: bool = True
    clones: int = 32


@dataclass(frozen=True)
class Report:
    """What was chosen at start, in words, and how long it took."""

    device: str
    dtype: str
    weights: str
    kernels: str
    graphs: str
    codec: str
    slots: int
    capture_s: float
    start_s: float

    def __str__(self) -> str:
        weights = f"; {self.weights}" if self.weights else ""
        about = f"{self.device}, {self.dtype}{weights}, {self.slots} slots"
        return f"{about}; kernels: {self.kernels}; {self.graphs}; {self.codec}"


class Session:
    """One utterance: text in, packets out, from within one event loop. Made by `Engine.open`.

    Iterate it for its `Packet`s; the iteration ends with the utterance, and raises what made it fail: `ValueError` for
    text that is empty or a voice or language that the model has not, `EngineStopped`.
    """

    def __init__(self, engine: "Engine", request: Request) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._came = asyncio.Event()
        self._speech: Speech | None = None
        self.finish_reason: FinishReason | None = None
        """Why it ended; None while it has not."""
        engine._command(lambda ticks: self._open(ticks, request))

    def push_text(self, text: str) -> None:
        """More of the text, of any length: tokens are spoken as soon as they are certain."""
        self._engine._command(lambda ticks: self._with(ticks.push, text))

    def end_text(self) -> None:
        """That was all. Without it the session waits for more."""
        self._engine._command(lambda ticks: self._with(ticks.close))

    def cancel(self) -> None:
        """End it now: its slot is free before the next tick. Idempotent; harmless once it has ended."""
        with suppress(EngineStopped):
            self._engine._command(lambda ticks: self._with(ticks.cancel))

    async def events(self) -> AsyncGenerator[Packet | Hungry, None]:
        """Its packets, and when it waits for text. Raises what iterating it raises."""
        while not isinstance(event := await self._next(), Finished):
            yield event
        if event.error is not None:
            raise event.error

    def __aiter__(self) -> AsyncIterator[Packet]:
        return self

    async def __anext__(self) -> Packet:
        while isinstance(event := await self._next(), Hungry):
            pass
        if isinstance(event, Packet):
            return event
        if event.error is not None:
            raise event.error
        raise StopAsyncIteration

    async def _next(self) -> Event:
        while not self._events:
            self._came.clear()
            await self._came.wait()
        if isinstance(self._events[0], Finished):  # stays, for whoever asks again
            return self._events[0]
        event = self._events.popleft()
        if isinstance(event, Packet) and self._speech is not None:
            self._speech.taken += event.frames
            self._engine._wake()
        return event

    # in the worker's thread

    def _open(self, ticks: Ticks, request: Request) -> None:
        try:
            self._speech = ticks.open(request, self._emit)
        except ValueError as error:
            self._emit(Finished("cancelled", error))

    def _with(self, act: Callable[..., None], *arguments: str) -> None:
        if self._speech is not None:
            act(self._speech, *arguments)

    def _emit(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self._receive, event)
        except RuntimeError:  # the loop is closed: nobody listens
            _log.debug("an utterance's event loop is gone")

    # in the loop's

    def _receive(self, event: Event) -> None:
        self._events.append(event)
        self._came.set()
        if isinstance(event, Finished):
            self.finish_reason = event.reason


class Engine:
    """A loaded model at work. `start` it, open sessions from any event loop, `close` it."""

    def __init__(
        self, checkpoint: Checkpoint, options: Options | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.checkpoint = checkpoint
        self.options = options or Options()
        self._clock = clock
        self._clones = CloneCache(checkpoint, self.options.clones)
        self._commands: deque[Callable[[Ticks], None]] = deque()
        self._changed = threading.Condition()
        self._woken = False
        self._closing = False
        self._failure: EngineStopped | None = None
        self._started: Future[Report] = Future()
        self._ticks: Ticks | None = None
        self._thread = threading.Thread(target=self._run, name="qwen3-tts", daemon=True)

    @property
    def sample_rate_hz(self) -> int:
        return 24_000

    def start(self) -> Report:
        """Allocate, capture, begin to work. Blocks; call it once."""
        self._thread.start()
        return self._started.result()

    def open(
        self,
        voice: str | Clone | None = None,
        language: str = AUTO,
        mode: Mode = "streaming",
        sampling: Sampling | None = None,
        seed: int = 0,
        *,
        instruction: str | None = None,
        end: End = "after text",
        paced: bool = True,
    ) -> Session:
        """Begin an utterance; what the arguments mean is said in `Request`. Call it in an event loop.

        An utterance draws the same codes for the same seed, in whatever company, as long as batches have one shape.
        """
        return Session(self, Request(voice, language, instruction, mode, sampling, seed, end, paced))

    async def clone(self, wav: npt.NDArray[np.float32], transcript: str | None = None, *, exact: bool = False) -> Clone:
        """A voice from a recording (24 kHz, mono, -1..1), kept for the next time; others wait while it is made.

        Raises `ValueError` for what does not do.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(wav, dtype=np.float32))
        return await self._call(lambda: self._clones.clone(tensor, transcript, exact=exact))

    async def stats(self) -> dict[str, int]:
        """Counts since the start, and how many speak, wait and could be let in now."""
        return await self._call(lambda: self._ticks.statistics() if self._ticks else {})

    def close(self) -> None:
        """End all sessions, stop the thread. Idempotent."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    async def _call(self, work: Callable[[], T]) -> T:
        done: Future[T] = Future()

        def command(_: Ticks) -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self._command(command)
        return await asyncio.wrap_future(done)

    def _command(self, command: Callable[[Ticks], None]) -> None:
        """Have it run in the worker's thread before the next tick. Raises `EngineStopped`."""
        with self._changed:
            if self._failure is not None or self._closing:
                raise EngineStopped("The speech engine has stopped.") from self._failure
            self._commands.append(command)
            self._changed.notify()

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            ticks = self._begin()
        except Exception as error:
            self._started.set_exception(error)
            return
        rest_s: float | None = None
        try:
            while self._take_commands(ticks, rest_s):
                with self._settings():
                    rest_s = ticks.tick()
        except Exception as error:
            _log.exception("a tick of the speech engine failed")
            self._failure = EngineStopped("The speech engine failed; the log has the details.")
            self._failure.__cause__ = error
        finally:
            with self._changed:
                self._closing = True
                rest, self._commands = list(self._commands), deque()
            stopped = self._failure or EngineStopped("The speech engine was closed.")
            for command in rest:
                command(ticks)
            ticks.fail(stopped)
            self._ticks = None

    def _begin(self) -> Ticks:
        began_s, options = time.perf_counter(), self.options
        table = self.checkpoint.talker.codec_embedding
        on_gpu = table.device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(table.device)
        with self._settings():
            kernels, why = choose_kernels(self.checkpoint, options.kernels, options.attention, graphs=options.graphs)
            runner = Runner(table.device, graphs=options.graphs)
            ticks = self._ticks = Ticks(self.checkpoint, options.limits, runner, self._clock, kernels)
            ticks.prepare()
        report = Report(
            device=torch.cuda.get_device_name(table.device) if on_gpu else "CPU",
            dtype=str(table.dtype).removeprefix("torch."),
            weights=self.checkpoint.matrices,
            kernels=why,
            graphs=_graphs(runner),
            codec=f"codec float32{' with TF32 convolutions' if options.codec_tf32 and on_gpu else ''}",
            slots=options.limits.slots,
            capture_s=runner.capture_s,
            start_s=time.perf_counter() - began_s,
        )
        _log.info("Qwen3-TTS: %s", report)
        self._started.set_result(report)
        return ticks

    def _settings(self) -> AbstractContextManager[None]:
        return process_settings(self.checkpoint.talker.codec_embedding.device, tf32=self.options.codec_tf32)

    def _take_commands(self, ticks: Ticks, rest_s: float | None) -> bool:
        """Wait until there is something to do, do what was asked for. False: stop."""
        with self._changed:
            if not (self._commands or self._woken or self._closing) and rest_s != 0:
                self._changed.wait(rest_s)
            self._woken = False
            if self._closing:
                return False
            commands, self._commands = self._commands, deque()
        for command in commands:
            command(ticks)
        return True


def _graphs(runner: Runner) -> str:
    if runner.failure:
        return f"no CUDA graphs: capture failed at {runner.failure}"
    return f"{len(runner)} CUDA graphs captured in {runner.capture_s:.1f} s" if len(runner) else "no CUDA graphs"
