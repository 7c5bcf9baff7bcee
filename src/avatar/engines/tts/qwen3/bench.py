"""The speed suite: how soon, how fast and for how many. Needs torch, safetensors, tokenizers and numpy, nothing else.

Utterances are of a fixed length, their end masked: random weights never stop sensibly, and dense arithmetic takes as
long whatever the values. All times are those of a caller in the event loop, from `push_text` to PCM in its hands.
"""

import asyncio
import platform
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar.engines.tts.qwen3.checkpoint import read_checkpoint
from avatar.engines.tts.qwen3.config import CODE_GROUPS, Sampling
from avatar.engines.tts.qwen3.engine import Engine, Options
from avatar.engines.tts.qwen3.scheduler import FRAME_S
from avatar.engines.tts.qwen3.speech import Packet

TEXT = "The quick brown fox jumps over the lazy dog, and then it does so again. "
Row = dict[str, float | int | str]


@dataclass(frozen=True)
class Plan:
    """What is measured. `audio_s`: of each stream; streams begin within `spread_s`; `arrivals_hz`: sessions a second
    in the open loop."""

    streams: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    audio_s: float = 60.0
    spread_s: float = 1.0
    probes: int = 30
    rtf_frames: int = 125
    arrivals_hz: tuple[float, ...] = (1, 5, 10, 20)
    arrivals_s: float = 20.0
    arrival_audio_s: float = 5.0
    seed: int = 0


@dataclass
class Findings:
    """What was found; rows are one measurement each."""

    machine: dict[str, str]
    engine: str
    load_s: float
    start_s: float
    capture_s: float
    floor_gb_per_frame: float
    plan: Plan
    throughput: list[Row] = field(default_factory=list)
    streams: list[Row] = field(default_factory=list)
    arrivals: list[Row] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Heard:
    """One utterance as its listener had it."""

    first_s: float = 0.0
    queue_s: float = 0.0
    make_s: float = 0.0
    frames: int = 0
    late: int = 0
    latest_s: float = 0.0
    """The longest that playback had to wait."""
    cancel_s: float = 0.0


SMALL = Plan(
    streams=(1, 4), audio_s=1.0, probes=3, rtf_frames=10, arrivals_hz=(2,), arrivals_s=1.0, arrival_audio_s=0.5
)
"""Enough to see that everything runs."""


def load(
    folder: Path, options: Options, device: torch.device, dtype: torch.dtype, *, fp8: bool = False
) -> tuple[Engine, float]:
    """An engine that is not started, and how long its weights took to load. `fp8`: its layers in 8 bits."""
    began_s = time.perf_counter()
    positions = options.limits.max_positions
    checkpoint = read_checkpoint(folder, device=device, dtype=dtype, max_positions=positions)
    if fp8:
        checkpoint = checkpoint.in_8_bits()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Engine(checkpoint, options), time.perf_counter() - began_s


async def measure(
    engine: Engine, load_s: float, plan: Plan, say: Callable[[str], None] = lambda line: None
) -> Findings:
    """Start the engine, run the plan on it, close it. `say` is told each row as it is found."""
    report = await asyncio.to_thread(engine.start)
    findings = Findings(
        machine=machine(),
        engine=str(report),
        load_s=load_s,
        start_s=report.start_s,
        capture_s=report.capture_s,
        floor_gb_per_frame=frame_bytes(engine) / 1e9,
        plan=plan,
    )

    async def note(rows: list[Row], work: Awaitable[Row]) -> None:
        rows.append(await work)
        say(str(rows[-1]))

    try:
        await _listen(engine, 4, paced=False)  # what is made on first use
        for streams in plan.streams:
            await note(findings.throughput, _throughput(engine, streams, plan))
        for streams in plan.streams:
            await note(findings.streams, _streams(engine, streams, plan))
        for rate_hz in plan.arrivals_hz:
            await note(findings.arrivals, _arrivals(engine, rate_hz, plan))
    finally:
        await asyncio.to_thread(engine.close)
    return findings


async def _listen(engine: Engine, frames: int, *, paced: bool, seed: int = 0, stop_after: int = 0) -> _Heard:
    """One utterance, played as it comes: audio is late when it comes after all before it has been played."""
    voice = next(iter(engine.checkpoint.config.speakers), None)
    sampling = Sampling(max_frames=frames)
    heard, began_s, plays_until_s = _Heard(), time.monotonic(), 0.0
    session = engine.open(voice, "english", sampling=sampling, seed=seed, end="never", paced=paced)
    session.push_text(TEXT)
    session.end_text()
    async for packet in session:
        now_s = time.monotonic()
        if not heard.frames:
            _note_first(heard, packet, now_s - began_s)
            plays_until_s = now_s
        elif now_s > plays_until_s:
            heard.late += 1
            heard.latest_s = max(heard.latest_s, now_s - plays_until_s)
        plays_until_s = max(plays_until_s, now_s) + packet.frames * FRAME_S
        heard.frames += packet.frames
        if stop_after and heard.frames >= stop_after:
            cancelled_s = time.monotonic()
            session.cancel()
            async for _ in session:  # what was on its way
                pass
            heard.cancel_s = time.monotonic() - cancelled_s
            break
    return heard


def _note_first(heard: _Heard, packet: Packet, first_s: float) -> None:
    times = packet.timings
    heard.first_s, heard.queue_s, heard.make_s = (
        first_s,
        times.admitted_s - times.text_s,
        times.ready_s - times.admitted_s,
    )


async def _throughput(engine: Engine, streams: int, plan: Plan) -> Row:
    """All at full speed: what a frame costs."""
    before = await engine.stats()
    began_s = time.perf_counter()
    heard = await asyncio.gather(
        *(_listen(engine, plan.rtf_frames, paced=False, seed=plan.seed + n) for n in range(streams))
    )
    took_s = time.perf_counter() - began_s
    frames = sum(one.frames for one in heard)
    ticks = (await engine.stats())["ticks"] - before["ticks"]
    frame_ms = took_s / plan.rtf_frames * 1000
    return {
        "streams": streams,
        "ms a frame of all": round(frame_ms, 2),
        "ms a tick": round(took_s / max(ticks, 1) * 1000, 2),
        "RTF": round(took_s / (plan.rtf_frames * FRAME_S), 4),
        "audio s a second": round(frames * FRAME_S / took_s, 1),
        "weights GB/s": round(frame_bytes(engine) / 1e9 / (frame_ms / 1000), 1),
    }


async def _streams(engine: Engine, streams: int, plan: Plan) -> Row:
    """All but one in real time from one end to the other, and beside them one utterance after the other."""
    frames, chance = int(plan.audio_s / FRAME_S), random.Random(plan.seed)
    others = [
        asyncio.create_task(_after(chance.uniform(0, plan.spread_s), _listen(engine, frames, paced=True, seed=n)))
        for n in range(streams - 1 or 1)
    ]
    await asyncio.sleep(plan.spread_s if streams > 1 else 0.0)
    if streams == 1:
        await others[0]  # alone, from one end to the other; then the probes alone
    probes = [await _listen(engine, 50, paced=True, seed=1000 + n, stop_after=2) for n in range(plan.probes)]
    heard = await asyncio.gather(*others)
    firsts, cancels = ([getattr(one, name) * 1000 for one in probes] for name in ("first_s", "cancel_s"))
    return {
        "streams": streams,
        "first p50 ms": _percentile(firsts, 50),
        "first p95 ms": _percentile(firsts, 95),
        "first p99 ms": _percentile(firsts, 99),
        "queue p50 ms": _percentile([one.queue_s * 1000 for one in probes], 50),
        "make p50 ms": _percentile([one.make_s * 1000 for one in probes], 50),
        "cancel p95 ms": _percentile(cancels, 95),
        "late packets": sum(one.late for one in heard),
        "streams with an underrun": sum(one.late > 0 for one in heard),
        "longest gap ms": round(max(one.latest_s for one in heard) * 1000, 1),
    }


async def _arrivals(engine: Engine, rate_hz: float, plan: Plan) -> Row:
    """Sessions that come when they come (Poisson), whether or not those before them are done."""
    chance = random.Random(plan.seed)
    tasks: list[asyncio.Task[_Heard]] = []
    frames, most = int(plan.arrival_audio_s / FRAME_S), 0
    until_s = time.monotonic() + plan.arrivals_s
    while time.monotonic() < until_s:
        tasks.append(asyncio.create_task(_listen(engine, frames, paced=True, seed=len(tasks))))
        most = max(most, sum(not task.done() for task in tasks))
        await asyncio.sleep(chance.expovariate(rate_hz))
    heard = await asyncio.gather(*tasks)
    firsts = [one.first_s * 1000 for one in heard]
    return {
        "sessions a second": rate_hz,
        "sessions": len(heard),
        "most at once": most,
        "first p50 ms": _percentile(firsts, 50),
        "first p95 ms": _percentile(firsts, 95),
        "sessions with an underrun": sum(one.late > 0 for one in heard),
    }


async def _after(wait_s: float, work: Awaitable[_Heard]) -> _Heard:
    await asyncio.sleep(wait_s)
    return await work


def _percentile(values: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 1) if values else 0.0


def frame_bytes(engine: Engine) -> float:
    """Weights that a frame of one stream cannot but read: the talker once, the predictor 15 times."""
    config, model, others = engine.checkpoint.config, engine.checkpoint, CODE_GROUPS - 1
    heads = config.talker.hidden * config.codec_vocab + others * config.predictor.hidden * config.code_vocab
    layers = model.talker.transformer.matrix_bytes + others * model.predictor.transformer.matrix_bytes
    return layers + heads * model.talker.codec_embedding.element_size()


def verdict(findings: Findings) -> dict[str, Row]:
    """What the engine is for, with what it must do and what it aims at on one H200 (0.6B)."""
    levels = {int(row["streams"]): row for row in findings.streams}
    alone, sixteen = levels.get(1, {}), levels.get(16, {})
    fast = next((row for row in findings.throughput if row["streams"] == 1), {})
    smooth = 0
    for level, row in sorted(levels.items()):
        if row["streams with an underrun"]:
            break
        smooth = level
    start_s = round(findings.load_s + findings.start_s, 1)
    return {
        "text in to first PCM out, batch 1, p50 ms": _held(alone.get("first p50 ms"), 50, 30),
        "the same, p95 ms": _held(alone.get("first p95 ms"), 80, 50),
        "the same at 16 streams, p95 ms": _held(sixteen.get("first p95 ms"), 150, 80),
        "RTF, batch 1": _held(fast.get("RTF"), 0.20, 0.08),
        "streams in real time with no underrun": _held(smooth, 32, 128, more=True),
        "cancel to the end of the session, p95 ms, and a tick": {
            "found": f"{alone.get('cancel p95 ms', '?')}, {fast.get('ms a tick', '?')}"
        },
        "start: load and capture, s": _held(start_s, 60, 20),
    }


def _held(found: float | str | None, must: float, aim: float, *, more: bool = False) -> Row:
    if found is None:
        return {"found": "not measured", "must": must, "aim": aim}
    value = float(found)
    met = [value >= bound if more else value <= bound for bound in (must, aim)]
    reached = "aim" if met[1] else "must" if met[0] else "neither"
    return {"found": value, "must": must, "aim": aim, "reached": reached}


def machine() -> dict[str, str]:
    """What it ran on, as far as can be said in a report."""
    found = {"torch": torch.__version__, "python": platform.python_version(), "processor": platform.machine()}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu memory": f"{properties.total_memory / 2**30:.0f} GiB"}
        found["cuda"] = str(torch.version.cuda)
    return found


def as_markdown(findings: Findings) -> str:
    """The findings as a page."""
    about = ", ".join(f"{name} {value}" for name, value in findings.machine.items())
    lines = [
        f"Machine: {about}. Engine: {findings.engine}.",
        f"Weights loaded in {findings.load_s:.1f} s; start (allocation, capture) {findings.start_s:.1f} s, of which"
        f" capture {findings.capture_s:.1f} s. A frame reads {findings.floor_gb_per_frame:.2f} GB of weights.",
    ]
    for title, rows in (
        ("At full speed", findings.throughput),
        (f"In real time, {findings.plan.audio_s:g} s each", findings.streams),
        (f"Arrivals, {findings.plan.arrival_audio_s:g} s each", findings.arrivals),
    ):
        if rows:
            lines += ["", f"**{title}**", "", f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
            lines += [f"| {' | '.join(str(value) for value in row.values())} |" for row in rows]
    return "\n".join(lines) + "\n"
