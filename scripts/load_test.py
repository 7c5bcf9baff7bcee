"""Load test: callers speak real speech through `/ws/chat`, in real time, and take the time until they hear an answer.

    python scripts/load_test.py --serve --callers 5 --seconds 60 --html load.html --json load.json
    python scripts/load_test.py --url ws://127.0.0.1:8000/ws/chat --server-pid 1234 --max-v2v-p95-ms 1500

Scenarios: by default every caller asks a question each `--interval` seconds; `--listen` keeps sessions open that only
send room noise, and tells what one of them costs; `--churn N` has callers come, ask once and go, N rounds, and tells
what memory that leaves. The exit code is 1 if a limit was exceeded. How a caller works is in `tests/load/caller.py`,
what the report looks like in `load_test_report.py`.
"""

import argparse
import asyncio
import ipaddress
import itertools
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts import load_test_report as report  # noqa: E402
from tests.load.caller import Caller, CallFailed  # noqa: E402
from tests.load.questions import Question, recorded_questions, spoken_questions  # noqa: E402
from tests.load.server import Watch, running_server  # noqa: E402

DEFAULT_URL = "ws://127.0.0.1:8000/ws/chat"
BREATH_S = 0.5
"""Shortest pause between hearing an answer to its end and asking again."""
SETTLE_S = 3.0
"""What is measured before and after callers come is the mean of so long."""


class Load:
    """One run of one scenario against one server."""

    def __init__(self, options: argparse.Namespace, url: str, questions: list[Question], watch: Watch | None) -> None:
        self._options = options
        self._url = url
        self._questions = questions
        self._watch = watch
        self._deadline_s = time.monotonic() + options.seconds
        self.run = report.Run("listen" if options.listen else "churn" if options.churn else "talk")

    async def perform(self) -> report.Run:
        await {"talk": self._talk, "listen": self._listen, "churn": self._churn}[self.run.scenario]()
        return self.run

    async def _talk(self) -> None:
        await asyncio.gather(*(self._converse(index) for index in range(self._options.callers)))

    async def _converse(self, index: int) -> None:
        """Callers begin one after the other, so that their questions spread over the interval."""
        await asyncio.sleep(index * self._options.interval / self._options.callers)
        questions = itertools.islice(itertools.cycle(self._questions), index, None)
        async with AsyncExitStack() as stack:
            caller = await self._call(stack, index)
            while caller and time.monotonic() < self._deadline_s:
                next_s = time.monotonic() + self._options.interval
                self.run.answered(index, await caller.ask(next(questions)))
                await asyncio.sleep(max(next_s - time.monotonic(), BREATH_S))

    async def _listen(self) -> None:
        assert self._watch
        await asyncio.sleep(SETTLE_S)
        before = report.mean_usage(self._watch.samples)
        async with AsyncExitStack() as stack:
            calls = [await self._call(stack, index) for index in range(self._options.callers)]
            await asyncio.sleep(SETTLE_S)
            first = len(self._watch.samples)
            await asyncio.sleep(self._options.seconds)
            during = report.mean_usage(self._watch.samples[first:])
        sessions = len([call for call in calls if call])
        self.run.extra["per_session"] = report.per_session(before, during, sessions)

    async def _churn(self) -> None:
        assert self._watch
        rss_bytes = []
        for _ in range(self._options.churn):
            await asyncio.gather(*(self._ask_once(index) for index in range(self._options.callers)))
            await asyncio.sleep(1.0)
            rss_bytes.append(self._watch.rss_bytes())
        self.run.extra["churn"] = report.growth(rss_bytes, self._options.callers)

    async def _ask_once(self, index: int) -> None:
        async with AsyncExitStack() as stack:
            if caller := await self._call(stack, index):
                self.run.answered(index, await caller.ask(self._questions[index % len(self._questions)]))

    async def _call(self, stack: AsyncExitStack, index: int) -> Caller | None:
        options = self._options
        caller = Caller(
            self._url, mode=options.mode, answer_timeout_s=options.timeout, hear_s=options.hear or None, seed=index
        )
        try:
            await stack.enter_async_context(caller)
        except CallFailed as refusal:
            self.run.errors[str(refusal)] += 1
            return None
        stack.callback(self.run.took, caller)
        return caller


async def perform(options: argparse.Namespace) -> dict[str, object]:
    """Make the questions, start or find the server, run the scenario; the result as the JSON report has it."""
    questions = recorded_questions(options.speech) if options.speech else await spoken_questions()
    if options.mode == "push_to_talk":
        for question in questions:
            _ = question.webm  # encoded before the clock runs
    async with AsyncExitStack() as stack:
        url, pid = options.url, options.server_pid
        if options.serve:
            url, pid = await stack.enter_async_context(running_server(options.callers))
        watch = await stack.enter_async_context(Watch(pid)) if pid else None
        run = await Load(options, url, questions, watch).perform()
        return report.result(run, options, watch.samples if watch else [])


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine, so that a load test cannot hit somebody else's by a slip."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_argument_group("server")
    where.add_argument("--url", default=DEFAULT_URL, help="address of /ws/chat (default: %(default)s)")
    where.add_argument("--allow-remote", action="store_true", help="the address may be another machine's")
    where.add_argument("--server-pid", type=int, help="process to watch: memory and CPU of it and its children")
    where.add_argument("--serve", action="store_true", help="start run_server.py for this test, and stop it")
    load = parser.add_argument_group("load")
    load.add_argument("--callers", type=int, default=5, help="sessions at the same time (default: %(default)s)")
    load.add_argument("--seconds", type=float, default=60.0, help="how long questions are asked (default: %(default)s)")
    load.add_argument("--interval", type=float, default=8.0, help="seconds from question to question of a caller")
    load.add_argument(
        "--timeout", type=float, default=30.0, help="seconds to wait for an answer (default: %(default)s)"
    )
    load.add_argument(
        "--hear", type=float, default=5.0, help="seconds of an answer heard before it is interrupted; 0: all"
    )
    load.add_argument("--mode", choices=("live", "push_to_talk"), default="live")
    load.add_argument("--speech", type=Path, help="folder of .wav files to say (default: espeak-ng reads questions)")
    load.add_argument("--listen", action="store_true", help="sessions that only listen: what one costs")
    load.add_argument("--churn", type=int, metavar="ROUNDS", help="callers come, ask once and go, so many rounds")
    limits = parser.add_argument_group("limits; beyond one of them the exit code is 1")
    limits.add_argument("--max-v2v-p50-ms", type=float, help="median voice-to-voice latency")
    limits.add_argument("--max-v2v-p95-ms", type=float, help="95th percentile of voice-to-voice latency")
    limits.add_argument("--max-errors", type=int, default=0, help="errors of all kinds (default: %(default)s)")
    output = parser.add_argument_group("report")
    output.add_argument("--json", type=Path, metavar="FILE")
    output.add_argument("--html", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if not (options.allow_remote or is_loopback(options.url)):
        parser.error(f"{options.url} is not this machine; --allow-remote if you mean it and may")
    if (options.listen or options.churn) and not (options.serve or options.server_pid):
        parser.error("--listen and --churn measure the server's process: give --server-pid or --serve")
    if options.callers < 1 or options.interval <= 0:
        parser.error("there must be a caller, and time between its questions")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        result = asyncio.run(perform(options))
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report.text(result))
    if options.json:
        options.json.write_text(report.json_text(result))
    if options.html:
        options.html.write_text(report.html(result))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
