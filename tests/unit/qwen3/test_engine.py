"""The engine as its callers see it: sessions in an event loop, one thread underneath."""

import asyncio
import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from avatar.engines.tts.qwen3.checkpoint import Checkpoint
from avatar.engines.tts.qwen3.config import Sampling
from avatar.engines.tts.qwen3.engine import Engine, EngineStopped, Options, Session
from avatar.engines.tts.qwen3.speech import Packet
from avatar.engines.tts.qwen3.ticks import Limits
from tests.unit.qwen3.models import checkpoint

LIMITS = Limits(slots=4, max_positions=160, contexts=())
SHORT = Sampling(max_frames=20)
TEXT = "Hello there, my friend."


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = started(checkpoint("custom"))
    yield engine
    engine.close()
    engine.close()
    assert "qwen3-tts" not in {thread.name for thread in threading.enumerate()}


def started(model: Checkpoint) -> Engine:
    engine = Engine(model, Options(LIMITS))
    engine.start()
    return engine


def open_(engine: Engine, seed: int = 0, text: str = TEXT, sampling: Sampling = SHORT) -> Session:
    session = engine.open("Serena", "english", sampling=sampling, seed=seed, end="never", paced=False)
    session.push_text(text)
    return session


async def listen(session: Session) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.concatenate([packet.pcm async for packet in session])


async def test_many_sessions_speak_at_once_and_more_than_there_are_slots(engine: Engine) -> None:
    sessions = [open_(engine, seed) for seed in range(9)]
    for session in sessions:
        session.end_text()
    heard = await asyncio.gather(*map(listen, sessions))
    assert {len(pcm) for pcm in heard} == {20 * 1920}
    assert all(np.abs(pcm).max() <= 1 for pcm in heard)
    assert {session.finish_reason for session in sessions} == {"limit"}
    stats = await engine.stats()
    assert (stats["finished"], stats["active"], stats["free"]) == (9, 0, 4)
    assert (stats["prefix_misses"], stats["prefix_hits"]) == (1, 17)
    with pytest.raises(StopAsyncIteration):
        await anext(sessions[0])


async def test_a_session_says_when_it_needs_text_once_all_audio_is_given(engine: Engine) -> None:
    session = open_(
        engine, text="Hello", sampling=Sampling(max_frames=60)
    )  # a last word that may go on: nothing can be said yet
    rest = iter([" there, my friend, ", "how are you"])
    given, packets = [], 0
    async for event in session.events():
        if isinstance(event, Packet):
            packets += event.frames
            continue
        given.append(packets)
        if text := next(rest, None):
            session.push_text(text)
        else:
            session.end_text()
    assert given[0] == 0
    assert 0 < given[1] < given[2] < 60 == packets


async def test_packets_say_when_they_were_made(engine: Engine) -> None:
    session = open_(engine)
    packet = await anext(session)
    times = packet.timings
    assert times.opened_s <= times.text_s <= times.admitted_s <= times.ready_s
    session.cancel()


async def test_cancelling_frees_the_slot(engine: Engine) -> None:
    endless = Sampling(max_frames=100)
    sessions = [open_(engine, seed, sampling=endless) for seed in range(4)]
    for session in sessions:
        await anext(session)
    assert (await engine.stats())["free"] == 0
    for session in sessions:
        session.cancel()
        session.cancel()
    assert (await engine.stats())["free"] == 4
    assert [session.finish_reason for session in sessions] == ["cancelled"] * 4
    rest = [packet async for packet in sessions[0]]
    assert sum(packet.frames for packet in rest) < 100


async def test_what_cannot_be_said_raises_where_it_is_listened_to(engine: Engine) -> None:
    for session, problem in (
        (engine.open("nobody"), "no speaker 'nobody'"),
        (engine.open("serena", "klingon"), "no language 'klingon'"),
        (engine.open("serena"), "no text"),
        (engine.open("serena", sampling=dataclasses.replace(SHORT, max_frames=0)), "positions"),
    ):
        session.push_text(TEXT if "text" not in problem else "")
        session.end_text()
        with pytest.raises(ValueError, match=problem):
            await listen(session)
    assert (await engine.stats())["free"] == 4


async def test_closing_ends_what_speaks_and_refuses_more() -> None:
    engine = started(checkpoint("custom"))
    session = open_(engine, sampling=Sampling(max_frames=100))
    await anext(session)
    engine.close()
    with pytest.raises(EngineStopped, match="closed"):
        await listen(session)
    with pytest.raises(EngineStopped):
        open_(engine)


async def test_a_tick_that_fails_fails_every_session(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> object:
            raise MemoryError("no room")

    model = checkpoint("custom")
    engine = started(dataclasses.replace(model, predictor=Broken()))  # type: ignore[arg-type]
    sessions = [open_(engine, seed) for seed in range(2)]
    for session in sessions:
        with pytest.raises(EngineStopped, match="failed"):
            await listen(session)
    assert "no room" in caplog.text
    with pytest.raises(EngineStopped):
        open_(engine)
    engine.close()


def test_a_start_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match="loaded for 512 positions, not 9999"):
        Engine(checkpoint("custom"), Options(Limits(slots=1, max_positions=9999))).start()
    with pytest.raises(ValueError, match="FlashAttention cannot be used: no GPU"):
        Engine(checkpoint("custom"), Options(LIMITS, attention="flash")).start()


async def test_voices_are_cloned_by_the_engine() -> None:
    engine = started(checkpoint("base"))
    wav = (0.1 * np.random.RandomState(0).standard_normal(12_000)).astype(np.float32)
    voice = await engine.clone(wav)
    assert await engine.clone(wav) is voice
    with pytest.raises(ValueError, match="A voice is made of"):
        await engine.clone(wav[:100])
    session = engine.open(voice, sampling=SHORT, end="never", paced=False)
    session.push_text(TEXT)
    session.end_text()
    assert len(await listen(session)) == 20 * 1920
    engine.close()


async def test_a_listener_whose_loop_is_gone_harms_nobody(engine: Engine) -> None:
    def leave() -> None:
        async def open_and_go() -> None:
            open_(engine).end_text()

        asyncio.run(open_and_go())

    await asyncio.to_thread(leave)
    session = open_(engine)
    session.end_text()
    assert len(await listen(session)) == 20 * 1920


def test_the_engine_stands_alone() -> None:
    """It runs on a machine that has torch, safetensors, tokenizers and numpy, and of ours only what reads tensors."""
    code = (
        "import sys\n"
        "from avatar.engines.tts.qwen3 import bench, golden_cases, made, parity\n"
        "alone = 'avatar avatar.engines avatar.engines.tts'.split()\n"
        "alone += 'avatar.engines.tts.checkpoints avatar.engines.tts.weights'.split()\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('avatar', 'pydantic', 'fastapi', 'soxr', 'rich')"
        " and m not in alone and not m.startswith('avatar.engines.tts.qwen3')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
