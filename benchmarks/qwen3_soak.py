"""Thousands of short utterances on the tiny golden model: does memory stay flat, is every slot given back?

    python benchmarks/qwen3_soak.py [--sessions 10000]

Speakers, languages, ways to read and lengths at random; some are cancelled, some never get their last text, some are
refused. Needs what the engine needs, and this checkout. Prints a line every tenth of the way; the exit status is 1 if
memory grew by more than `GROWTH_MIB`, or anything was left behind.
"""

import argparse
import asyncio
import ctypes
import gc
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from avatar.engines.tts.qwen3 import parity  # noqa: E402
from avatar.engines.tts.qwen3.checkpoint import Checkpoint  # noqa: E402
from avatar.engines.tts.qwen3.config import Sampling  # noqa: E402
from avatar.engines.tts.qwen3.engine import Engine, Options  # noqa: E402
from avatar.engines.tts.qwen3.speech import Mode, Packet  # noqa: E402
from avatar.engines.tts.qwen3.ticks import Limits  # noqa: E402

GOLDENS = ROOT / "tests/data/qwen3"
WORDS = "one two three 今天 four, five. Six! seven 8 nine ten".split(" ")
LIMITS = Limits(slots=32, max_positions=64, contexts=(), buckets=(8, 16, 32), prefixes=8)
LISTENERS = 40
MAX_FRAMES = 6
GROWTH_MIB = 16.0


@dataclass(frozen=True)
class Soaked:
    """What is left afterwards. `resident_mib`: after each tenth."""

    sessions: int
    resident_mib: tuple[float, ...]
    stats: dict[str, int]
    took_s: float

    @property
    def growth_mib(self) -> float:
        """From the first three tenths to the last three, the least of each: what is in flight adds up to 20 MiB."""
        return min(self.resident_mib[-3:]) - min(self.resident_mib[:3])

    @property
    def is_clean(self) -> bool:
        stats = self.stats
        ended = stats["finished"] + stats["cancelled"] + stats["failed"]
        return ended == stats["opened"] and stats["active"] == stats["waiting"] == 0 and stats["free"] == LIMITS.slots


async def soak(checkpoint: Checkpoint, sessions: int, *, report: bool = False) -> Soaked:
    """Run them, `LISTENERS` at a time: more than there are slots."""
    engine = Engine(checkpoint, Options(LIMITS))
    await asyncio.to_thread(engine.start)
    left, resident, began_s = iter(range(sessions)), [], time.monotonic()

    async def listener() -> None:
        for number in left:
            await _listen(engine, random.Random(number))
            if (number + 1) % max(sessions // 10, 1) == 0:
                gc.collect()
                resident.append(resident_mib())
                if report:
                    print(
                        f"{number + 1:6d} sessions, {time.monotonic() - began_s:6.0f} s, {resident[-1]:.1f} MiB",
                        flush=True,
                    )

    try:
        await asyncio.gather(*(listener() for _ in range(LISTENERS)))
        stats = await engine.stats()
    finally:
        await asyncio.to_thread(engine.close)
    return Soaked(sessions, tuple(resident), stats, time.monotonic() - began_s)


async def _listen(engine: Engine, chance: random.Random) -> None:
    voices = [*engine.checkpoint.config.speakers, None]
    mode: Mode = "whole" if chance.random() < 0.2 else "streaming"
    language = chance.choice(["auto", "english", "chinese", "russian"])
    sampling = Sampling(max_frames=chance.randint(1, MAX_FRAMES))
    session = engine.open(chance.choice(voices), language, mode, sampling, chance.randrange(2**31), paced=False)
    fate = chance.random()
    for _ in range(chance.randint(1, 3) if fate > 0.03 else 0):
        session.push_text(chance.choice(WORDS) + " ")
    if fate < 0.1 and mode == "whole":
        session.cancel()
    elif fate > 0.2 or fate <= 0.03:
        session.end_text()
    try:
        async for event in session.events():
            if not isinstance(event, Packet) and fate <= 0.2:
                session.cancel()  # its text never ends
            elif fate > 0.9:
                session.cancel()
    except ValueError:
        assert fate <= 0.03


def resident_mib() -> float:
    """Memory that this process really holds (Linux), without what the allocator keeps for later."""
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10_000)
    sessions = parser.parse_args().sessions
    torch.set_num_threads(1)
    soaked = asyncio.run(soak(parity.golden_checkpoints(GOLDENS)["custom"], sessions, report=True))
    print(f"{soaked.sessions} sessions in {soaked.took_s:.0f} s; memory grew by {soaked.growth_mib:.1f} MiB")
    print(soaked.stats)
    return int(not soaked.is_clean or soaked.growth_mib > GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())
