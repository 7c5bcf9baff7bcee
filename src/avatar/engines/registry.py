"""Which engine serves a stage: names mapped to lazy factories, and the choice among them as a pure function.

Nothing here imports an engine or its packages: availability is probed, not tried. Third parties add engines through
the entry-point group `avatar.engines` (each entry point loads to an `EngineSpec`). Knows no settings object: options
come as plain values, weights as paths.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from avatar.core.errors import SetupError
from avatar.engines.base import Engine, Stage

logger = logging.getLogger(__name__)

ENTRY_POINTS = "avatar.engines"


@dataclass(frozen=True)
class Facts:
    """What the choice depends on. `weights`: catalog key to folder; `files`: name of a file put into the models folder
    to its path. `free_vram_bytes`: None without a GPU. `has_voices`: somebody's voice has been enrolled here."""

    installed: frozenset[str] = frozenset()
    weights: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    free_vram_bytes: int | None = None
    has_voices: bool = False


@dataclass(frozen=True)
class Wish:
    """What the settings say of a stage: an engine's name or `auto`, a model or nothing, and the engine's options."""

    engine: str = "auto"
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineSpec:
    """One engine that could serve `stage`.

    `weights`: catalog keys it can use, best first (`gpu_weights`: on a GPU box; `cloning_weights`: before all others
    once a voice is enrolled); empty: it needs none, or takes a model's name. `begin_with`: which of them to suggest
    when there are none. `takes`: what a model given as a path must be. `why_not`: what else stands against it.
    """

    stage: Stage
    name: str
    build: Callable[[Path | None, Mapping[str, Any]], Engine]
    packages: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    gpu_weights: tuple[str, ...] = ()
    cloning_weights: tuple[str, ...] = ()
    takes: Literal["", "file", "folder"] = ""
    begin_with: str = ""
    praise: str = ""
    why_not: Callable[[Facts, Wish], str | None] = lambda facts, wish: None

    @property
    def catalog_keys(self) -> tuple[str, ...]:
        """All weights it can use."""
        return tuple(dict.fromkeys((*self.weights, *self.gpu_weights)))


@dataclass(frozen=True)
class Choice:
    """What serves a stage and why, and why not the others."""

    spec: EngineSpec
    weights: Path | None
    reason: str
    rejected: tuple[tuple[str, str], ...] = ()


def installed_packages(specs: Sequence[EngineSpec]) -> frozenset[str]:
    """Those packages that some engine asks for and that can be imported, found without importing them."""
    return frozenset(package for spec in specs for package in spec.packages if _is_installed(package))


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:  # what it is a part of is not there
        return False


def plug_ins() -> tuple[EngineSpec, ...]:
    """Engines of other packages. One that cannot be loaded is left out; the log says why."""
    specs: list[EngineSpec] = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            specs.append(point.load())
        except Exception:
            logger.exception("the plug-in %s (%s) cannot be loaded", point.name, point.value)
    return tuple(specs)


def choose(stage: Stage, wish: Wish, facts: Facts, specs: Sequence[EngineSpec]) -> Choice:
    """The engine for `stage`: the one asked for, else the first of `specs` that can run.

    Raises `SetupError` that gives the reason against each candidate and says what to do.
    """
    candidates = [spec for spec in specs if spec.stage == stage]
    if wish.engine != "auto":
        named = [spec for spec in candidates if spec.name == wish.engine]
        if not named:
            known = ", ".join(spec.name for spec in candidates)
            raise SetupError(f"There is no {stage} engine named `{wish.engine}`. Known: auto, {known}.")
        others = [(spec.name, f"`{wish.engine}` was asked for") for spec in candidates if spec.name != wish.engine]
        return _first(stage, named, wish, facts, others, "asked for in the settings")
    return _first(stage, candidates, wish, facts, [], "")


def _first(
    stage: Stage,
    candidates: Sequence[EngineSpec],
    wish: Wish,
    facts: Facts,
    rejected: list[tuple[str, str]],
    asked: str,
) -> Choice:
    chosen: Choice | None = None
    for spec in candidates:
        if chosen is not None:
            rejected.append((spec.name, f"{chosen.spec.name} comes first"))
            continue
        against, weights, source = _judge(spec, wish, facts)
        if against:
            rejected.append((spec.name, against))
        else:
            reason = "; ".join(part for part in (asked or spec.praise, source) if part)
            chosen = Choice(spec, weights, reason)
    if chosen is None:
        judged = {spec.name for spec in candidates}
        reasons = "\n".join(f"  {name}: {why}" for name, why in rejected if name in judged)
        raise SetupError(f"No engine can serve {stage}:\n{reasons}")
    return Choice(chosen.spec, chosen.weights, chosen.reason, tuple(rejected))


def _judge(spec: EngineSpec, wish: Wish, facts: Facts) -> tuple[str | None, Path | None, str]:
    """(what stands against it, its weights, where they come from)."""
    lacking = [package for package in spec.packages if package not in facts.installed]
    if lacking:
        return f"the package {', '.join(lacking)} is not installed", None, ""
    against = spec.why_not(facts, wish)
    if against:
        return against, None, ""
    if not spec.weights:
        return None, None, ""
    order = spec.gpu_weights if facts.free_vram_bytes is not None and spec.gpu_weights else spec.weights
    order = (*spec.cloning_weights, *order) if facts.has_voices else order
    if wish.model:
        return _named_weights(spec, wish.model, facts)
    key = next((key for key in order if key in facts.weights), None)
    if key is None:
        return f"no weights; `avatar models fetch {spec.begin_with or order[0]}` gets some", None, ""
    return None, facts.weights[key], f"weights {key}"


def _named_weights(spec: EngineSpec, model: str, facts: Facts) -> tuple[str | None, Path | None, str]:
    if model in spec.catalog_keys:
        if model in facts.weights:
            return None, facts.weights[model], f"weights {model}"
        return f"the weights `{model}` are not here; `avatar models fetch {model}` gets them", None, ""
    path = facts.files.get(model) or Path(model).expanduser()
    if (spec.takes == "file" and path.is_file()) or (spec.takes == "folder" and path.is_dir()):
        return None, path, f"weights {path}"
    return f"it cannot use `{model}` as its model", None, ""
