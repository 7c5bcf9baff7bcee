"""Voice to voice over `/v1/realtime` against `/ws/chat`: the same questions, in turn, to one server in one run.

    python benchmarks/realtime.py FOLDER [SECONDS]        writes FOLDER/DATE-realtime.md; 150 seconds if not told

A real server with the default engines. Both callers keep their sessions open, send room noise between questions, and
cut each answer after half a second of it.
"""

import asyncio
import datetime
import itertools
import platform
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import aiohttp
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.load.caller import Answer, Caller  # noqa: E402
from tests.load.latency import summary  # noqa: E402
from tests.load.questions import spoken_questions  # noqa: E402
from tests.load.realtime_caller import RealtimeCaller  # noqa: E402
from tests.load.server import running_server  # noqa: E402

Pairs = list[tuple[Answer, Answer]]
Stages = dict[bool, dict[str, list[float]]]

HEAR_S = 0.5
STAGES = ("endpoint_ms", "stt_ms", "llm_ttft_ms", "first_clause_ms", "tts_ttfa_ms", "voice_to_voice_ms")
BREATH_S = 0.7


async def measure(seconds: float) -> tuple[Pairs, list[float], Stages]:
    """Pairs of answers to the same question (over `/ws/chat`, over `/v1/realtime`), how late the callers were, and
    where the server says that the time went."""
    questions = itertools.cycle(await spoken_questions())
    pairs: Pairs = []
    async with running_server(2) as (url, _):
        realtime_url = url.replace("/ws/chat", "/v1/realtime")
        async with (
            Caller(url, hear_s=HEAR_S, seed=1) as chat,
            RealtimeCaller(realtime_url, hear_s=HEAR_S, seed=2) as realtime,
        ):
            callers: tuple[Caller, Caller] = (chat, realtime)
            deadline_s = time.monotonic() + seconds
            while time.monotonic() < deadline_s:
                question, answers = next(questions), {}
                for caller in callers if len(pairs) % 2 else reversed(callers):  # who is first alternates, too
                    answers[caller] = await caller.ask(question)
                    await asyncio.sleep(BREATH_S)
                pairs.append((answers[chat], answers[realtime]))
                print(
                    *(f"{a.voice_to_voice_ms or 0:.0f} ms {a.transcript!r}" for a in pairs[-1]), sep=" | ", flush=True
                )
            lateness_s = chat.lateness_s + realtime.lateness_s
        return pairs, lateness_s, await stages(url, chat.ready["conversation_id"])


async def stages(url: str, chat_id: str) -> Stages:
    """Where the time of each turn went, by the server's own trace; True: of the conversation over `/ws/chat`."""
    base = url.replace("ws:", "http:").replace("/ws/chat", "/api/conversations")
    found: Stages = {True: defaultdict(list), False: defaultdict(list)}
    async with aiohttp.ClientSession() as http:
        for conversation in (await (await http.get(base)).json())["items"]:
            for turn in (await (await http.get(f"{base}/{conversation['id']}")).json())["turns"]:
                for name, value in turn["timings"].items():
                    if value is not None:
                        found[conversation["id"] == chat_id][name].append(value)
    return found


def page(pairs: Pairs, lateness_s: list[float], traced: Stages) -> str:
    """The results, for people."""
    good = [(a.voice_to_voice_ms, b.voice_to_voice_ms) for a, b in pairs]
    both = [(a, b) for a, b in good if a is not None and b is not None]
    errors = [error for pair in pairs for answer in pair for error in answer.errors]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        f"# Voice to voice over `/v1/realtime` and `/ws/chat` ({datetime.date.today()})",
        "",
        f"Commit {commit.strip()}, {platform.machine()}, the default engines (no GPU). The same caller asks both in",
        "turn, in one run against one server; over `/v1/realtime` it sends 24 kHz, and the rules for turns",
        "(`semantic_vad`) are those of `/ws/chat`.",
        "",
        "    python benchmarks/realtime.py benchmarks/results",
        "",
        "| voice to voice, ms | n | p50 | p95 | max |",
        "|---|---|---|---|---|",
    ]
    for name, values in (
        ("`/ws/chat`", [a for a, _ in both]),
        ("`/v1/realtime`", [b for _, b in both]),
        ("the latter less the former, question by question", [b - a for a, b in both]),
        ("lateness of the callers' own clock", [late * 1000 for late in lateness_s]),
    ):
        told = summary(values)
        lines.append(f"| {name} | {told['n']:.0f} | {told['p50']:.1f} | {told['p95']:.1f} | {told['max']:.1f} |")
    lines += ["", "| by the server's trace, p50 in ms | `/ws/chat` | `/v1/realtime` |", "|---|---|---|"]
    for name in STAGES:
        values = traced[True][name]
        lines.append(f"| `{name}` | {np.median(values):.1f} | {np.median(traced[False].get(name, [np.nan])):.1f} |")
    spread = np.median([[b - a for a, b in (both[i] for i in draw)] for draw in _draws(len(both))], axis=1)
    low, high = np.percentile(spread, [2.5, 97.5])
    lines += ["", f"The median of the differences lies between {low:.1f} and {high:.1f} ms (bootstrap, 95 %)."]
    lines += [f"Errors: {', '.join(errors) if errors else 'none'}."]
    return "\n".join(lines) + "\n"


def _draws(count: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(0, count, (2000, count)).tolist()  # type: ignore[no-any-return]


def main() -> None:
    folder = Path(sys.argv[1])
    told = page(*asyncio.run(measure(float(sys.argv[2]) if len(sys.argv) > 2 else 150.0)))
    (folder / f"{datetime.date.today()}-realtime.md").write_text(told)
    print(told)


if __name__ == "__main__":
    main()
