"""AVATAR beside Pipecat: one caller program against both, in one run, in turns, on the same engines.

    python benchmarks/peers/run.py      about six minutes; writes benchmarks/results/DATE-peers.md and .json

Needs AVATAR's development environment and its weights. Pipecat gets an environment of its own, made at the first run.
All servers run the whole time, so that what else the machine does falls on all alike.
What is compared, and how it is kept fair, is in `README.md`.
"""

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.peers import circumstances, report  # noqa: E402
from benchmarks.peers.pipecat_caller import PipecatCaller  # noqa: E402
from benchmarks.peers.pipecat_process import python_with_pipecat, running_pipecat  # noqa: E402
from scripts.load_test_report import mean_usage, per_session  # noqa: E402
from tests.load.caller import Answer, Caller  # noqa: E402
from tests.load.latency import summary  # noqa: E402
from tests.load.questions import Question, spoken_questions  # noqa: E402
from tests.load.server import Watch, running_server  # noqa: E402

TALKS = {1: 6, 3: 3}
"""Callers at the same time, and how many questions each of them asks in a round."""
INTERVAL_S = 4.5
"""From question to question of a caller, if it is answered by then."""
HEAR_S = 1.5
"""An answer that goes on for longer is interrupted."""
BREATH_S = 1.0
LISTENERS = 8
LISTEN_S = 10.0
SETTLE_S = 2.5


@dataclass
class Peer:
    """A server, and what came of asking it. Without `listens`, what its sessions cost is another peer's to tell."""

    name: str
    caller: type[Caller]
    url: str
    pid: int
    listens: bool = True
    answers: dict[int, list[Answer]] = field(default_factory=lambda: {callers: [] for callers in TALKS})
    listening: list[dict[str, float]] = field(default_factory=list)

    async def call(self, stack: AsyncExitStack, seed: int) -> Caller:
        return await stack.enter_async_context(self.caller(self.url, hear_s=HEAR_S, seed=seed))

    def result(self) -> dict[str, Any]:
        """For the JSON report."""
        talking = {str(callers): talking_result(answers) for callers, answers in self.answers.items()}
        return {"talking": talking, "listening": listening_result(self.listening) if self.listens else None}


def talking_result(answers: list[Answer]) -> dict[str, Any]:
    latencies_ms = [ms for answer in answers if (ms := answer.voice_to_voice_ms) is not None]
    errors = [error for answer in answers for error in answer.errors]
    return {"asked": len(answers), "voice_to_voice_ms": summary(latencies_ms), "errors": errors}


def listening_result(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """CPU is the rounds' mean; memory their maximum, because later sessions take what earlier ones have freed."""
    return {
        "cpu_percent": fmean(cost["cpu_percent"] for cost in rounds),
        "rss_bytes": max(cost["rss_bytes"] for cost in rounds),
        "rounds": rounds,
    }


async def warm_up(peer: Peer, question: Question) -> None:
    """One session, one question, which counts for nothing."""
    async with AsyncExitStack() as stack:
        await (await peer.call(stack, 0)).ask(question)


async def listen(peer: Peer) -> None:
    """What each of some sessions costs that hear nothing but a room."""
    async with AsyncExitStack() as stack:
        watch = await stack.enter_async_context(Watch(peer.pid))
        await asyncio.sleep(SETTLE_S)
        before = mean_usage(watch.samples)
        for index in range(LISTENERS):
            await peer.call(stack, index)
        await asyncio.sleep(SETTLE_S)
        first = len(watch.samples)
        await asyncio.sleep(LISTEN_S)
        peer.listening.append(per_session(before, mean_usage(watch.samples[first:]), LISTENERS))


async def talk(peer: Peer, questions: Iterator[Question], callers: int) -> None:
    """New sessions that ask in turn, so that their questions spread over the interval."""
    async with AsyncExitStack() as stack:
        calls = [await peer.call(stack, index) for index in range(callers)]
        await asyncio.gather(
            *(
                converse(peer, call, questions, callers, index * INTERVAL_S / callers)
                for index, call in enumerate(calls)
            )
        )


async def converse(peer: Peer, call: Caller, questions: Iterator[Question], callers: int, delay_s: float) -> None:
    await asyncio.sleep(BREATH_S + delay_s)
    for question in itertools.islice(questions, TALKS[callers]):
        next_s = time.monotonic() + INTERVAL_S
        peer.answers[callers].append(await call.ask(question))
        await asyncio.sleep(max(next_s - time.monotonic(), BREATH_S))


async def take_turns(peers: list[Peer], spoken: list[Question]) -> None:
    """One round: all listen at once, which takes little and lets noise fall on all alike; then they talk in turn."""
    await asyncio.gather(*(listen(peer) for peer in peers if peer.listens))
    for callers in TALKS:
        for peer in peers:
            await talk(peer, itertools.cycle(spoken), callers)


async def perform(python: Path, rounds: int) -> dict[str, Any]:
    """The whole comparison; its result as the JSON report has it."""
    described = circumstances.describe(python)
    spoken = await spoken_questions()
    async with AsyncExitStack() as stack:
        url, pid = await stack.enter_async_context(running_server(LISTENERS))
        peers = [Peer("AVATAR", Caller, url, pid)]
        url, pid = await stack.enter_async_context(running_pipecat(python))
        peers.append(Peer("Pipecat", PipecatCaller, url, pid))
        url, pid = await stack.enter_async_context(running_pipecat(python, "--plain-stt"))
        peers.append(Peer("Pipecat, plain STT", PipecatCaller, url, pid, listens=False))
        for peer in peers:
            await warm_up(peer, spoken[0])
        load_before = circumstances.load_average()
        for count in range(rounds):
            await take_turns(peers[:: -1 if count % 2 else 1], spoken)
        load = {"before": load_before, "after": circumstances.load_average()}
    results = {peer.name: peer.result() for peer in peers}
    return described | {
        "load_average": load,
        "peers": results,
        "ratios": report.ratios(results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipecat-python", type=Path, help="interpreter that has requirements.txt (default: make one)")
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="folder of the report")
    options = parser.parse_args()
    result = asyncio.run(perform(options.pipecat_python or python_with_pipecat(), options.rounds))
    file = options.out / f"{result['date']}-peers"
    file.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    file.with_suffix(".md").write_text(report.markdown(result))
    print(report.markdown(result))


if __name__ == "__main__":
    main()
