"""Sessions in which everything goes wrong at once: engines fail and hang, clients stop reading, people do as they like.

Times lie on a grid, so that things fall on the same instant as often as they can. What must hold, holds to the end.
"""

import asyncio
import gc
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest

from avatar.conversation.plan import ReplyPolicy
from avatar.conversation.session import LiveSession
from avatar.conversation.terms import SessionPolicy
from avatar.conversation.tool_use import CallOutcome
from avatar.core.errors import AvatarError, EngineFailed
from avatar.core.events import ReplyAudioFrame, ReplyAudioStarted, ReplyDone, SessionEvent, TranscriptReady
from avatar.core.turns import TurnPolicy
from avatar.engines.base import ToolCall
from tests.fakes.caller import FakeCaller
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.unit.conversation import Client, Fakes, recording, talking

STEP_S = 0.05
DEEDS = "speak speak rest rest say interrupt clear trouble stop_reading read report press release".split()
ANSWERS = ["Short.", "", "😀", "It goes on, and on. " * 8, "None of it - stops at - a full stop " * 6]

CALLING_DEEDS = "speak speak rest rest rest say say interrupt trouble".split()
CALLING_ANSWERS = ["", "Short.", "Let me look."]
CALLS = [(ToolCall("c", "look", "{}"),), (ToolCall("c", "look", "no json"), ToolCall("d", "nothing", "{}"))]


class LiveCaller(FakeCaller):
    """Notes what is called for a reply that is not live: too early, or too late."""

    def __init__(self) -> None:
        super().__init__()
        self.session: LiveSession | None = None
        self.untimely: list[str] = []

    async def call(self, turn_id: str, call: ToolCall) -> CallOutcome:
        live = self.session._replies.live if self.session is not None else None
        if live is None or live.turn_id != turn_id:
            self.untimely.append(turn_id)
        return await super().call(turn_id, call)


class Chaos:
    """One talk, all of it decided by `seed`; `calls`: the model has tools called."""

    def __init__(self, seed: int, *, calls: bool = False) -> None:
        self.calls = calls
        self.dice = random.Random(seed)
        self.caller = LiveCaller()
        self.complaints: list[dict[str, Any]] = []
        self.live = self.dice.random() < 0.6
        self.fakes = Fakes(end_of_turn=FakeEndOfTurn(lambda _: self.dice.choice([0.1, 0.9]), self.some(0, 2, 9, 14)))
        self.trouble()

    def some(self, *steps: int) -> float:
        return self.dice.choice(steps) * STEP_S

    def trouble(self) -> None:
        """Change what the engines do, from here on."""
        fakes, dice = self.fakes, self.dice
        answers = CALLING_ANSWERS if self.calls else ANSWERS
        fakes.llm.replies, fakes.stt.text = dice.choice(answers), dice.choice(["hello", "hello", ""])
        fakes.stt.delay_s, fakes.tts.delay_s = self.some(0, 1, 6, 30), self.some(0, 1, 4, 10)
        fakes.llm.first_token_s, fakes.llm.token_s = self.some(0, 1, 20), self.some(0, 1, 4)
        for engine in (fakes.stt, fakes.llm, fakes.tts):
            engine.error = dice.choice([None] * 8 + [EngineFailed("broken"), RuntimeError("broken")])
            engine.hang = dice.random() < 0.05
        if self.calls:
            fakes.llm.calls, fakes.llm.always_calls = dice.choice(CALLS), dice.random() < 0.2
            self.caller.answers["look"] = dice.choice(["rain", "rain", RuntimeError("broken"), None])
            self.caller.delay_s = self.some(0, 1, 20)

    async def talk(self) -> Client:
        loop, dice = asyncio.get_running_loop(), self.dice
        loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        policy = SessionPolicy(
            reply=ReplyPolicy(2.0, 1.0, dice.choice([0.1, 0.8, 5.0])),
            turns=TurnPolicy(max_turn_ms=dice.choice([3_000, 60_000])),
            stt_timeout_s=1.0,
        )
        mode: Literal["live", "push_to_talk"] = "live" if self.live else "push_to_talk"
        async with talking(self.fakes, mode, policy, self.caller) as client:
            self.caller.session = client.session
            client.chunk_ms = dice.choice([50, 100, 300])
            for _ in range(dice.randint(1, 14)):
                with suppress(AvatarError):  # as the codec would: said, and the session lives
                    await self.do(dice.choice(CALLING_DEEDS if self.calls else DEEDS), client)
            if dice.random() < 0.5:
                await self.wait(client, 12)
            client.reading.set()
        while client.outbox._control or client.outbox._media:
            client.events.append((loop.time(), await client.outbox.get()))
        return client

    async def wait(self, client: Client, seconds: float) -> None:
        await (client.rest(seconds) if self.live else asyncio.sleep(seconds))

    async def do(self, deed: str, client: Client) -> None:
        session, seconds = client.session, self.some(*range(1, 30))
        deeds: dict[str, Callable[[], object]] = {
            "say": lambda: session.say("typed words"),
            "interrupt": session.interrupt,
            "clear": session.clear_audio,
            "trouble": self.trouble,
            "stop_reading": client.reading.clear,
            "read": client.reading.set,
            "report": lambda: self.report(client),
            "press": lambda: session.audio(recording(0.0 if self.live else seconds)),
            "release": session.end_audio,
        }
        if deed in deeds:
            deeds[deed]()
        elif deed == "speak" and self.live:
            await client.speak(seconds)
        else:
            await self.wait(client, seconds)

    def report(self, client: Client) -> None:
        for started in client.of(ReplyAudioStarted)[-1:]:
            client.session.played(getattr(started, "turn_id", ""), self.dice.uniform(0, 3000))


def check(events: list[SessionEvent]) -> set[str]:
    """One reply at a time, nothing after its end, an end for each turn that was understood; the turns that ended."""
    ended: set[str] = set()
    speaking = ""
    for event in events:
        turn_id = getattr(event, "turn_id", None)
        assert turn_id not in ended, event
        if isinstance(event, ReplyDone):
            ended.add(event.turn_id)
        elif isinstance(event, ReplyAudioStarted):
            speaking = event.turn_id
        elif isinstance(event, ReplyAudioFrame):
            assert event.turn_id == speaking
    assert {event.turn_id for event in events if isinstance(event, TranscriptReady) and event.is_final} <= ended
    return ended


@pytest.mark.parametrize(("seed", "calls"), [(seed, calls) for calls in (False, True) for seed in range(80)])
async def test_chaos(seed: int, calls: bool) -> None:
    chaos = Chaos(seed, calls=calls)
    client = await chaos.talk()
    ended = check([event for _, event in client.events])
    assert {record.id for record in client.store.saved} == ended
    assert chaos.caller.untimely == []
    assert chaos.caller.active == 0
    assert len(chaos.caller.began) <= sum(len(record.calls) for record in client.store.saved)
    gc.collect()
    assert chaos.complaints == []
