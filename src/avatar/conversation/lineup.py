"""Which engines serve: loading and unloading them while the server runs.

A session keeps the engines it began with until it ends; only then is one that was replaced freed. Loading is one at a
time, so that each finds the memory that is really free. Every stage has a seat; one more, which may stay empty, is the
better voice's. Knows engine Protocols only: which engine it is to be, and how it is made, comes as a `Pick`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from avatar.conversation.precedence import Precedence
from avatar.conversation.terms import Engines
from avatar.conversation.vram import used_vram_bytes
from avatar.core.errors import Conflict, EngineFailed, EngineTimeout, Overloaded, SetupError, describe
from avatar.core.progress import JobProgress, JobState
from avatar.engines.base import STAGES, Engine, Stage

logger = logging.getLogger(__name__)

SCOPE = "engines"
HIGH: Literal["tts_high"] = "tts_high"
"""The seat of the speech engine for sessions that ask for high quality."""
SeatName = Literal[Stage, "tts_high"]
SeatState = Literal["unloaded", "loading", "ready", "failed"]


@dataclass(frozen=True)
class Pick:
    """An engine for a stage. Two picks are equal that would load the same thing."""

    engine: str
    """Its name in the registry."""
    weights: Path | None
    model: str
    """What a remote engine is asked for; empty where there are weights."""
    reason: str = field(compare=False)
    build: Callable[[], Engine] = field(compare=False)
    """Makes it, not loaded yet; may take long, and is called off the loop, when nothing else is being loaded."""
    load_timeout_s: float | None = field(default=None, compare=False)
    """Longest time that loading what was made may take; None: as long as it likes."""


@dataclass(eq=False)
class Loaded:
    """An engine that was made. `holds`: how many sessions have it."""

    pick: Pick
    engine: Engine
    vram_bytes: int | None = None
    """How much fuller the GPU was after loading; None without one."""
    holds: int = 0
    is_retired: bool = False

    @cached_property
    def precedence(self) -> Precedence:
        """Among the sessions that have it; of use for a language model."""
        return Precedence(self.engine.capabilities.concurrent)


def stage_of(name: SeatName) -> Stage:
    """Of the engines that can take this seat."""
    return "tts" if name == "tts_high" else name


@dataclass(eq=False)
class Seat:
    """A place for an engine: what serves there, and what is being loaded to take its place."""

    name: SeatName
    loaded: Loaded | None = None
    coming: Pick | None = None
    problem: str = ""
    """Why the last load failed (what served before goes on), or what was wrong with what served."""
    loading: "asyncio.Task[None] | None" = None
    """The last load, over or not."""

    @property
    def stage(self) -> Stage:
        """Of the engines that can take it."""
        return stage_of(self.name)

    @property
    def pick(self) -> Pick | None:
        """What serves, or is about to."""
        return self.coming or (self.loaded.pick if self.loaded else None)

    @property
    def state(self) -> SeatState:
        if self.coming is not None:
            return "loading"
        if self.loaded is not None:
            return "ready"
        return "failed" if self.problem else "unloaded"

    @property
    def why_not(self) -> str:
        """What keeps it from serving, in words."""
        if self.coming is not None:
            return "The models are being loaded."
        return self.problem or f"No {self.name} engine is loaded; load one under /api/engines/{self.name}/load."


def _engines(loaded: Sequence[Loaded]) -> Engines:
    """As a session takes them; `loaded` is in the order of `STAGES`, as the fields are."""
    precedence = loaded[STAGES.index("llm")].precedence
    return Engines(*(one.engine for one in loaded), precedence)  # type: ignore[arg-type, call-arg]


class Hold:
    """Engines of one session, from its beginning to its end."""

    def __init__(self, lineup: "Lineup", loaded: Sequence[Loaded]) -> None:
        self.engines = _engines(loaded)
        self._lineup = lineup
        self._loaded: tuple[Loaded, ...] = ()
        for one in loaded:
            self.keep(one)

    def keep(self, loaded: Loaded) -> None:
        """This one too."""
        loaded.holds += 1
        self._loaded += (loaded,)

    def release(self) -> None:
        """Let them go; idempotent."""
        loaded, self._loaded = self._loaded, ()
        for one in loaded:
            one.holds -= 1
            self._lineup.free_if_idle(one)


class Lineup:
    """The engines of all stages. All methods belong to the event loop."""

    def __init__(
        self,
        first: Mapping[Stage, Pick],
        publish: Callable[[JobProgress], None],
        vram: Callable[[], int | None] = used_vram_bytes,
    ) -> None:
        """`first`: what `start` loads. `vram` gives the used bytes of the GPUs; it is asked off the loop."""
        self.seats: dict[SeatName, Seat] = {stage: Seat(stage, coming=first.get(stage)) for stage in STAGES}
        self.seats[HIGH] = Seat(HIGH)
        self._publish = publish
        self._vram = vram
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alive: set[Loaded] = set()

    def start(self) -> None:
        """Begin to load every stage: on a GPU one after another in the order of a turn, else all at once."""
        first = [(seat, seat.coming) for seat in self.seats.values() if seat.coming is not None]
        loading = self._spawn(self._load_first(first))
        for seat, _ in first:
            seat.loading = loading

    @property
    def engines(self) -> Engines:
        """What a session that begins now would get. Raises `Overloaded` while a stage has none."""
        return _engines(self._serving())

    def require(self) -> None:
        """Raise `Overloaded` while a stage has no engine."""
        self._serving()

    def hold(self) -> Hold:
        """Keep what serves now, whatever is loaded later, until it is released. Raises `Overloaded`."""
        return Hold(self, self._serving())

    def load(self, name: SeatName, pick: Pick) -> None:
        """Load `pick` and let it serve the sessions to come; what served before does so until then.

        Nothing happens if it serves already or is being loaded. Raises `Conflict` while another is being loaded.
        """
        seat = self.seats[name]
        if seat.coming is not None and seat.coming != pick:
            raise Conflict(f"{seat.coming.engine} is being loaded for {name}. Wait for it.")
        if seat.coming is None and (seat.loaded is None or seat.loaded.pick != pick):
            seat.coming, seat.problem = pick, ""
            seat.loading = self._spawn(self._load(seat, pick))

    async def loaded(self, name: SeatName) -> Loaded:
        """What serves there; while that is nothing, what is being loaded. Raises `EngineFailed` with the reason if
        nothing comes of it."""
        seat = self.seats[name]
        if seat.loaded is None and seat.loading is not None:
            await asyncio.wait([seat.loading])
        if seat.loaded is None:
            raise EngineFailed(seat.why_not)
        return seat.loaded

    def reconsider(self, stage: Stage, choose: Callable[[], Pick]) -> None:
        """Load what `choose`, which is called off the loop, comes to; if that cannot be had, what serves goes on."""
        self._spawn(self._reconsider(stage, choose))

    async def unload(self, name: SeatName) -> None:
        """Free the engine of a seat, when its sessions have ended. Raises `Conflict` while one is being loaded."""
        seat = self.seats[name]
        if seat.coming is not None:
            raise Conflict(f"{seat.coming.engine} is being loaded for {name}. Wait for it.")
        seat.problem = ""
        if seat.loaded is not None:
            await self._retire(seat.loaded)

    def retire(self, loaded: Loaded, why: str = "") -> "asyncio.Task[None] | None":
        """Nobody gets it any more, and once nobody holds it, it is freed: now, in the task. `why`: what is wrong."""
        for seat in self.seats.values():
            if seat.loaded is loaded:
                seat.loaded, seat.problem = None, why
                self._tell(seat, "failed" if why else "done", message=why)
        loaded.is_retired = True
        return self.free_if_idle(loaded)

    def used_by(self, folder: Path) -> list[str]:
        """The seats that have, or are about to have, weights in `folder`; engines that old sessions hold too."""
        picks = [(seat.name, seat.coming) for seat in self.seats.values() if seat.coming is not None]
        picks += [(seat.name, seat.loaded.pick) for seat in self.seats.values() if seat.loaded is not None]
        users = {name for name, pick in picks if _is_in(pick, folder)}
        kept = any(one.is_retired and _is_in(one.pick, folder) for one in self._alive)
        return sorted(users) + (["a session that has not ended"] if kept else [])

    async def aclose(self) -> None:
        """Stop loading and free everything, whatever of it fails; raises the last failure."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        async with AsyncExitStack() as closing:
            for one in self._alive:
                closing.push_async_callback(one.engine.aclose)
        self._alive.clear()

    def free_if_idle(self, loaded: Loaded) -> "asyncio.Task[None] | None":
        """Free an engine that was replaced or unloaded, once nobody holds it."""
        if loaded.is_retired and not loaded.holds and loaded in self._alive:
            return self._spawn(self._free(loaded))
        return None

    def _serving(self) -> list[Loaded]:
        seats = [self.seats[stage] for stage in STAGES]
        lacking = [seat.why_not for seat in seats if seat.loaded is None]
        if lacking:
            raise Overloaded("The server cannot talk yet. " + " ".join(dict.fromkeys(lacking)))
        return [seat.loaded for seat in seats if seat.loaded is not None]

    async def _load_first(self, seats: Sequence[tuple[Seat, Pick]]) -> None:
        async with self._one_at_a_time:
            if await asyncio.to_thread(self._vram) is None:
                await asyncio.gather(*(self._take_seat(seat, pick) for seat, pick in seats))
                return
            for seat, pick in seats:
                await self._take_seat(seat, pick)

    async def _load(self, seat: Seat, pick: Pick) -> None:
        self._tell(seat, "queued")
        async with self._one_at_a_time:
            await self._take_seat(seat, pick)

    async def _reconsider(self, stage: Stage, choose: Callable[[], Pick]) -> None:
        try:
            self.load(stage, await asyncio.to_thread(choose))
        except (SetupError, Conflict) as error:
            logger.info("what serves %s stays: %s", stage, error)

    async def _take_seat(self, seat: Seat, pick: Pick) -> None:
        self._tell(seat, "running", "loading")
        try:
            loaded = await self._make(pick)
        except Exception as error:
            logger.error("%s could not be loaded for %s", pick.engine, seat.name, exc_info=error)
            seat.coming, seat.problem = None, describe(error).message
            self._tell(seat, "failed", message=seat.problem)
            return
        old, seat.loaded, seat.coming = seat.loaded, loaded, None
        logger.info("%s serves %s", loaded.engine.name, seat.name)
        self._tell(seat, "done", message=loaded.engine.name)
        if old is not None:
            await self._retire(old)

    async def _make(self, pick: Pick) -> Loaded:
        before_bytes = await asyncio.to_thread(self._vram)
        loaded = Loaded(pick, await asyncio.to_thread(pick.build))
        self._alive.add(loaded)  # from here on `aclose` finds it
        try:
            await _warm_up(loaded)
        except Exception:
            self._alive.remove(loaded)
            with suppress(Exception):  # the first failure is the one to tell
                await loaded.engine.aclose()
            raise
        after_bytes = await asyncio.to_thread(self._vram)
        if before_bytes is not None and after_bytes is not None:
            loaded.vram_bytes = max(after_bytes - before_bytes, 0)
        return loaded

    async def _retire(self, loaded: Loaded) -> None:
        if freeing := self.retire(loaded):
            await asyncio.wait([freeing])

    async def _free(self, loaded: Loaded) -> None:
        try:
            await loaded.engine.aclose()
        except Exception:
            logger.exception("%s could not be freed", loaded.pick.engine)
        self._alive.discard(loaded)  # not before: until it is freed `aclose` must find it

    def _tell(self, seat: Seat, state: JobState, step: str = "", message: str = "") -> None:
        self._publish(JobProgress(SCOPE, seat.name, state, step, message=message))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _warm_up(loaded: Loaded) -> None:
    pick = loaded.pick
    try:
        async with asyncio.timeout(pick.load_timeout_s) as limit:
            await loaded.engine.warm_up()
    except TimeoutError:
        if limit.expired():
            raise EngineTimeout(f"{pick.engine} was not loaded within {pick.load_timeout_s:g} s.") from None
        raise


def _is_in(pick: Pick, folder: Path) -> bool:
    return pick.weights is not None and pick.weights.is_relative_to(folder)
