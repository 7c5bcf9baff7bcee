"""`avatar models`: what weights are here, getting them, checking them.

Words and bars only; all work is `avatar.hub`'s. What fetches is imported when it is needed, so that other commands
start without it.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from avatar import settings
from avatar.core.errors import EngineError, SetupError
from avatar.hub import catalog, presence
from avatar.hub.catalog import Model, Profile

if TYPE_CHECKING:
    from rich.progress import TaskID

    from avatar.hub.fetch import Result
    from avatar.hub.source import OnProgress, Progress
    from avatar.hub.verify import Report

app = typer.Typer(help="Model weights: list, fetch, verify.", no_args_is_help=True)
_console = Console(highlight=False, soft_wrap=True)
if not _console.is_terminal:
    _console.width = 200  # nothing bounds a table in a file or pipe

_PLAIN_EVERY_S = 5.0

Keys = Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Catalog keys, as `list` shows them.")]


@app.command("list")
def list_models() -> None:
    """Show every model AVATAR knows and whether it is here."""
    models_dir = settings.load().models_dir
    rows: list[tuple[str, ...]] = []
    for model in catalog.MODELS.values():
        folder = presence.locate(models_dir, model.key)
        state, where = ("present", str(folder)) if folder else ("-", _offered_by(model))
        rows.append((model.key, model.role, state, _size(model.size_bytes), model.licence, where))
    for path in presence.local_ggufs(models_dir):
        rows.append((path.name, "llm", "present", _size(path.stat().st_size), "", str(path)))
    _console.print(_table(("key", "role", "state", "size", "licence", "where"), rows))
    for profile, keys in catalog.PROFILES.items():
        size_bytes = sum(catalog.model(key).size_bytes for key in keys)
        _console.print(f"[bold]{profile}[/] ({_size(size_bytes)}): {', '.join(keys)}")


@app.command()
def fetch(
    keys: Keys = None,
    profile: Annotated[
        Profile | None, typer.Option(help="A set of models; without it and without keys, the setting models.profile.")
    ] = None,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="Accept the licences that are asked about.")
    ] = False,
) -> None:
    """Get models; what is here already is checked, what was begun goes on."""
    from avatar.hub.fetch import fetch as fetch_models

    chosen = settings.load()
    wanted = list(keys or [])
    if profile or not wanted:
        wanted += catalog.PROFILES[profile or chosen.models.profile]
    for key in wanted:
        if presence.locate(chosen.models_dir, key) is None:
            _require_acceptance(catalog.model(key), accept_terms)
    with _progress() as on_progress:
        results = asyncio.run(
            fetch_models(wanted, chosen.models_dir, chosen.models.sources, chosen.models.connect_timeout_s, on_progress)
        )
    for result in results:
        _tell_result(result)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@app.command()
def verify(
    keys: Keys = None,
    listen: Annotated[bool, typer.Option(help="Let speech models speak, and the transcriber write it down.")] = True,
) -> None:
    """Hash the files of models (all that are here, unless named) and compare; needs no network.

    A speech model whose files are sound then speaks, and fails if what it says is not understood. So does a speech
    engine without weights, if it is named.
    """
    from avatar.hub.verify import verify as verify_model

    chosen = settings.load()
    wanted = keys or list(presence.present(chosen.models_dir))
    named = [key for key in wanted if key in catalog.MODELS or not _speakers(key)]
    reports = [asyncio.run(verify_model(chosen.models_dir, key)) for key in named]
    if not wanted:
        _console.print(f"No model is in {chosen.models_dir}: run `avatar models fetch`.")
        raise typer.Exit(1)
    for report in reports:
        _tell_report(report)
    sound = [key for key in wanted if key not in named or any(one.key == key and one.ok for one in reports)]
    understood = [_is_understood(chosen, key) for key in sound if listen]
    if not all(report.ok for report in reports) or not all(understood):
        raise typer.Exit(1)


def _tell_report(report: "Report") -> None:
    unknown = [file.name for file in report.files if file.state == "unknown"]
    if not report.ok:
        bad = ", ".join(f"{file.name}: {file.state}" for file in report.unsound)
        _console.print(f"[red]{report.key}[/]: {bad}. Run `avatar models fetch {report.key}`.")
    elif unknown:
        names = ", ".join(unknown)
        _console.print(f"[yellow]{report.key}[/]: copied by hand, nothing to compare {names} with.")
    else:
        _console.print(f"[green]{report.key}[/]: ok")


def _speakers(key: str) -> list[str]:
    from avatar.scoring import speakers

    return speakers(key)


def _is_understood(chosen: settings.Settings, key: str) -> bool:
    """False only if it fails to speak or cannot be understood; that nobody can listen says nothing of it."""
    if key in catalog.MODELS and catalog.MODELS[key].role != "tts":
        return True
    from avatar.scoring import WORD_ERRORS, round_trip

    for engine in _speakers(key):
        try:
            found = asyncio.run(round_trip(chosen, engine, key if key in catalog.MODELS else None))
        except SetupError as error:
            _console.print(f"[yellow]{key}[/]: not heard. {error}")
        except EngineError as error:
            _console.print(f"[red]{key}[/]: {engine} does not speak. {error}")
            return False
        else:
            colour, verdict = ("green", "understood") if found.is_understood else ("red", "not understood")
            errors = f"{found.word_error_rate:.0%} of the words are wrong to {found.transcriber}"
            _console.print(f"[{colour}]{key}[/]: {verdict}: {errors}, and {WORD_ERRORS:.0%} may be.")
            for line in found.lines if not found.is_understood else ():
                _console.print(f"  said {line.said!r}, heard {line.heard!r}", markup=False)
            return found.is_understood
    return True


@app.command()
def path(key: Annotated[str | None, typer.Argument(help="Catalog key.")] = None) -> None:
    """Print the folder of all models, or of one."""
    models_dir = settings.load().models_dir
    folder = presence.locate(models_dir, key) if key else models_dir
    if folder is None:
        raise SetupError(f"{key} is not in {models_dir}: run `avatar models fetch {key}`.")
    typer.echo(folder)


def _require_acceptance(model: Model, accepted: bool) -> None:
    """Show the licence that has to be accepted, if there is one. Raises `SetupError` when it is not."""
    if not model.terms:
        return
    _console.print(model.question, markup=False)
    if not accepted and not (sys.stdin.isatty() and typer.confirm("Do you accept that?")):
        raise SetupError(f"{model.key} is not fetched: run again with --accept-terms to accept its licence.")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """Columns as wide as their words; only the last gives way to a narrow terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, *cells in zip(header, *rows, strict=True):
        last = title == header[-1]
        table.add_column(title, no_wrap=True, min_width=None if last else max(map(len, cells)))
    for row in rows:
        table.add_row(*row, style="green" if row[2] == "present" else None)
    return table


def _tell_result(result: "Result") -> None:
    if result.ok:
        how = f"fetched from {', '.join(result.sources)}" if result.sources else "was here already"
        _console.print(f"[green]{result.key}[/]: {how}: {result.folder}")
        return
    _console.print(f"[red]{result.key}[/]: not fetched.")
    for problem in result.problems:
        _console.print(f"  {problem}", markup=False)
    _console.print(
        "  Try again (what was received is kept), set HF_ENDPOINT to a mirror you can reach, or copy its folder to "
        f"{settings.load().models_dir / result.key}.",
        markup=False,
    )


@contextmanager
def _progress() -> Iterator["OnProgress"]:
    """Bars on a terminal, a line now and then elsewhere."""
    if not _console.is_terminal:
        yield _PlainLines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=_console, transient=True) as bars:
        yield _BarLines(bars)


class _BarLines:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[tuple[str, str], TaskID] = {}

    def __call__(self, event: "Progress") -> None:
        if event.state == "planned":
            return
        if (event.key, event.file) not in self._tasks:
            self._tasks[event.key, event.file] = self._bars.add_task("", total=None)
        state = "" if event.state == "downloading" else f" [dim]{event.state}[/]"
        self._bars.update(
            self._tasks[event.key, event.file],
            description=f"{event.file or event.key}{state}",
            total=event.total_bytes,
            completed=event.received_bytes,
            visible=event.state not in ("done", "failed"),
        )


class _PlainLines:
    def __init__(self) -> None:
        self._said: tuple[str, str, str] | None = None
        self._said_at_s = 0.0

    def __call__(self, event: "Progress") -> None:
        if event.state == "planned":
            return
        now_s = time.monotonic()
        what = (event.key, event.file, event.state)
        if what == self._said and now_s - self._said_at_s < _PLAIN_EVERY_S:
            return
        self._said, self._said_at_s = what, now_s
        of = f" of {_size(event.total_bytes)}" if event.total_bytes else ""
        amount = f" {_size(event.received_bytes)}{of}" if event.state == "downloading" else ""
        note = f": {event.note}" if event.note else ""
        name = f"{event.key}/{event.file}" if event.file else event.key
        source = f" ({event.source})" if event.source else ""
        _console.print(f"{name}: {event.state}{amount}{source}{note}", markup=False)


def _offered_by(model: Model) -> str:
    packages = sorted({file.package.requirement for file in model.files if file.package})
    return ", ".join(filter(None, (model.huggingface, *packages)))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
