"""From settings to engines: gathers the facts, makes the pure choice of each stage, builds what was chosen.

With `app.py` and the command line it is the only code that sees settings, hub and engines together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar.conversation.session import Engines
from avatar.conversation.vram import free_vram_bytes
from avatar.core.errors import SetupError
from avatar.engines.base import STAGES, Stage
from avatar.engines.builtin import BUILTIN
from avatar.engines.registry import Choice, EngineSpec, Facts, Wish, choose, installed_packages, plug_ins
from avatar.hub import presence
from avatar.settings import Settings


@dataclass(frozen=True)
class Choosing:
    """The choice of one stage, or why there is none."""

    stage: Stage
    choice: Choice | None
    problem: str = ""


def survey(settings: Settings) -> tuple[Choosing, ...]:
    """The choice of every stage. Raises nothing: a stage without an engine says why."""
    specs = (*BUILTIN, *plug_ins())
    facts = gather_facts(settings.models_dir, specs)
    return tuple(_choose(stage, _wish(settings, stage), facts, specs) for stage in STAGES)


def gather_facts(models_dir: Path, specs: Sequence[EngineSpec]) -> Facts:
    """What is installed, which weights are here, and how much GPU memory is free."""
    files = {path.name: path for path in presence.local_ggufs(models_dir)}
    return Facts(installed_packages(specs), presence.present(models_dir), files, free_vram_bytes())


def build(choosings: Sequence[Choosing], settings: Settings) -> Engines:
    """The engines, not loaded yet. Raises `SetupError` with every stage that has none."""
    problems = [found.problem for found in choosings if found.choice is None]
    if problems:
        raise SetupError("\n".join(problems))
    built: dict[str, Any] = {
        found.stage: found.choice.spec.build(found.choice.weights, _wish(settings, found.stage).options)
        for found in choosings
        if found.choice is not None
    }
    return Engines(**built)


def _choose(stage: Stage, wish: Wish, facts: Facts, specs: Sequence[EngineSpec]) -> Choosing:
    try:
        return Choosing(stage, choose(stage, wish, facts, specs))
    except SetupError as error:
        return Choosing(stage, None, str(error))


def _wish(settings: Settings, stage: Stage) -> Wish:
    section = {"stt": settings.stt, "llm": settings.llm, "tts": settings.tts}.get(stage)
    if section is None:
        return Wish()
    options: Mapping[str, Any] = section.model_dump()
    return Wish(options["engine"], "" if stage == "tts" else options["model"], options)
