"""The embedded default, measured: how long people wait, what listening costs, how memory grows, how fast it starts.

    python benchmarks/embedded.py FOLDER        about seven minutes; writes FOLDER/DATE-embedded.md and .json

Each scenario is a run of `scripts/load_test.py` against a server of its own, from outside, at the wire. Judge a figure
with the load beside it: the machine's own noise is written into the result.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]

SCENARIOS = {
    "one caller, live": ["--callers", "1", "--seconds", "90", "--interval", "6", "--hear", "1.5"],
    "one caller, push to talk": ["--callers", "1", "--seconds", "45", "--mode", "push_to_talk", "--hear", "1.5"],
    "five callers, live, a question each every 10 s": ["--callers", "5", "--seconds", "60", "--interval", "10"],
    "five sessions that listen": ["--callers", "5", "--seconds", "30", "--listen"],
    "200 rounds of connect, talk, leave": ["--callers", "5", "--churn", "40", "--hear", "0.3"],
}


def load_test(arguments: list[str]) -> Result:
    """One scenario's report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, str(ROOT / "scripts/load_test.py"), "--serve", *arguments, "--json", str(report)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        result: Result = json.loads(report.read_text())
    result.get("server", {}).pop("samples", None)
    return result


def start_s() -> float:
    """From the command to `/readyz` saying yes, everything installed and fetched."""
    with tempfile.TemporaryDirectory() as data_dir:
        environment = os.environ | {"AVATAR_DATA_DIR": data_dir, "AVATAR_SERVER__PORT": "8975"}
        began = time.monotonic()
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "run_server.py")],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while time.monotonic() - began < 60:
                with suppress(urllib.error.URLError), urllib.request.urlopen("http://127.0.0.1:8975/readyz"):
                    return time.monotonic() - began
                time.sleep(0.02)
            return float("nan")
        finally:
            server.terminate()
            server.wait()


def line(name: str, result: Result) -> str:
    """A row of the latency table."""
    latency = result["latency_ms"]
    stages = ("voice_to_voice", "endpoint", "stt", "llm_ttft", "tts_ttfa")
    cells = [_p50_p95(latency.get(stage)) for stage in stages]
    answered = f"{result['answered']}/{result['questions']}, {sum(result['errors'].values())}"
    return f"| {name} | {' | '.join(cells)} | {answered} |"


def _p50_p95(summary: Result | None) -> str:
    return f"{summary['p50']:.0f} / {summary['p95']:.0f}" if summary and summary["n"] else "–"


def text(results: dict[str, Result], starts_s: list[float], load: tuple[float, ...]) -> str:
    """The result as a page."""
    some = next(iter(results.values()))
    rows = [line(name, result) for name, result in results.items() if result["questions"]]
    listening = results["five sessions that listen"]["per_session"]
    rss_mib = [
        round(rss / 2**20) for rss in results["200 rounds of connect, talk, leave"]["churn"]["rss_bytes_after_round"]
    ]
    return "\n".join(
        [
            f"# The embedded default ({some['date'][:10]})",
            "",
            f"Machine: {platform.machine()}, {os.cpu_count()} cores, no GPU, {platform.system()}, "
            f"Python {platform.python_version()}. Load average before and after: {load[0]:.1f}, {load[1]:.1f}.",
            f"Commit {some['commit']}.",
            f"Engines: {', '.join(some['engines'].values())}. Command: `python benchmarks/embedded.py`.",
            "",
            "Milliseconds, p50 / p95. Voice to voice is taken at the wire: last sample of speech to first audible one.",
            "",
            "| scenario | voice to voice | endpoint | STT | LLM, first token | TTS, first audio | answered, errors |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"A listening session (20 ms frames of room noise): {listening['cpu_percent']:.2f} % of a core, "
            f"{listening['rss_bytes'] / 2**20:.2f} MiB.",
            "",
            "Memory of the server and its decoder processes, MiB, after 5, 50, 100, 150 and 200 sessions: "
            f"{', '.join(str(rss_mib[done]) for done in (0, 9, 19, 29, 39))}; {rss_mib[-1] / rss_mib[0] - 1:+.1%}.",
            "",
            f"Start to ready, everything in place: {', '.join(f'{seconds:.1f} s' for seconds in starts_s)}",
            "",
        ]
    )


def main(folder: Path) -> None:
    before = os.getloadavg()[0]
    starts_s = [start_s() for _ in range(3)]
    results = {}
    for name, arguments in SCENARIOS.items():
        print(name, flush=True)
        results[name] = load_test(arguments)
    page = text(results, starts_s, (before, os.getloadavg()[0]))
    stem = f"{datetime.date.today()}-embedded"
    (folder / f"{stem}.md").write_text(page)
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1))
    print(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
