"""`avatar voices`: what voices are here, how like them speech is, and whether a file carries our mark.

Words and exit codes only. It opens the data folder beside a running server and changes nothing in it but the cache of
what engines make of recordings.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from avatar import settings
from avatar.core.errors import BadAudio, SetupError
from avatar.core.voices import VoiceProfile
from avatar.settings import Settings

app = typer.Typer(help="Enrolled voices: list, score, detect.", no_args_is_help=True)
_console = Console(highlight=False, soft_wrap=True)

_DETECT_MAX_S = 600.0


@app.command("list")
def list_voices() -> None:
    """Show every enrolled voice."""
    table = Table("id", "name", "status", "language", "default", box=None)
    for profile in asyncio.run(_profiles(settings.load())):
        default = "yes" if profile.is_default else ""
        table.add_row(profile.id, profile.name, profile.status, profile.language or "", default)
    _console.print(table)


@app.command()
def score(voice: Annotated[str, typer.Argument(help="Id or name of an enrolled voice.")]) -> None:
    """Speak with a voice, and measure how like its recording that is and how well it is understood."""
    from avatar.scoring import score as measure

    result = asyncio.run(measure(settings.load(), voice))
    table = Table("sentence", "similarity", "word errors", "heard", box=None)
    for line in result.lines:
        errors = "-" if line.word_error_rate is None else f"{line.word_error_rate:.0%}"
        table.add_row(line.said, f"{line.cosine:.3f}", errors, line.heard)
    _console.print(table)
    _console.print(f"engine {result.engine}; similarity {result.cosine:.3f}: {result.verdict}")
    if result.notice:
        _console.print(result.notice, markup=False)


@app.command()
def detect(file: Annotated[Path, typer.Argument(help="An audio file.", exists=True, dir_okay=False)]) -> None:
    """Tell whether speech in a file carries the watermark of this server's key; exit code 0 if it does, 1 if not."""
    from avatar.core.watermark import THRESHOLD

    chosen = settings.load()
    found = asyncio.run(_mark_in(file, chosen))
    is_marked = found > THRESHOLD
    word = "marked" if is_marked else "no mark found"
    _console.print(f"{file.name}: {word} (score {found:.1f}, marked above {THRESHOLD:g})", markup=False)
    if not is_marked:
        raise typer.Exit(1)


async def _mark_in(file: Path, chosen: Settings) -> float:
    from avatar.core.audio import INPUT_RATE_HZ
    from avatar.core.watermark import score as mark_score
    from avatar.media.decoder import DecoderPool

    decoder = DecoderPool(1, chosen.media.timeout_s, chosen.media.memory_bytes)
    await decoder.start()
    try:
        pcm = await decoder.decode(await asyncio.to_thread(file.read_bytes), max_s=_DETECT_MAX_S)
    except BadAudio as error:
        raise SetupError(f"{file.name} cannot be read: {error}") from None
    finally:
        await decoder.aclose()
    return mark_score(pcm, INPUT_RATE_HZ, chosen.voices.watermark_key)


async def _profiles(chosen: Settings) -> list[VoiceProfile]:
    from avatar.store import Store

    store = await Store.open(chosen.data_dir)
    try:
        return await store.voices.all()
    finally:
        await store.aclose()
