"""What a load test found: figures, limits, and the text, JSON and HTML reports. Knows no server and no clock.

`result` makes the JSON report's object; everything else is made from that object.
"""

import argparse
import base64
import datetime
import io
import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from tests.load.caller import Answer, Caller
from tests.load.latency import summary
from tests.load.server import Usage

ROOT = Path(__file__).resolve().parents[1]

LATENCIES = {
    "voice_to_voice": "voice to voice, at the wire",
    "endpoint": "of that: finding the end of the turn",
    "stt": "of that: speech to text",
    "llm_ttft": "of that: LLM, to its first token",
    "tts_ttfa": "of that: speech, to its first audio",
    "own": "of that: in AVATAR's own code",
    "server_voice_to_voice": "voice to voice, as the server counts",
}
"""Key in the report to words. The first is the callers' own measurement, the rest `metrics` of `reply.done`."""

LATE_MS = 20.0
"""Callers whose 20 ms ticks come later than this measure themselves."""


@dataclass
class Run:
    """What happened: each answer with its caller and its time, and everything that went wrong."""

    scenario: str
    started_s: float = field(default_factory=time.monotonic)
    answers: list[tuple[int, float, Answer]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    lateness_s: list[float] = field(default_factory=list)
    engines: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def took(self, caller: Caller) -> None:
        """Keep what a caller counted, at the end of its call."""
        self.errors += caller.errors
        self.lateness_s += caller.lateness_s
        self.engines = caller.ready.get("engines", {})

    def answered(self, index: int, answer: Answer) -> None:
        """Keep an answer."""
        self.answers.append((index, time.monotonic() - self.started_s, answer))


# --- figures ------------------------------------------------------------------------------------


def mean_usage(samples: Sequence[Usage]) -> Usage:
    """The middle of a period. Raises `ValueError` if nothing was sampled in it."""
    if not samples:
        raise ValueError("The server's process could not be watched.")
    count = len(samples)
    return Usage(
        sum(sample.at_s for sample in samples) / count,
        sum(sample.rss_bytes for sample in samples) // count,
        sum(sample.cpu_percent for sample in samples) / count,
    )


def per_session(before: Usage, during: Usage, sessions: int) -> dict[str, float]:
    """What one of `sessions` sessions added."""
    count = max(sessions, 1)
    return {
        "sessions": sessions,
        "cpu_percent": (during.cpu_percent - before.cpu_percent) / count,
        "rss_bytes": (during.rss_bytes - before.rss_bytes) / count,
    }


def growth(rss_bytes: Sequence[int], callers: int) -> dict[str, Any]:
    """Memory after each round; the first round warms the server up and counts for nothing."""
    rounds = max(len(rss_bytes) - 1, 1)
    return {
        "rss_bytes_after_round": list(rss_bytes),
        "rss_growth_bytes_per_session": (rss_bytes[-1] - rss_bytes[0]) / rounds / callers,
    }


def failures(result: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """The limits that were exceeded, in words. Latencies that nobody could take exceed every limit."""
    found = []
    measured = result["latency_ms"]["voice_to_voice"]
    for rank, limit_ms in (("p50", options.max_v2v_p50_ms), ("p95", options.max_v2v_p95_ms)):
        if limit_ms is not None and not measured.get(rank, float("inf")) <= limit_ms:
            found.append(f"voice to voice {rank} is {measured.get(rank, 'unknown')} ms; the limit is {limit_ms:g} ms")
    errors = sum(result["errors"].values())
    if errors > options.max_errors:
        found.append(f"{errors} errors; the limit is {options.max_errors}")
    if result["scenario"] != "listen" and not result["answered"]:
        found.append("no question was answered")
    return found


def result(run: Run, options: argparse.Namespace, samples: Sequence[Usage]) -> dict[str, Any]:
    """The whole report as plain data. It holds no text of what was said."""
    turns = [_turn(index, at_s, answer) for index, at_s, answer in run.answers]
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    made: dict[str, Any] = {
        "scenario": run.scenario,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"name": platform.node(), "system": platform.platform(), "cores": os.cpu_count()},
        "settings": settings,
        "engines": run.engines,
        "questions": len(turns),
        "answered": sum(turn["voice_to_voice_ms"] is not None for turn in turns),
        "latency_ms": {key: _summary_of(turns, f"{key}_ms") for key in LATENCIES},
        "gaps_in_replies_ms": summary([turn["gaps_ms"] for turn in turns]),
        "callers_lateness_ms": summary([lateness_s * 1000 for lateness_s in run.lateness_s]),
        "errors": dict(sorted(run.errors.items())),
        "server": _server(samples),
        **run.extra,
        "turns": turns,
    }
    made["failures"] = failures(made, options)
    made["passed"] = not made["failures"]
    return made


def _turn(index: int, at_s: float, answer: Answer) -> dict[str, Any]:
    metrics = {key: value for key, value in answer.metrics.items() if key != "voice_to_voice_ms"}
    return {
        "caller": index,
        "at_s": at_s,
        "voice_to_voice_ms": answer.voice_to_voice_ms,
        "server_voice_to_voice_ms": answer.metrics.get("voice_to_voice_ms"),
        **metrics,
        "gaps_ms": answer.gaps_s * 1000,
        "status": answer.status,
        "errors": answer.errors,
    }


def _summary_of(turns: Sequence[Mapping[str, Any]], key: str) -> dict[str, float]:
    return summary([turn[key] for turn in turns if turn.get(key) is not None])


def _server(samples: Sequence[Usage]) -> dict[str, Any]:
    if not samples:
        return {}
    return {
        "cpu_percent": {
            "mean": mean_usage(samples).cpu_percent,
            "max": max(sample.cpu_percent for sample in samples),
        },
        "rss_bytes": {
            "first": samples[0].rss_bytes,
            "last": samples[-1].rss_bytes,
            "max": max(sample.rss_bytes for sample in samples),
        },
        "samples": [[round(sample.at_s, 2), sample.rss_bytes, round(sample.cpu_percent, 1)] for sample in samples],
    }


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


# --- reports ------------------------------------------------------------------------------------


def rows(made: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The report as a table of words and figures."""
    lines = [
        ("scenario", f"{made['scenario']}, {made['settings']['callers']} callers, {made['settings']['mode']}"),
        ("when and what", f"{made['date']}, commit {made['commit'] or 'unknown'}"),
        ("machine", f"{made['machine']['name']}, {made['machine']['cores']} cores, {made['machine']['system']}"),
        ("engines", ", ".join(f"{stage} {name}" for stage, name in made["engines"].items()) or "unknown"),
        ("questions", f"{made['questions']}, answered {made['answered']}"),
    ]
    measured = {words: made["latency_ms"][key] for key, words in LATENCIES.items()}
    measured["silent gaps inside a reply"] = made["gaps_in_replies_ms"]
    measured["lateness of the callers' own clock"] = made["callers_lateness_ms"]
    lines += [(words, _figures(figures)) for words, figures in measured.items() if figures["n"]]
    lines.append(("errors", ", ".join(f"{code} {count}" for code, count in made["errors"].items()) or "none"))
    if server := made["server"]:
        cpu, rss = server["cpu_percent"], server["rss_bytes"]
        lines.append(("server CPU (one core is 100 %)", f"mean {cpu['mean']:.0f} %, max {cpu['max']:.0f} %"))
        megabytes = ", ".join(f"{name} {count / 1e6:.0f} MB" for name, count in rss.items())
        lines.append(("server memory (RSS)", megabytes))
    if cost := made.get("per_session"):
        lines.append(("one listening session", f"{cost['cpu_percent']:.2f} % CPU, {cost['rss_bytes'] / 1e6:.2f} MB"))
    if churn := made.get("churn"):
        lines.append(("memory left by a session", f"{churn['rss_growth_bytes_per_session'] / 1e3:.1f} kB"))
    if made["callers_lateness_ms"].get("p99", 0.0) > LATE_MS:
        lines.append(("warning", "the callers could not keep time: this machine is too busy to measure the server"))
    lines.append(("verdict", "; ".join(made["failures"]) or "within the limits"))
    return lines


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{rank} {figures[rank]:.0f} ms" for rank in ("p50", "p95", "p99", "max"))


def text(made: Mapping[str, Any]) -> str:
    """For the terminal."""
    return "\n".join(f"{words:38} {figures}" for words, figures in rows(made))


def json_text(made: Mapping[str, Any]) -> str:
    """For programs."""
    return json.dumps(made, indent=1) + "\n"


def html(made: Mapping[str, Any]) -> str:
    """For people: one file without anything from elsewhere."""
    cells = "\n".join(f"<tr><th>{escape(words)}<td>{escape(figures)}" for words, figures in rows(made))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Load test</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
th {{ text-align: left; font-weight: 600; padding-right: 2rem; white-space: nowrap; vertical-align: top }}
img {{ max-width: 100% }}
</style>
<h1>Load test: {"passed" if made["passed"] else "failed"}</h1>
<table>
{cells}
</table>
<img alt="Latency and server load over time" src="data:image/png;base64,{_plots(made)}">
</html>
"""


def _plots(made: Mapping[str, Any]) -> str:
    """Latency over time and as a distribution, CPU and memory over time; a PNG in base64."""
    from matplotlib.figure import Figure  # a second to import, and only the HTML report needs it

    figure = Figure(figsize=(11, 7), layout="constrained")
    (over_time, distribution), (cpu, memory) = figure.subplots(2, 2)
    points = [(turn["at_s"], turn["voice_to_voice_ms"]) for turn in made["turns"] if turn["voice_to_voice_ms"]]
    over_time.scatter([at_s for at_s, _ in points], [latency_ms for _, latency_ms in points], s=12)
    over_time.set(title="voice to voice", xlabel="s", ylabel="ms", ylim=(0, None))
    distribution.ecdf([latency_ms for _, latency_ms in points] or [0.0])
    distribution.set(title="share of answers within", xlabel="ms", xlim=(0, None))
    samples = made["server"].get("samples", [])
    cpu.plot([at_s for at_s, _, _ in samples], [percent for _, _, percent in samples])
    cpu.set(title="server CPU, one core is 100 %", xlabel="s", ylim=(0, None))
    memory.plot([at_s for at_s, _, _ in samples], [rss_bytes / 1e6 for _, rss_bytes, _ in samples])
    memory.set(title="server memory (RSS)", xlabel="s", ylabel="MB", ylim=(0, None))
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=90)
    return base64.b64encode(image.getvalue()).decode()
