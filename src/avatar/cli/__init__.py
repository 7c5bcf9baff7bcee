"""The command line: `avatar serve | doctor | models | voices | bench`.

Owns words and exit codes; the work is done elsewhere. `main` turns every `AvatarError` into one message.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from avatar.cli import bench, models, voices
from avatar.core.errors import AvatarError

app = typer.Typer(help="AVATAR, a voice assistant on your own machine.", no_args_is_help=True, add_completion=False)
app.add_typer(models.app, name="models")
app.add_typer(voices.app, name="voices")
app.add_typer(bench.app, name="bench")

Config = Annotated[Path | None, typer.Option("--config", help="An avatar.toml; default: the one in this folder.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 lets the system choose.")] = None,
    config: Config = None,
) -> None:
    """Serve the assistant: the page at /, conversations at /ws/chat."""
    from avatar.cli import serving
    from avatar.settings import load

    listening: dict[str, Any] = {"host": host, "port": port}
    given = {name: value for name, value in listening.items() if value is not None}
    serving.serve(load(config, {"server": given} if given else {}))


@app.command()
def doctor(config: Config = None) -> None:
    """Show what is installed, which weights are here, and what serves each stage and why."""
    from avatar.cli import examine
    from avatar.settings import load

    raise typer.Exit(examine.examine(load(config)))


def main() -> None:
    """Entry point of the `avatar` command."""
    try:
        app()
    except AvatarError as error:
        sys.exit(str(error))
