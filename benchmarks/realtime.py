"""Voice to voice over `/v1/realtime` against `/ws/chat`: the same questions, in turn, to one server in one run.

    python benchmarks/realtime.py [SECONDS] [--fixed]        140 seconds if not told; prints what results/ has

A real server with the default engines; with `--fixed`, engines that always take the same time, so that what is left is
the two codecs' own difference. Both callers keep their sessions open, send room noise between questions, and cut each
answer after half a second of it.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.integration.serving import fake_engines, serving, settings_for  # noqa: E402
from tests.load.caller import Answer, Caller  # noqa: E402
from tests.load.latency import summary  # noqa: E402
from tests.load.questions import Question, spoken_questions  # noqa: E402
from tests.load.realtime_caller import RealtimeCaller  # noqa: E402
from tests.load.server import running_server  # noqa: E402
from tests.unit.conversation import Fakes, tone  # noqa: E402

Pairs = list[tuple[Answer, Answer]]
Stages = dict[bool, dict[str, list[float]]]

HEAR_S = 0.5
STAGES = ("endpoint_ms", "stt_ms", "llm_ttft_ms", "first_clause_ms", "tts_ttfa_ms", "voice_to_voice_ms")
BREATH_S = 0.7


async def measure(url: str, questions: Iterator[Question], seconds: float) -> tuple[Pairs, list[float], Stages]:
    """Pairs of answers to the same question (over `/ws/chat`, over `/v1/realtime`), how late the callers were, and
    where the server says that the time went."""
    pairs: Pairs = []
    async with (
        Caller(url, hear_s=HEAR_S, seed=1) as chat,
        RealtimeCaller(url.replace("/ws/chat", "/v1/realtime"), hear_s=HEAR_S, seed=2) as realtime,
    ):
        callers: tuple[Caller, Caller] = (chat, realtime)
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            question, answers = next(questions), {}
            for caller in callers if len(pairs) % 2 else reversed(callers):  # who is first alternates, too
                answers[caller] = await caller.ask(question)
                await asyncio.sleep(BREATH_S)
            pairs.append((answers[chat], answers[realtime]))
        lateness_s = chat.lateness_s + realtime.lateness_s
    return pairs, lateness_s, await stages(url, chat.ready["conversation_id"])


async def measure_real(seconds: float) -> tuple[Pairs, list[float], Stages]:
    """With the default engines, in a process of their own."""
    questions = itertools.cycle(await spoken_questions())
    async with running_server(2) as (url, _):
        return await measure(url, questions, seconds)


async def measure_fixed(seconds: float) -> tuple[Pairs, list[float], Stages]:
    """With engines that take 100 ms to the first token, 5 ms to each other and 5 ms to speak, in this process."""
    fakes = Fakes()
    fakes.llm.first_token_s, fakes.llm.token_s, fakes.tts.delay_s = 0.1, 0.005, 0.005
    with tempfile.TemporaryDirectory() as folder:
        async with serving(fake_engines(fakes), settings_for(Path(folder))) as server:
            url = server.url.replace("http:", "ws:") + "/ws/chat"
            return await measure(url, itertools.repeat(Question(tone(0.3, 600))), seconds)


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
    lines = ["| voice to voice, ms | n | p50 | p95 | max |", "|---|---|---|---|---|"]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=140.0)
    parser.add_argument("--fixed", action="store_true")
    options = parser.parse_args()
    run = measure_fixed if options.fixed else measure_real
    print(page(*asyncio.run(run(options.seconds))))


if __name__ == "__main__":
    main()
