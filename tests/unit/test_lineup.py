"""Loading and unloading engines while sessions hold them."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from avatar.conversation.lineup import HIGH, Lineup, Pick
from avatar.core.errors import Conflict, EngineFailed, Overloaded
from avatar.core.progress import JobProgress
from avatar.engines.base import STAGES, Capabilities, Engine, Stage


@dataclass(eq=False)
class Machine:
    """A machine on which engines are loaded; only counts."""

    loading: int = 0
    most_loading: int = 0
    used_bytes: int = 1000
    together: asyncio.Barrier | None = None
    """Then loading ends only when so many are at it."""
    told: list[JobProgress] = field(default_factory=list)
    made: list["Model"] = field(default_factory=list)

    def pick(self, name: str, weights: Path | None = None, error: Exception | None = None) -> Pick:
        def build() -> Engine:
            self.made.append(Model(name, self, error))
            return self.made[-1]

        return Pick(name, weights, "", "asked for", build)

    def named(self, name: str) -> list["Model"]:
        return [model for model in self.made if model.name == name]


@dataclass(eq=False)
class Model:
    """Takes 100 bytes and a moment to load."""

    name: str
    machine: Machine
    error: Exception | None = None
    capabilities = Capabilities()
    closed: int = 0

    async def warm_up(self) -> None:
        self.machine.loading += 1
        self.machine.most_loading = max(self.machine.loading, self.machine.most_loading)
        await (self.machine.together.wait() if self.machine.together else asyncio.sleep(0))
        self.machine.loading -= 1
        if self.error:
            raise self.error
        self.machine.used_bytes += 100

    async def aclose(self) -> None:
        self.closed += 1
        if self.closed == 1 and self.error is None:
            self.machine.used_bytes -= 100


async def started(machine: Machine, **instead: Pick) -> Lineup:
    first: dict[Stage, Pick] = {stage: instead.get(stage) or machine.pick(stage) for stage in STAGES}
    lineup = Lineup(first, machine.told.append, lambda: machine.used_bytes)
    lineup.start()
    await at_rest(lineup)
    return lineup


async def at_rest(lineup: Lineup) -> None:
    while lineup._tasks:
        await asyncio.wait(lineup._tasks)


async def test_on_a_gpu_every_stage_is_loaded_one_at_a_time() -> None:
    machine = Machine()
    lineup = await started(machine)
    assert lineup.engines.names() == {stage: stage for stage in STAGES}
    assert [model.name for model in machine.made] == list(STAGES)
    assert machine.most_loading == 1
    assert [loaded and loaded.vram_bytes for loaded in (lineup.seats[stage].loaded for stage in STAGES)] == [100] * 5
    await lineup.aclose()
    assert {model.closed for model in machine.made} == {1}


async def test_without_a_gpu_to_share_the_first_are_loaded_at_once() -> None:
    machine = Machine(together=asyncio.Barrier(len(STAGES)))
    lineup = Lineup({stage: machine.pick(stage) for stage in STAGES}, machine.told.append, lambda: None)
    lineup.start()
    await at_rest(lineup)
    assert machine.most_loading == len(STAGES)
    assert lineup.engines.names() == {stage: stage for stage in STAGES}
    await lineup.aclose()


async def test_before_all_are_loaded_nobody_is_let_in() -> None:
    machine = Machine()
    lineup = Lineup({stage: machine.pick(stage) for stage in STAGES}, machine.told.append, lambda: None)
    lineup.start()
    with pytest.raises(Overloaded, match="being loaded"):
        lineup.hold()
    await lineup.aclose()


async def test_asked_for_twice_it_is_loaded_once() -> None:
    machine = Machine()
    lineup = await started(machine)
    for _ in range(5):
        lineup.load("tts", machine.pick("other"))
    await at_rest(lineup)
    lineup.load("tts", machine.pick("other"))
    await at_rest(lineup)
    assert len(machine.named("other")) == 1
    assert [job.state for job in machine.told if job.key == "tts"][2:] == ["queued", "running", "done"]
    await lineup.aclose()


async def test_two_stages_wait_for_each_other_and_two_wishes_for_one_stage_conflict() -> None:
    machine = Machine()
    lineup = await started(machine)
    lineup.load("tts", machine.pick("voice"))
    lineup.load("stt", machine.pick("ear"))
    with pytest.raises(Conflict, match="voice is being loaded"):
        lineup.load("tts", machine.pick("third"))
    with pytest.raises(Conflict):
        await lineup.unload("tts")
    assert lineup.engines.tts.name == "tts"  # what was there serves meanwhile
    await at_rest(lineup)
    assert (lineup.engines.tts.name, lineup.engines.stt.name) == ("voice", "ear")
    assert machine.most_loading == 1
    await lineup.aclose()


async def test_a_session_keeps_its_engines_and_the_last_one_frees_them() -> None:
    machine = Machine()
    lineup = await started(machine)
    first, second = lineup.hold(), lineup.hold()
    lineup.load("tts", machine.pick("other"))
    await at_rest(lineup)
    third = lineup.hold()
    assert (first.engines.tts.name, third.engines.tts.name) == ("tts", "other")
    first.release()
    first.release()
    await at_rest(lineup)
    assert machine.named("tts")[0].closed == 0
    second.release()
    await at_rest(lineup)
    assert machine.named("tts")[0].closed == 1
    third.release()
    await at_rest(lineup)
    assert machine.named("other")[0].closed == 0
    await lineup.aclose()
    assert {model.closed for model in machine.made} == {1}


async def test_unloading_frees_at_once_and_shuts_the_door() -> None:
    machine = Machine()
    lineup = await started(machine)
    used_bytes = machine.used_bytes
    await lineup.unload("llm")
    assert machine.used_bytes == used_bytes - 100
    assert lineup.seats["llm"].state == "unloaded"
    with pytest.raises(Overloaded, match="No llm engine is loaded"):
        lineup.hold()
    lineup.load("llm", machine.pick("llm"))
    await at_rest(lineup)
    lineup.hold().release()
    await lineup.aclose()


async def test_sessions_that_share_a_language_model_share_who_may_guess() -> None:
    machine = Machine()
    lineup = await started(machine)
    first, second = lineup.hold(), lineup.hold()
    assert first.engines.precedence is second.engines.precedence is lineup.engines.precedence
    lineup.load("llm", machine.pick("another"))
    await at_rest(lineup)
    third = lineup.hold()
    assert third.engines.precedence is not first.engines.precedence
    for hold in (first, second, third):
        hold.release()
    await at_rest(lineup)
    await lineup.aclose()


async def test_unloading_what_a_session_holds_frees_it_when_the_session_ends() -> None:
    machine = Machine()
    lineup = await started(machine)
    hold = lineup.hold()
    await lineup.unload("llm")
    assert machine.named("llm")[0].closed == 0
    hold.release()
    await at_rest(lineup)
    assert machine.named("llm")[0].closed == 1
    await lineup.aclose()


@pytest.mark.parametrize(("error", "said"), [(EngineFailed("It has no voice."), "no voice"), (OSError("x"), "log")])
async def test_what_cannot_be_loaded_leaves_what_was_there(error: Exception, said: str) -> None:
    machine = Machine()
    lineup = await started(machine)
    lineup.load("tts", machine.pick("broken", error=error))
    await at_rest(lineup)
    assert lineup.engines.tts.name == "tts"
    assert said in lineup.seats["tts"].problem
    assert (machine.told[-1].state, machine.told[-1].message) == ("failed", lineup.seats["tts"].problem)
    assert machine.named("broken")[0].closed == 1
    lineup.load("tts", machine.pick("broken"))  # repaired meanwhile
    await at_rest(lineup)
    assert (lineup.engines.tts.name, lineup.seats["tts"].problem) == ("broken", "")
    await lineup.aclose()


async def test_one_that_fails_at_the_start_can_be_replaced() -> None:
    machine = Machine()
    lineup = await started(machine, tts=machine.pick("broken", error=EngineFailed("It has no voice.")))
    with pytest.raises(Overloaded, match="It has no voice"):
        lineup.hold()
    assert lineup.seats["tts"].state == "failed"
    lineup.load("tts", machine.pick("other"))
    await at_rest(lineup)
    assert lineup.engines.tts.name == "other"
    await lineup.aclose()


async def test_the_better_voice_has_a_seat_that_may_stay_empty() -> None:
    machine, folder = Machine(), Path("/models/a")
    lineup = await started(machine)
    assert lineup.seats[HIGH].state == "unloaded"
    lineup.hold().release()
    lineup.load("tts", machine.pick("voice"))
    lineup.load(HIGH, machine.pick("better", folder / "model.onnx"))
    assert lineup.used_by(folder) == ["tts_high"]
    assert (await lineup.loaded(HIGH)).engine.name == "better"
    assert machine.most_loading == 1
    hold = lineup.hold()
    hold.keep(await lineup.loaded(HIGH))
    await lineup.unload(HIGH)
    assert lineup.used_by(folder) == ["a session that has not ended"]
    assert machine.named("better")[0].closed == 0
    with pytest.raises(EngineFailed, match="No tts_high engine is loaded"):
        await lineup.loaded(HIGH)
    hold.release()
    await at_rest(lineup)
    assert machine.named("better")[0].closed == 1
    await lineup.aclose()


async def test_one_that_is_out_of_order_serves_nobody_any_more() -> None:
    machine = Machine()
    lineup = await started(machine)
    lineup.load(HIGH, machine.pick("better"))
    better, hold = await lineup.loaded(HIGH), lineup.hold()
    hold.keep(better)
    for _ in range(2):  # as two sessions may find
        lineup.retire(better, "It hangs.")
    assert (lineup.seats[HIGH].state, lineup.seats[HIGH].problem) == ("failed", "It hangs.")
    assert (machine.told[-1].key, machine.told[-1].state, machine.told[-1].message) == (HIGH, "failed", "It hangs.")
    assert machine.named("better")[0].closed == 0
    hold.release()
    await lineup.aclose()  # before it could be freed
    assert {model.closed for model in machine.made} == {1}


async def test_which_folders_are_in_use() -> None:
    machine, folder = Machine(), Path("/models/a")
    lineup = await started(machine, tts=machine.pick("tts", folder / "model.onnx"))
    assert lineup.used_by(folder) == ["tts"]
    assert lineup.used_by(Path("/models/b")) == []
    hold = lineup.hold()
    lineup.load("tts", machine.pick("other", Path("/models/b")))
    assert lineup.used_by(Path("/models/b")) == ["tts"]
    await at_rest(lineup)
    assert lineup.used_by(folder) == ["a session that has not ended"]
    hold.release()
    await at_rest(lineup)
    assert lineup.used_by(folder) == []
    await lineup.aclose()
