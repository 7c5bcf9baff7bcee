"""Full duplex on one core: how many sessions a server carries before replies stutter, with engines that cost nothing.

    python benchmarks/duplex.py FOLDER                       searches, three minutes; FOLDER gets DATE-duplex.md, .json
    python benchmarks/duplex.py --sessions 100 --seconds 60  one number of sessions (to look at with a profiler)

The server is the real one (app, store, uvicorn), all of it pinned to one core; only its engines are free of charge.
The callers are one process on the other cores. Each session sends 20 ms of microphone all the time, reports playback
as a browser does, and hears a reply nearly all the time: it asks for about a second, then listens for 4 to 12 s and
asks again, over the reply. Linux only (`taskset`, kernel time stamps, /proc).

**How late a frame is.** Playout sends the audio that begins at second `s` of a reply when `s` less its lead has passed
since it began: that moment, not the one at which a client's buffer would run dry, is when the frame is due. The clock
of a reply is set by the frame that came soonest after its due time (usually the first), so that a late start hides
nothing, and never before the microphone frame that completed the silence that ends the question. Audio that was due
and never came counts as late as the time it has been missed for. A step passes when the 99th percentile of all frames
stays under 20 ms and no session broke. Arrival is the kernel's own time stamp of the packet: a caller that is slow to
read makes no frame late. How late the callers themselves sent, and for how long the server wanted its core and others
had it, stands beside each result.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import random
import select
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fakes.llm import FakeLanguageModel  # noqa: E402
from tests.fakes.stt import FakeSpeechToText  # noqa: E402
from tests.fakes.tts import FakeTextToSpeech  # noqa: E402
from tests.fakes.vad import FakeVoiceActivity, FakeVoiceStream  # noqa: E402

from avatar.core.audio import INPUT_RATE_HZ, Pcm, float_to_pcm16, silence  # noqa: E402
from avatar.engines.base import Capabilities, Mark, SpeechChunk  # noqa: E402
from avatar.settings import Settings, load  # noqa: E402

LATE_S = 0.020
MIC_FRAME_S = 0.020
REPLY_FRAME_S = 0.040
REPLY_RATE_HZ = 24_000

# Lengths in microphone frames. Eight of them are five frames of voice activity: questions that begin and end on such a
# border are heard alike in each run.
GRID = 8
QUESTION = 6 * GRID
LISTEN = (25 * GRID, 75 * GRID)
PLAYBACK_REPORT = 10
RAMP_S = 5.0
"""By then every session has asked its first question and hears a reply."""

LEAST, MOST, GRAIN = 40, 640, 10
"""Numbers of sessions that the search begins and ends with, and how exact it is."""
TRIES = 2
"""The machine may be busy with something else for a moment: a step fails when it fails twice."""
SEARCH_S = 160.0
"""No step begins later than this."""


# --- the server: engines that cost nothing ------------------------------------------------------


class FreeVoiceActivity(FakeVoiceActivity):
    """Hears by one sample of each frame."""

    def open(self) -> FakeVoiceStream:
        return FreeVoiceStream()


class FreeVoiceStream(FakeVoiceStream):
    """See `FreeVoiceActivity`."""

    def probabilities(self, pcm: Pcm) -> list[float]:
        size = FakeVoiceActivity.frame_samples
        return [0.99 if sample > 0.1 else 0.01 for sample in pcm[size // 2 :: size].tolist()]


class FreeEndOfTurn:
    """Every pause ends the turn."""

    name = "free end of turn"
    capabilities = Capabilities()

    async def warm_up(self) -> None: ...

    async def aclose(self) -> None: ...

    async def probability(self, pcm: Pcm) -> float:
        return 0.9


class FreeTextToSpeech(FakeTextToSpeech):
    """Gives slices of one recording of noise; 50 ms a character."""

    CHUNK_S = 0.2
    NOISE = (0.1 * np.random.default_rng(0).standard_normal(REPLY_RATE_HZ)).astype(np.float32)

    async def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        chars = samples = 0
        step = int(self.CHUNK_S * REPLY_RATE_HZ)
        async for piece in text:
            end = samples + len(piece) * REPLY_RATE_HZ // 20
            while samples < end:
                size = min(step, end - samples)
                samples += size
                done = len(piece) - (end - samples) * 20 // REPLY_RATE_HZ
                yield SpeechChunk(self.NOISE[:size], (Mark(chars + done, samples),))
            chars += len(piece)


REPLY = "Congratulations everybody, " + "this is one more sentence of an answer that goes on for quite some time. " * 5
"""About twenty seconds. Its first clause is two words, so that it is there before the turn is over, and lasts longer
than playout's lead, so that the next is there before it is wanted."""


def settings_in(folder: Path) -> Settings:
    """The defaults, but for room for everybody."""
    return load(overrides={"data_dir": folder, "models_dir": folder, "admission": {"max_sessions": 2 * MOST}})


def serve(folder: Path) -> None:
    """The server's process. Says its port on stdout."""
    import logging

    import uvicorn
    from tests.integration.serving import picks_of

    from avatar.app import assemble
    from avatar.cli.serving import uvicorn_config
    from avatar.conversation.precedence import Precedence
    from avatar.conversation.terms import Engines
    from avatar.service import Service

    logging.basicConfig(level=logging.INFO)
    settings = settings_in(folder)
    model = FakeLanguageModel(REPLY, token_s=0.02)
    precedence, speech = Precedence(model.capabilities.concurrent), FreeTextToSpeech(REPLY_RATE_HZ)
    engines = Engines(FreeVoiceActivity(), FreeEndOfTurn(), FakeSpeechToText(), model, speech, precedence)
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn_config(assemble(Service(settings, picks_of(engines))), settings)).run([listening])


@contextmanager
def serving(core: int) -> Iterator[tuple[int, int]]:
    """A server on `core`: its port and its process id, once it can talk. Its log is shown if it does not start."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name, "log")
        command = ["taskset", "-c", str(core), sys.executable, __file__, "--serve", name]
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline() or 0)
            _until_ready(port, process, log)
            yield port, process.pid  # taskset has become the server
        finally:
            process.kill()  # with a kind word it would save every turn first
            process.wait()


def _until_ready(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    while process.poll() is None:
        with suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
            return
        time.sleep(0.05)
    raise RuntimeError("The server did not start:\n" + log.read_text()[-3000:])


# --- the callers --------------------------------------------------------------------------------


def wire(data: bytes, opcode: int) -> bytes:
    """A client's WebSocket frame (RFC 6455, 5.2). The mask is zero: nothing in between here could be misled."""
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + data


TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_SAMPLES = int(MIC_FRAME_S * INPUT_RATE_HZ)
SPEECH = wire(float_to_pcm16(silence(_SAMPLES) + np.float32(0.3)), BINARY)
QUIET = wire(float_to_pcm16(0.001 * np.random.default_rng(1).standard_normal(_SAMPLES).astype(np.float32)), BINARY)

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python names it from 3.13 on
_EPOCH_S = time.time() - time.monotonic()


@dataclass
class Heard:
    """What came of one question: when each frame arrived, and the second of the reply that it begins with."""

    triggered_s: float
    arrived_s: list[float] = field(default_factory=list)
    begins_s: list[float] = field(default_factory=list)
    length_s: float = 0.0
    ended_s: float = float("inf")
    """When the caller began to speak over it: what is right from then on is not for this file to say."""

    def add(self, size_bytes: int, at_s: float) -> None:
        self.arrived_s.append(at_s)
        self.begins_s.append(self.length_s)
        self.length_s += size_bytes / 2 / REPLY_RATE_HZ

    def lateness_s(self, lead_s: float, from_s: float, until_s: float) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Of each frame due between the two, as the head of this file defines it."""
        until_s = min(until_s, self.ended_s)
        missing = np.arange(self.length_s, until_s - self.triggered_s + lead_s, REPLY_FRAME_S)
        after_s = np.maximum(np.concatenate([self.begins_s, missing]) - lead_s, 0.0)
        arrived_s = np.concatenate([self.arrived_s, np.full(missing.size, until_s)])
        soonest_s = (arrived_s - after_s)[: len(self.arrived_s)].min(initial=np.inf)
        due_s = after_s + (max(soonest_s, self.triggered_s) if self.arrived_s else self.triggered_s)
        counted = (due_s >= from_s) & (due_s < until_s - LATE_S)
        late_s: np.ndarray[Any, np.dtype[np.float64]] = np.maximum(arrived_s - due_s, 0.0)[counted]
        return late_s


class Session:
    """One caller: its microphone, its socket, and what it heard."""

    def __init__(self, port: int, number: int, silence_ms: float) -> None:
        self._ends = -int(-silence_ms // (1000 * MIC_FRAME_S))
        self._microphone = self._speak(random.Random(number))
        self._rest = b""
        self._turn_id = ""
        self.replies: list[Heard] = []
        self.current: Heard | None = None
        self.problems: list[str] = []
        self._asked = False
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._shake_hands(port)

    def _shake_hands(self, port: int) -> None:
        self.socket.sendall(
            b"GET /ws/chat HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n" % port
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        if b" 101 " not in answer:
            raise RuntimeError(f"The server refused: {answer[:80]!r}")
        self.socket.sendall(wire(b'{"type": "session.start", "mode": "live"}', TEXT))
        self.socket.setblocking(False)

    def _speak(self, chance: random.Random) -> Iterator[bytes]:
        """Microphone frames for ever; notes when a question is over and when the next begins."""
        first = (GRID * chance.randint(0, 18), GRID * chance.randint(3, LISTEN[1] // GRID))
        for listen in itertools.chain(first, iter(lambda: GRID * chance.randint(*(end // GRID for end in LISTEN)), 0)):
            for frame in range(listen):
                if self._asked and frame == self._ends - 1:
                    self.current = Heard(time.monotonic())
                    self.replies.append(self.current)
                yield QUIET
            for frame in range(QUESTION):
                if self.current is not None and frame == 0:
                    self.current.ended_s, self.current = time.monotonic(), None
                yield SPEECH
            self._asked = True

    def send(self, tick: int) -> None:
        """The next 20 ms, and now and then how much of the reply was played."""
        data = next(self._microphone)
        if tick % PLAYBACK_REPORT == 0 and self._turn_id and self.current is not None and self.current.arrived_s:
            played_ms = min(time.monotonic() - self.current.arrived_s[0], self.current.length_s) * 1000
            report = {"type": "playback", "turn_id": self._turn_id, "played_ms": round(played_ms)}
            data += wire(json.dumps(report).encode(), TEXT)
        try:
            if self.socket.send(data) != len(data):
                self.problems.append("the server does not read")
        except OSError as error:
            self.problems.append(type(error).__name__)

    def receive(self) -> bool:
        """Take what has come; False once the server has hung up."""
        try:
            data, notes, _, _ = self.socket.recvmsg(1 << 16, 64)
        except BlockingIOError:
            return True
        except OSError:
            data, notes = b"", []
        stamps = [note for _, kind, note in notes if kind == _SO_TIMESTAMPNS]
        at_s = time.monotonic()
        if stamps:
            seconds, nanoseconds = np.frombuffer(stamps[0], np.int64).tolist()
            at_s = seconds + nanoseconds / 1e9 - _EPOCH_S
        self._rest += data
        while (size := self._frame(at_s)) > 0:
            self._rest = self._rest[size:]
        if not data:
            self.problems.append("the server hung up")
        return bool(data)

    def _frame(self, at_s: float) -> int:
        """Deal with the frame at the head of what has come; its length, 0 if it is not whole."""
        rest = self._rest
        if len(rest) < 4:
            return 0
        size, head = rest[1], 2
        if size == 126:
            size, head = int.from_bytes(rest[2:4], "big"), 4
        if len(rest) < head + size:
            return 0
        opcode = rest[0] & 15
        if opcode == BINARY:
            if self.current is not None:
                self.current.add(size, at_s)
        else:
            self._other(opcode, rest[head : head + size])
        return head + size

    def _other(self, opcode: int, data: bytes) -> None:
        if opcode == PING:
            self.socket.send(wire(data, PONG))
        elif opcode == CLOSE:
            self.problems.append("the server said goodbye")
        elif b'"reply.audio"' in data:
            self._turn_id = json.loads(data)["turn_id"]
        elif b'"error"' in data:
            self.problems.append(json.loads(data)["code"])


@dataclass(frozen=True)
class Step:
    """How it went with so many sessions. Milliseconds: p50, p99, greatest. CPU: shares of one core."""

    sessions: int
    frames: int
    late_ms: tuple[float, float, float]
    start_ms: tuple[float, float, float]
    """From the microphone frame that completes the silence to the reply's first frame."""
    caller_late_ms: tuple[float, float, float]
    server_cpu: float
    loop_cpu: float
    """Of that, the event loop's thread."""
    loop_waited: float
    """Share of the time in which the event loop could have run and something else had the core."""
    caller_cpu: float
    problems: tuple[str, ...]

    @property
    def others(self) -> float:
        """How much of the core other work on the machine had while the event loop waited for it."""
        return max(self.loop_waited - (self.server_cpu - self.loop_cpu), 0.0)

    @property
    def passed(self) -> bool:
        return self.late_ms[1] < LATE_S * 1000 and not self.problems


def _spread_ms(seconds: Any) -> tuple[float, float, float]:
    values = np.asarray(seconds) * 1000 if len(seconds) else np.array([np.nan])
    return tuple(round(float(value), 2) for value in (*np.percentile(values, (50, 99)), values.max()))  # type: ignore[return-value]


@dataclass
class Usage:
    """Seconds of a process so far: all its threads on a core; its main thread on a core, and in the queue for one."""

    cpu_s: float
    main_cpu_s: float
    main_waited_s: float

    @classmethod
    def of(cls, pid: int) -> "Usage":
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ran_ns, waited_ns, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
        return cls(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), ran_ns / 1e9, waited_ns / 1e9)


def call(port: int, pid: int, settings: Settings, sessions: int, seconds: float) -> Step:
    """`sessions` callers for `seconds`, after a ramp."""
    callers = [Session(port, number, settings.turn_taking.silence_ms) for number in range(sessions)]
    try:
        return _talk(callers, pid, settings.conversation.playout_lead_ms / 1000, seconds)
    finally:
        for caller in callers:
            caller.socket.close()


def _talk(callers: list[Session], pid: int, lead_s: float, seconds: float) -> Step:
    poll = select.epoll()
    for caller in callers:
        poll.register(caller.socket, select.EPOLLIN)
    by_descriptor = {caller.socket.fileno(): caller for caller in callers}
    late_s: list[float] = []
    step_s, sent = MIC_FRAME_S / len(callers), 0
    began_s = time.monotonic()
    from_s, until_s = began_s + RAMP_S, began_s + RAMP_S + seconds
    before: tuple[Usage, Usage] | None = None
    while (now_s := time.monotonic()) < until_s:
        if before is None and now_s >= from_s:
            before = Usage.of(pid), Usage.of(os.getpid())
        while (due_s := began_s + sent * step_s) <= now_s:
            callers[sent % len(callers)].send(sent // len(callers))
            sent += 1
            if before is not None:
                late_s.append(time.monotonic() - due_s)
        for descriptor, _ in poll.poll(max(due_s - time.monotonic(), 0.0)):
            if not by_descriptor[descriptor].receive():
                poll.unregister(descriptor)
    after = Usage.of(pid), Usage.of(os.getpid())
    assert before is not None
    replies = [reply for caller in callers for reply in caller.replies]
    lateness_s = np.concatenate([reply.lateness_s(lead_s, from_s, until_s) for reply in replies])
    starts_s = [r.arrived_s[0] - r.triggered_s for r in replies if r.arrived_s and r.triggered_s >= from_s]
    if starts_s and min(starts_s) < 0:
        raise RuntimeError("A reply came before its turn was over: this file no longer knows when turns end.")
    return Step(
        len(callers),
        int(lateness_s.size),
        _spread_ms(lateness_s),
        _spread_ms(starts_s),
        _spread_ms(late_s),
        round((after[0].cpu_s - before[0].cpu_s) / seconds, 3),
        round((after[0].main_cpu_s - before[0].main_cpu_s) / seconds, 3),
        round((after[0].main_waited_s - before[0].main_waited_s) / seconds, 3),
        round((after[1].cpu_s - before[1].cpu_s) / seconds, 3),
        tuple(sorted({problem for caller in callers for problem in caller.problems})),
    )


# --- the search ---------------------------------------------------------------------------------


def measure(sessions: int, seconds: float) -> Step:
    """One step, against a server of its own, on the last core; this process keeps to the others."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1])
    try:
        with tempfile.TemporaryDirectory() as name, serving(cores[-1]) as (port, pid):
            print(f"{sessions} sessions, server {pid}: ", end="", flush=True)
            step = call(port, pid, settings_in(Path(name)), sessions, seconds)
    finally:
        os.sched_setaffinity(0, cores)
    print(
        f"{step.late_ms[1]:.1f} ms late at p99, {step.server_cpu:.0%} of the core, others {step.others:.0%};",
        *step.problems,
        flush=True,
    )
    return step


def search(seconds: float) -> list[Step]:
    """All steps that were made: doubling, then halving the distance."""
    steps: list[Step] = []
    passed, failed, began_s = 0, MOST + GRAIN, time.monotonic()
    while failed - passed > GRAIN and time.monotonic() - began_s < SEARCH_S:
        middle = (passed + failed) // 2 // GRAIN * GRAIN
        sessions = min(2 * passed or LEAST, middle) if failed > MOST else middle
        for _ in range(TRIES):
            steps.append(measure(sessions, seconds))
            if steps[-1].passed:
                break
        passed, failed = (sessions, failed) if steps[-1].passed else (passed, sessions)
    return steps


def page(steps: list[Step], commit: str, load: tuple[float, float]) -> str:
    """The result as text."""
    most = max((step.sessions for step in steps if step.passed), default=0)
    rows = [
        f"| {step.sessions} | {step.frames} | {_cells(step.late_ms)} | {_cells(step.start_ms)} "
        f"| {_cells(step.caller_late_ms)} | {step.server_cpu:.0%}, {step.loop_cpu:.0%}, {step.others:.0%} "
        f"| {step.server_cpu / step.sessions:.2%}, {step.loop_cpu / step.sessions:.2%} | {step.caller_cpu:.0%} "
        f"| {', '.join(step.problems) or '–'} |"
        for step in steps
    ]
    return "\n".join(
        [
            f"# Full duplex on one core ({datetime.date.today()})",
            "",
            f"**{most} sessions** with frames under {LATE_S * 1000:.0f} ms late at p99.",
            "",
            f"Machine: {platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}. Load average before and after: {load[0]:.1f}, {load[1]:.1f}.",
            f"Commit {commit}. Command: `python benchmarks/duplex.py benchmarks/results`; the head of that file says "
            "what is measured and how.",
            "",
            "Milliseconds, p50 / p99 / greatest; CPU in shares of one core. *Others*: for so much of the time the "
            "event loop could have run and other work on the machine had its core. More than little spoils a step.",
            "",
            "| sessions | frames | late | start of a reply | callers late | server, its loop, others "
            "| a session, in the loop | callers | problems |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _cells(spread_ms: tuple[float, float, float]) -> str:
    return " / ".join(f"{value:.1f}" for value in spread_ms)


def main(folder: Path, seconds: float) -> None:
    """Search, write, show."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"]).returncode
    before = os.getloadavg()[0]
    steps = search(seconds)
    text = page(steps, commit + ("-dirty" if changed else ""), (before, os.getloadavg()[0]))
    stem = f"{datetime.date.today()}-duplex"
    (folder / f"{stem}.md").write_text(text)
    (folder / f"{stem}.json").write_text(json.dumps([asdict(step) for step in steps], indent=1))
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path())
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
    elif options.sessions:
        print(measure(options.sessions, options.seconds))
    else:
        main(options.folder, options.seconds)
