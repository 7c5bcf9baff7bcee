"""`avatar bench`: how fast an engine is on this machine. Owns words and files; the measuring is done elsewhere."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from avatar.core.errors import SetupError

if TYPE_CHECKING:
    from avatar.engines.tts.devices import Device
    from avatar.engines.tts.qwen3.bench import Plan
    from avatar.engines.tts.qwen3.engine import Options

N = TypeVar("N", int, float)

app = typer.Typer(help="Measure an engine on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure an engine on this machine."""


@app.command()
def qwen3(
    model: Annotated[
        Path | None, typer.Option(help="A Qwen3-TTS folder; default: random weights of full size.")
    ] = None,
    size: Annotated[Literal["0.6b", "1.7b"], typer.Option(help="Size of the random weights.")] = "0.6b",
    streams: Annotated[
        str, typer.Option(help="Streams at the same time, one level after the other.")
    ] = "1,4,8,16,32,64",
    audio_s: Annotated[float, typer.Option(help="Seconds of audio of each stream.")] = 60.0,
    probes: Annotated[int, typer.Option(help="Utterances whose first audio is timed, at each level.")] = 30,
    arrivals: Annotated[str, typer.Option(help="Sessions a second in the open loop; empty: none.")] = "1,5,10,20",
    device: Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="auto: a GPU if there is one.")] = "auto",
    kernels: Annotated[
        Literal["auto", "torch", "compiled", "triton"], typer.Option(help="Of the small operations; auto: the fastest.")
    ] = "auto",
    attention: Annotated[Literal["auto", "sdpa", "flash", "triton"], typer.Option(help="auto: the fastest.")] = "auto",
    fp8: Annotated[bool, typer.Option(help="The language layers in 8 bits.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for qwen3.json and qwen3.md.")] = Path("qwen3-results"),
) -> None:
    """Qwen3-TTS: time to first audio, real-time factor, underruns, cancellation, load and capture."""
    try:
        from avatar.engines.tts.qwen3.bench import Plan
        from avatar.engines.tts.qwen3.engine import Options
    except ImportError as error:
        raise SetupError(f"This needs torch: pip install 'avatar-voice[qwen3]' ({error.name} is missing).") from None
    levels = _numbers(streams, int)
    rates, frames = _numbers(arrivals, float), _rtf_frames(audio_s)
    plan = Plan(streams=levels, audio_s=audio_s, probes=probes, rtf_frames=frames, arrivals_hz=rates)
    if not levels or min(levels) < 1 or audio_s <= 0:
        raise SetupError("--streams and --audio-s must be above zero.")
    out.mkdir(parents=True, exist_ok=True)
    chosen = Options(kernels=kernels, attention=attention)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        if model is None:
            from avatar.engines.tts.qwen3.made import make_model

            typer.echo(f"Making random weights of full size ({size})")
            model = make_model(Path(scratch), size)
        _run(model, chosen, plan, device, out, fp8=fp8)


@app.command()
def f5(
    model: Annotated[Path | None, typer.Option(help="An F5-TTS folder; default: made weights of full size.")] = None,
    steps: Annotated[int, typer.Option(min=4, max=64, help="Steps of a clause.")] = 32,
    reference_s: Annotated[float, typer.Option(min=1, max=20, help="Length of the recording to speak like.")] = 6.0,
    texts: Annotated[
        list[str] | None, typer.Option("--text", help="Clauses to speak, one after the other; default: a short one.")
    ] = None,
    device: Annotated[Literal["auto", "cuda", "cpu"], typer.Option(help="auto: a GPU if there is one.")] = "auto",
) -> None:
    """F5-TTS: how long a clause takes to be made, and how long it lasts."""
    try:
        from avatar.engines.tts.f5.bench import measure
    except ImportError as error:
        raise SetupError(f"This needs torch: pip install 'avatar-voice[f5]' ({error.name} is missing).") from None
    from avatar.engines.tts.checkpoints import CheckpointError

    try:
        with tempfile.TemporaryDirectory() as scratch:
            measure(model, Path(scratch), tuple(texts or ()), steps, reference_s, device, typer.echo)
    except CheckpointError as error:
        raise SetupError(str(error)) from error


def _run(model: Path, chosen: "Options", plan: "Plan", device: "Device", out: Path, *, fp8: bool) -> None:
    import torch

    from avatar.engines.tts.checkpoints import CheckpointError
    from avatar.engines.tts.devices import choose_device
    from avatar.engines.tts.qwen3 import bench as suite
    from avatar.engines.tts.qwen3.ticks import Limits

    where = choose_device(device)
    on_gpu = where.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    options = replace(chosen, limits=Limits(slots=max(plan.streams) + 1, max_positions=2048 if on_gpu else 1024))
    try:
        engine, load_s = suite.load(model, options, where, dtype, fp8=fp8)
        findings = asyncio.run(suite.measure(engine, load_s, plan, typer.echo))
    except (CheckpointError, ValueError) as error:
        raise SetupError(str(error)) from error
    (out / "qwen3.json").write_text(json.dumps(findings.as_json(), indent=1), encoding="utf-8")
    page = suite.as_markdown(findings)
    (out / "qwen3.md").write_text(page, encoding="utf-8")
    typer.echo(page)


def _rtf_frames(audio_s: float) -> int:
    """Ten seconds' worth, or less where little is asked for."""
    from avatar.engines.tts.qwen3.scheduler import FRAME_S

    return max(2, min(125, int(audio_s / FRAME_S)))


def _numbers(text: str, kind: Callable[[str], N]) -> tuple[N, ...]:
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise SetupError(f"{text!r} is no list of numbers: separate them by commas.") from None
