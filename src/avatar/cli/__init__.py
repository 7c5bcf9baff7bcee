"""The command line: `avatar serve | doctor | models | voices | bench | backup | restore`.

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


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A .tar.gz that is not there yet.", dir_okay=False)],
    config: Config = None,
) -> None:
    """Put conversations, recordings and voices into one file; the server may go on meanwhile."""
    from avatar.cli.backup import back_up
    from avatar.settings import load

    held = back_up(load(config).data_dir, file)
    typer.echo(
        f"{file}: {held.conversations} conversations with {held.turns} turns, {held.voices} voices, {held.files} files"
        + (f"; {held.missing} were deleted meanwhile" if held.missing else "")
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `avatar backup` made.", exists=True, dir_okay=False)],
    config: Config = None,
) -> None:
    """Unpack a backup into the data folder, which must hold no conversations yet."""
    from avatar.cli.backup import restore as unpack
    from avatar.settings import load

    data_dir = load(config).data_dir
    unpack(file, data_dir)
    typer.echo(f"{file} is restored in {data_dir}.")


def main() -> None:
    """Entry point of the `avatar` command."""
    try:
        app()
    except AvatarError as error:
        sys.exit(str(error))
