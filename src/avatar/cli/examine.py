"""`avatar doctor`: what is installed, which weights are here, what was chosen for each stage and why not the others."""

import importlib.metadata
import os
import platform
from importlib.util import find_spec

from rich.console import Console
from rich.table import Table

from avatar import __version__
from avatar.choosing import Choosing, survey
from avatar.conversation.vram import free_vram_bytes
from avatar.hub import catalog, presence
from avatar.server.pages import UI
from avatar.settings import Settings

PACKAGES = ("faster-whisper", "onnxruntime", "xllamacpp", "espeakng-loader", "vllm", "torch")


def examine(settings: Settings) -> int:
    """Print the findings; the exit status is 0 when every stage has an engine and the page is built."""
    console = Console(highlight=False, soft_wrap=True)
    free = free_vram_bytes()
    console.print(f"AVATAR {__version__}, Python {platform.python_version()}, {platform.machine()} {platform.system()}")
    console.print(f"{os.cpu_count()} cores; GPU: {'none' if free is None else f'{free / 2**30:.1f} GiB free'}")
    console.print(f"data: {settings.data_dir}\nweights: {settings.models_dir}")
    console.print("packages: " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    console.print(f"media decoders: PyAV {_version('av')}, soundfile {_version('soundfile')}\n")
    console.print(_weights(settings))
    choosings = survey(settings)
    for found in choosings:
        _explain(console, found)
    built = (UI / "index.html").is_file()
    if not built:
        console.print("[red]The page is not built: run `make setup`.[/]")
    return 0 if built and all(found.choice for found in choosings) else 1


def _weights(settings: Settings) -> Table:
    table = Table("weights", "here", "profiles", box=None)
    for key in catalog.MODELS:
        folder = presence.locate(settings.models_dir, key)
        profiles = [name for name, keys in catalog.PROFILES.items() if key in keys]
        if folder or profiles:
            table.add_row(key, str(folder) if folder else "-", " ".join(profiles))
    for path in presence.local_ggufs(settings.models_dir):
        table.add_row(path.name, str(path), "")
    return table


def _explain(console: Console, found: Choosing) -> None:
    stage = found.stage.replace("_", " ")
    if found.choice is None:
        console.print(f"[bold]{stage}[/]: [red]{found.problem}[/]")
        return
    console.print(f"[bold]{stage}[/]: {found.choice.spec.name} ({found.choice.reason})")
    for name, why in found.choice.rejected:
        console.print(f"    not {name}: {why}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(importable)" if find_spec(package.replace("-", "_")) else "(not installed)"
