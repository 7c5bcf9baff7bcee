"""Engines over HTTP: what serves each stage, what could, loading another, freeing one.

Thin: the lineup does the work; what can be chosen is asked of functions, which look at the disk and the GPU.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from avatar.conversation.lineup import HIGH, Lineup, Pick, Seat, SeatName, SeatState
from avatar.conversation.vram import gpu_memory
from avatar.core.errors import Conflict, SetupError
from avatar.engines.base import Stage
from avatar.server import problems


@dataclass(frozen=True)
class Option:
    """An engine that could serve a stage; `why_not`: what stands against it now. `models`: those it has here."""

    stage: Stage
    engine: str
    why_not: str
    models: tuple[str, ...]


Choose = Callable[[SeatName, str | None, str | None], Pick]
"""(seat, engine, model) -> what it comes to; None leaves it to the settings. Raises `SetupError`."""


class OptionOut(BaseModel):
    """An engine that could serve the stage."""

    engine: str
    why_not: str | None = Field(description="What stands against it; null: it can be loaded.")
    models: list[str] = Field(description="Catalog keys it could take that are here.")


class SeatOut(BaseModel):
    """What serves one stage, or speaks where high quality is asked for."""

    stage: SeatName
    state: SeatState
    engine: str | None = Field(description="Its name in the registry.")
    name: str | None = Field(description="Its name for people.")
    weights: str | None
    reason: str | None
    vram_bytes: int | None = Field(description="How much fuller the GPU was after loading; null without one.")
    sessions: int = Field(description="Sessions that hold it.")
    coming: str | None = Field(description="The engine that is being loaded.")
    problem: str | None = Field(description="Why the last load failed.")
    options: list[OptionOut]


class GpuOut(BaseModel):
    """Memory of all GPUs together."""

    used_bytes: int
    total_bytes: int


class LineupOut(BaseModel):
    """What serves."""

    gpu: GpuOut | None
    stages: list[SeatOut]
    high_engine: str | None = Field(description="What speaks, or would, where `quality` `high` is asked for.")


class Load(BaseModel):
    """What to load; absent: what the settings say. With an `engine` and no `model`, the best that is here."""

    model_config = ConfigDict(extra="forbid")

    engine: str | None = Field(None, min_length=1, max_length=64)
    model: str | None = Field(None, max_length=256, description="Catalog key, or a GGUF's name in the models folder.")


def router(lineup: Lineup, options: Callable[[], Sequence[Option]], choose: Choose, high_engine: str = "") -> APIRouter:
    """The routes below `/api/engines`."""
    routes = APIRouter(prefix="/api/engines", tags=["engines"], responses=problems.RESPONSES)

    @routes.get("")
    async def list_engines() -> LineupOut:
        found, memory = await asyncio.gather(asyncio.to_thread(options), asyncio.to_thread(gpu_memory))
        gpu = GpuOut(used_bytes=memory[0], total_bytes=memory[1]) if memory else None
        stages = [_out(seat, found) for seat in lineup.seats.values()]
        high = lineup.seats[HIGH].pick
        return LineupOut(gpu=gpu, stages=stages, high_engine=high.engine if high else high_engine or None)

    @routes.post("/{stage}/load", status_code=202)
    async def load(stage: SeatName, wanted: Load | None = None) -> SeatOut:
        wanted = wanted or Load()
        try:
            pick = await asyncio.to_thread(choose, stage, wanted.engine, wanted.model)
        except SetupError as error:
            raise Conflict(str(error)) from error
        lineup.load(stage, pick)
        return _out(lineup.seats[stage], await asyncio.to_thread(options))

    @routes.post("/{stage}/unload")
    async def unload(stage: SeatName) -> SeatOut:
        await lineup.unload(stage)
        return _out(lineup.seats[stage], await asyncio.to_thread(options))

    return routes


def _out(seat: Seat, options: Sequence[Option]) -> SeatOut:
    loaded = seat.loaded
    pick = loaded.pick if loaded else None
    return SeatOut(
        stage=seat.name,
        state=seat.state,
        engine=pick.engine if pick else None,
        name=loaded.engine.name if loaded else None,
        weights=str(pick.weights) if pick and pick.weights else None,
        reason=pick.reason if pick else None,
        vram_bytes=loaded.vram_bytes if loaded else None,
        sessions=loaded.holds if loaded else 0,
        coming=seat.coming.engine if seat.coming else None,
        problem=seat.problem or None,
        options=[
            OptionOut(engine=one.engine, why_not=one.why_not or None, models=list(one.models))
            for one in options
            if one.stage == seat.stage
        ],
    )
