"""From settings to engines: gathers the facts, makes the pure choice of each stage, builds what was chosen.

With `service.py` and the command line it is the only code that sees settings, hub and engines together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from avatar.conversation.lineup import HIGH, Pick, SeatName, stage_of
from avatar.conversation.quality import on_demand
from avatar.conversation.vram import free_vram_bytes
from avatar.core.errors import SetupError
from avatar.engines.base import STAGES, Stage
from avatar.engines.builtin import BUILTIN
from avatar.engines.registry import Choice, EngineSpec, Facts, Wish, choose, installed_packages, plug_ins
from avatar.hub import catalog, presence
from avatar.server.engines import Option
from avatar.settings import Settings


@dataclass(frozen=True)
class Choosing:
    """The choice of one stage, or why there is none."""

    stage: Stage
    choice: Choice | None
    problem: str = ""


def survey(settings: Settings) -> tuple[Choosing, ...]:
    """The choice of every stage. Raises nothing: a stage without an engine says why."""
    specs = engine_specs()
    facts = _gather_facts(settings, specs)
    return tuple(_choose(stage, _wish(settings, stage), facts, specs) for stage in STAGES)


def engine_specs() -> tuple[EngineSpec, ...]:
    """Every engine that is known, ours first."""
    return (*BUILTIN, *plug_ins())


def _gather_facts(settings: Settings, specs: Sequence[EngineSpec]) -> Facts:
    """What is installed, which weights are here, how much GPU memory is free, and whether a voice has been enrolled,
    as the disk says: the database is not open yet when engines are chosen."""
    return Facts(
        installed_packages(specs),
        presence.present(settings.models_dir),
        {path.name: path for path in presence.local_ggufs(settings.models_dir)},
        free_vram_bytes(),
        any(settings.data_dir.glob("voices/voice_*/reference.wav")),
    )


def picks(choosings: Sequence[Choosing], settings: Settings) -> dict[Stage, Pick]:
    """What was chosen, ready to be made. Raises `SetupError` with every stage that has none."""
    problems = [found.problem for found in choosings if found.choice is None]
    if problems:
        raise SetupError("\n".join(problems))
    return {
        found.stage: _pick(found.choice, _wish(settings, found.stage))
        for found in choosings
        if found.choice is not None
    }


def pick(settings: Settings, seat: SeatName, engine: str | None = None, model: str | None = None) -> Pick:
    """What a wish over the network comes to; None leaves it to the settings. Raises `SetupError`.

    Only weights of the models folder can be wished for: a path of the server's is not for clients to choose.
    """
    wish = _wish(settings, seat, engine, model)
    if not wish.engine:
        raise SetupError("No engine for it is set up (tts.high_engine).")
    specs = engine_specs()
    facts = _gather_facts(settings, specs)
    choice = _told(choose(stage_of(seat), wish, facts, specs), facts)
    if model and choice.weights and choice.weights not in (*facts.weights.values(), *facts.files.values()):
        raise SetupError(f"`{model}` is not in the models folder. Put it there first.")
    found, tts = _pick(choice, wish), settings.tts
    return on_demand(found, tts.high_vram_bytes, tts.high_load_s) if seat == HIGH else found


def options(settings: Settings) -> list[Option]:
    """Every engine of every stage: whether it could be loaded now, and with which models."""
    specs = engine_specs()
    facts = _gather_facts(settings, specs)
    return [_option(spec, settings, facts) for spec in specs]


def _option(spec: EngineSpec, settings: Settings, facts: Facts) -> Option:
    found = _choose(spec.stage, _wish(settings, spec.stage, spec.name), facts, [spec])
    why_not = found.problem.partition(f"{spec.name}: ")[2] or found.problem
    files = facts.files if spec.takes == "file" and spec.stage == "llm" else ()
    return Option(spec.stage, spec.name, why_not, (*(key for key in spec.catalog_keys if key in facts.weights), *files))


def _pick(choice: Choice, wish: Wish) -> Pick:
    model = "" if choice.weights else wish.model
    return Pick(
        choice.spec.name,
        choice.weights,
        model,
        choice.reason,
        lambda: choice.spec.build(choice.weights, wish.options),
    )


def _choose(stage: Stage, wish: Wish, facts: Facts, specs: Sequence[EngineSpec]) -> Choosing:
    try:
        return Choosing(stage, _told(choose(stage, wish, facts, specs), facts))
    except SetupError as error:
        return Choosing(stage, None, str(error))


def _told(choice: Choice, facts: Facts) -> Choice:
    """With what the licence of its weights asks of a user among the reasons: those copied by hand were never asked."""
    keys = [key for key, folder in facts.weights.items() if folder == choice.weights]
    asks = [terms for key in keys if (terms := catalog.model(key).terms)]
    return replace(choice, reason="; ".join((choice.reason, *asks)))


def _wish(settings: Settings, seat: SeatName, engine: str | None = None, model: str | None = None) -> Wish:
    """What the settings say of a seat, unless an engine or a model is asked for."""
    section = {"stt": settings.stt, "llm": settings.llm, "tts": settings.tts, HIGH: settings.tts}.get(seat)
    options: dict[str, Any] = section.model_dump() if section else {}
    if seat == HIGH:
        options |= {"engine": settings.tts.high_engine, "model": settings.tts.high_model}
    if engine is not None or model is not None:
        options |= {"engine": engine or "auto", "model": model or ""}
    return Wish(options.get("engine", "auto"), options.get("model", ""), options)
