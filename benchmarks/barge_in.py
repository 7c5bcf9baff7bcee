"""Barge-in at the wire: how soon a reply falls silent when somebody speaks over it, and whether it should have.

    python benchmarks/barge_in.py FOLDER        about four minutes; writes FOLDER/DATE-barge-in.md

A real server with real models. The caller asks for something long and speaks over the answer, 0.8 s into it: words that
want the floor, or what a listener says. Times count from the first audible sample of that speech being sent. After
`reply.hold` a client plays nothing.
"""

import asyncio
import datetime
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.load.caller import Caller  # noqa: E402
from tests.load.latency import summary  # noqa: E402
from tests.load.questions import FRAME_SAMPLES, Question  # noqa: E402
from tests.load.server import running_server  # noqa: E402
from tests.speech import spoken  # noqa: E402

ASK = "Please count from one to forty."
INTERRUPTIONS = ("Stop, that is enough.", "Wait a moment please.", "No, tell me about mountains.", "What is the time?")
LISTENING = ("Okay.", "Yeah.", "Right.", "Uh huh.", "I see.", "Yes.")
VOICES = ("en-us+f3", "en-gb+m5")
"""Of the caller. With the reply's own voice, a word of both is rightly taken for an echo."""
AUDIBLE = 0.01
INTO_S = 0.8
SETTLED_S = 3.0


@dataclass
class Spoken:
    """What came of one voice over a reply, in milliseconds from its first audible sample."""

    words: str
    at_ms: dict[str, float] = field(default_factory=dict)
    stopped: bool = False


class Interrupter(Caller):
    """A caller that speaks over what it hears."""

    def __init__(self, url: str) -> None:
        super().__init__(url, answer_timeout_s=SETTLED_S)
        self._over: Spoken | None = None
        self._began_s = 0.0

    def _start_message(self) -> dict[str, Any]:
        return super()._start_message() | {"instructions": "You are a helpful assistant. Say every number."}

    async def over(self, words: str, voice: str) -> Spoken:
        """Ask for a story, say `words` over it, and see for a while what happens."""
        loop = asyncio.get_running_loop()
        asking = asyncio.create_task(self.ask(Question(await spoken(ASK))))
        while self._played_s() < INTO_S and not asking.done():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        question = Question(await spoken(words, voice=voice))
        silent = int(np.argmax(np.abs(question.pcm) > AUDIBLE)) + (-question.pcm.size % FRAME_SAMPLES)
        self._over = Spoken(words)
        self._began_s = loop.time() + silent / 16_000
        self._speech.extend(question.frames)
        await asyncio.sleep(question.pcm.size / 16_000 + SETTLED_S)
        result, self._over = self._over, None
        self._interrupted = True
        await self._socket.send_json({"type": "interrupt"})
        await asking
        await asyncio.sleep(1.0)
        await self._socket.send_json({"type": "interrupt"})  # of what the words themselves were answered
        await asyncio.sleep(0.5)
        return result

    def _on_message(self, message: dict[str, Any]) -> None:
        if self._over is not None and message["type"] in ("reply.lower", "reply.hold", "reply.resume", "reply.done"):
            at_ms = (asyncio.get_running_loop().time() - self._began_s) * 1000
            self._over.at_ms.setdefault(message["type"], at_ms)
            self._over.stopped = self._over.stopped or message.get("status") == "interrupted"
        super()._on_message(message)


async def measure() -> list[Spoken]:
    results = []
    async with running_server(1) as (url, _), Interrupter(url) as caller:
        for voice in VOICES:
            for words in (*INTERRUPTIONS, *LISTENING):
                results.append(await caller.over(words, voice))
                print(voice, words, results[-1].stopped, {k: round(v) for k, v in results[-1].at_ms.items()})
    return results


def row(name: str, results: list[Spoken], message: str) -> str:
    times = summary([result.at_ms[message] for result in results if message in result.at_ms])
    return f"| {name} | {times['n']} | {times['p50']:.0f} | {times['p95']:.0f} |"


def report(results: list[Spoken]) -> str:
    wanted = [result for result in results if result.words in INTERRUPTIONS]
    listening = [result for result in results if result.words in LISTENING]
    stopped = sum(result.stopped for result in wanted)
    resumed = sum(not result.stopped for result in listening)
    lines = [
        "| from the first audible sample of the user's speech, ms | n | p50 | p95 |",
        "|---|---|---|---|",
        row("the reply is lowered", results, "reply.lower"),
        row("the reply is silent (`reply.hold`): last audible sample", wanted, "reply.hold"),
        row("it is over (`reply.done`)", wanted, "reply.done"),
        row("a listener's word: it goes on (`reply.resume`)", listening, "reply.resume"),
        "",
        f"Interruptions that stopped it: {stopped} of {len(wanted)}. Listeners' words that let it go on: {resumed} of "
        f"{len(listening)}.",
    ]
    return "\n".join(lines)


def main() -> None:
    folder = Path(sys.argv[1])
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    body = report(asyncio.run(measure()))
    where = "2 cores (x86-64), no GPU, the embedded default."
    text = f"# Barge-in ({today})\n\n{where}\n\n{body}\n\n    python benchmarks/barge_in.py FOLDER\n"
    (folder / f"{today}-barge-in.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
