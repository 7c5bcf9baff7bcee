"""Everything that is to be known of the engine on a device, in parts: parity, what could be faster, how fast it is.

Each part gives its rows one by one and may fail; whoever runs them keeps one from ending the others. Needs what the
engine needs.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar.engines.tts.qwen3 import bench, golden_cases, parity, variants
from avatar.engines.tts.qwen3.backends import AGREEMENT, Attention, Candidate, Form, candidates, distance
from avatar.engines.tts.qwen3.checkpoint import Checkpoint, read_checkpoint
from avatar.engines.tts.qwen3.engine import Engine, Options
from avatar.engines.tts.qwen3.graphs import Runner, process_settings
from avatar.engines.tts.qwen3.kernels import PLAIN, Kernels
from avatar.engines.tts.qwen3.scheduler import BUCKETS
from avatar.engines.tts.qwen3.ticks import Limits

Row = dict[str, Any]

GPU_WAV_BOUND = 1e-4
"""Of float32 on another kind of processor than the goldens were made on; on the CPU it is the goldens' own 2e-6."""
GRAPH_WAV_BOUND = 1e-5
SMALL_LIMITS = Limits(slots=8, max_positions=512, contexts=())
LEVELS = (1, 8, 16, 32, 64, 96, 128)
LARGE_BUCKETS = (*BUCKETS, 96, 128)
FORMS: tuple[Form, ...] = ("torch", "compiled", "triton")
SLOTS_SHARE = 0.5  # of the free GPU memory


@dataclass(frozen=True)
class Setting:
    """What to run on. `model` None: the golden sets' tiny model, and little of everything."""

    goldens: Path
    device: torch.device
    model: Path | None = None
    streams: tuple[int, ...] | None = None
    audio_s: float = bench.Plan.audio_s
    kernels: Form = "auto"
    attention: Attention = "auto"
    fp8: bool = False
    say: Callable[[str], None] = lambda line: None

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def scope(self) -> variants.Scope:
        if self.model is None:
            return variants.SMALL
        return variants.ON_CPU if self.device.type == "cpu" else variants.Scope()

    def checkpoint(self) -> Checkpoint:
        if self.model is None:
            return parity.golden_checkpoints(self.goldens, self.device, self.dtype)["custom"]
        return read_checkpoint(self.model, device=self.device, dtype=self.dtype, max_positions=2048)


# --- parity ----------------------------------------------------------------------------------------------------------


def goldens(setting: Setting) -> Iterator[Row]:
    """The model's parts on the CPU, in float32, against the official package."""
    made = golden_cases.golden_outputs(setting.goldens)
    off = list(golden_cases.differences(made, golden_cases.read_golden(setting.goldens)))
    yield _check("parts on the CPU, float32, against the official package", not off, "; ".join(off) or "equal")


def tick_loop(setting: Setting, dtype: torch.dtype) -> Iterator[Row]:
    """The tick loop on this device: float32 against the official package, everything else against eager torch."""
    golden, device = golden_cases.read_golden(setting.goldens), setting.device
    on_gpu = device.type == "cuda"
    for kind, model in parity.golden_checkpoints(setting.goldens, device, dtype).items():
        name = f"{kind}, {str(dtype).removeprefix('torch.')}"
        speak = partial(_speak, setting, kind, model)
        eager = speak(PLAIN, graphs=False)
        if dtype == torch.float32:
            found = list(parity.differences(eager, golden))
            wrong, far = sum(row[1] for row in found), max(row[2] for row in found)
            bound = GPU_WAV_BOUND if on_gpu else golden_cases.BOUNDS["wav_first_10_frames"]
            yield _check(
                f"{name}: against the official package", not wrong and far <= bound,
                f"{wrong} codes differ, audio within {far:.2g}",
            )  # fmt: skip
        if on_gpu:
            yield _compared(f"{name}: CUDA graphs", partial(speak, PLAIN, graphs=True), eager)
        for candidate in _others(device, dtype):
            what = f"{name}: {candidate.name}"
            if candidate.kernels is None:
                yield {"checked": what, "holds": "not here", "found": candidate.why_not}
            elif dtype != torch.float32:  # rounding turns near-ties, and then all codes after them
                yield _agrees(what, model, candidate.kernels)
            else:
                yield _compared(what, partial(speak, candidate.kernels, graphs=on_gpu), eager)
        if on_gpu and dtype == torch.float32:
            rounded = speak(PLAIN, graphs=True, tf32=True)
            yield _check(f"{name}: TF32 convolutions", None, f"{snr_db(rounded, eager):.0f} dB from float32")


def _others(device: torch.device, dtype: torch.dtype) -> Iterator[Candidate]:
    """All that is not torch with SDPA."""
    for form in FORMS:
        for candidate in candidates(device, dtype, form, "auto"):
            if candidate.kernels != PLAIN:
                yield candidate


def _speak(
    setting: Setting, kind: str, model: Checkpoint, kernels: Kernels, *, graphs: bool, tf32: bool = False
) -> parity.Spoken:
    runner = Runner(setting.device, graphs=graphs)
    with process_settings(setting.device, tf32=tf32):
        spoken = parity.speak_cases(setting.goldens, kind, model, runner, kernels)
    if runner.failure:
        raise RuntimeError(runner.failure)
    return spoken


def _compared(what: str, made: Callable[[], parity.Spoken], eager: parity.Spoken) -> Row:
    try:
        ours = made()
    except Exception as error:  # a finding like any other
        return _check(what, False, variants.said(error))
    wrong = sum(_wrong(ours[name][0], codes) for name, (codes, _) in eager.items())
    far = max(_far(ours[name][1], pcm) for name, (_, pcm) in eager.items())
    return _check(
        what, not wrong and far <= GRAPH_WAV_BOUND, f"{wrong} codes differ from eager, audio within {far:.2g}"
    )


def _agrees(what: str, model: Checkpoint, kernels: Kernels) -> Row:
    try:
        off = distance(model, kernels)
    except Exception as error:  # as above
        return _check(what, False, variants.said(error))
    bound = AGREEMENT[model.talker.codec_embedding.dtype]
    return _check(what, off <= bound, f"a step is off by {off:.2g} of its size, bound {bound:g}")


def _wrong(ours: golden_cases.Array, theirs: golden_cases.Array) -> int:
    return int((ours != theirs).sum()) if ours.shape == theirs.shape else theirs.size


def _far(ours: golden_cases.Array, theirs: golden_cases.Array) -> float:
    size = min(len(ours), len(theirs))
    return golden_cases.largest_difference(ours[:size], theirs[:size])


def snr_db(ours: parity.Spoken, theirs: parity.Spoken) -> float:
    """Of the audio, over all cases whose codes are the same."""
    same = [name for name in theirs if np.array_equal(ours[name][0], theirs[name][0])]
    signal = sum(float((theirs[name][1].astype(np.float64) ** 2).sum()) for name in same)
    noise = sum(float(((ours[name][1].astype(np.float64) - theirs[name][1]) ** 2).sum()) for name in same)
    return 10 * float(np.log10(signal / max(noise, 1e-30)))


def _check(what: str, holds: bool | None, found: str) -> Row:
    """`holds` None: nothing is promised."""
    return {"checked": what, "holds": {True: "yes", False: "NO", None: "-"}[holds], "found": found}


# --- speed -----------------------------------------------------------------------------------------------------------


def kernels(setting: Setting, form: Form) -> Iterator[Row]:
    """A frame on one form of the small operations: how far off, and how fast."""
    with process_settings(setting.device, tf32=True):
        yield from variants.speaking(setting.checkpoint(), setting.scope, form)


def codec(setting: Setting) -> Iterator[Row]:
    """Forms of the codec's decoder."""
    yield from variants.decoding(setting.checkpoint(), setting.scope)


def eight_bits(setting: Setting) -> Iterator[Row]:
    """What layers in 8 bits save and cost."""
    with process_settings(setting.device, tf32=True):
        yield variants.in_8_bits(setting.checkpoint(), setting.scope)


def speed(setting: Setting) -> Iterator[Row]:
    """The whole engine; the last row is the issue's table."""
    if setting.model is None:
        engine, load_s, plan = Engine(setting.checkpoint(), Options(SMALL_LIMITS)), 0.0, bench.SMALL
    else:
        slots = _slots(setting)
        limits = Limits(slots=slots, buckets=LARGE_BUCKETS)
        options = Options(limits, kernels=setting.kernels, attention=setting.attention)
        engine, load_s = bench.load(setting.model, options, setting.device, setting.dtype, fp8=setting.fp8)
        levels = tuple(level for level in setting.streams or LEVELS if level <= slots)
        plan = dataclasses.replace(bench.Plan(), streams=levels, audio_s=setting.audio_s)
    findings = asyncio.run(bench.measure(engine, load_s, plan, setting.say))
    yield {"findings": findings.as_json(), "page": bench.as_markdown(findings)}
    yield from ({"number": name, **row} for name, row in bench.verdict(findings).items())


def _slots(setting: Setting) -> int:
    wanted = max(setting.streams or LEVELS)
    if setting.device.type == "cpu":
        return min(wanted, 8)
    free_bytes, _ = torch.cuda.mem_get_info(setting.device)
    slot_bytes = 28 * 2 * 8 * 128 * 2 * Limits.max_positions  # layers, keys and values, heads, width, bfloat16
    return max(1, min(wanted, int(free_bytes * SLOTS_SHARE) // slot_bytes))


PARTS: dict[str, Callable[[Setting], Iterator[Row]]] = {
    "goldens": goldens,
    "parity-fp32": partial(tick_loop, dtype=torch.float32),
    "parity-bf16": partial(tick_loop, dtype=torch.bfloat16),
    "kernels-torch": partial(kernels, form="torch"),
    "kernels-compiled": partial(kernels, form="compiled"),
    "kernels-triton": partial(kernels, form="triton"),
    "codec": codec,
    "fp8": eight_bits,
    "speed": speed,
}
WITHOUT_MODEL = {"goldens", "parity-fp32", "parity-bf16"}


# --- the page --------------------------------------------------------------------------------------------------------


def has_failed(part: Mapping[str, Any]) -> bool:
    """Whether it did not come to its end, or something does not hold."""
    return "failed" in part or any(row.get("holds") == "NO" for row in part["rows"])


def as_markdown(found: Mapping[str, Any]) -> str:
    """All that was found, part by part."""
    about = ", ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = ["# Qwen3-TTS", "", f"Machine: {about}."]
    for name, part in found["parts"].items():
        lines += ["", f"## {name}"]
        rows = [row for row in part.get("rows", []) if "page" not in row]
        lines += [f"\n{row['page'].rstrip()}" for row in part.get("rows", []) if "page" in row]
        if "failed" in part:
            lines += ["", f"**Failed:** {part['failed']}"]
        if rows:
            lines += ["", *_table(rows)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(str(row.get(column, '')) for column in columns)} |"
