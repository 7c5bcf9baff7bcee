"""The replies of one session: at most one, prepared or live, and any number of asides.

Owns how they begin and end: whoever starts another ends that one first, and the first to see that it has ended
remembers it. Knows engine Protocols; neither the microphone nor what a client may ask for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from avatar.conversation.ending import Ending
from avatar.conversation.log import ConversationLog
from avatar.conversation.outbox import Outbox
from avatar.conversation.plan import Plan, ReplyPolicy, Said
from avatar.conversation.reply import Outcome, Reply, Spoken
from avatar.conversation.terms import Conduct, Engines
from avatar.conversation.utterance import Utterance
from avatar.core.errors import ClientError
from avatar.core.events import TranscriptReady
from avatar.core.trace import Waste
from avatar.core.turn_events import ReplyBegan, ReplyEnded, ReplyHeard
from avatar.store.records import InputKind, new_id

Listen = Callable[[], Awaitable[Said]]
"""Waits for what was said."""


class Replies:
    """`tell_ears` is told of the live reply; `spawn` runs what must be waited for before the session has ended."""

    def __init__(
        self,
        engines: Engines,
        policy: ReplyPolicy,
        outbox: Outbox,
        log: ConversationLog,
        conduct: Callable[[], Conduct],
        tell_ears: Callable[[ReplyBegan | ReplyHeard | ReplyEnded], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.ending = Ending(outbox, log, engines)
        self.utterance: Utterance | None = None
        """What the live reply answers, if that was spoken."""
        self._engines = engines
        self._policy = policy
        self._outbox = outbox
        self._log = log
        self._conduct = conduct
        self._tell_ears = tell_ears
        self._spawn = spawn
        self._now = asyncio.get_running_loop().time
        self._reply: Reply | None = None
        self._asides: dict[str, Reply] = {}
        self._waste = Waste()

    @property
    def is_one(self) -> bool:
        """Whether one is prepared or live."""
        return self._reply is not None

    @property
    def live(self) -> Reply | None:
        """The one whose turn is over."""
        return self._reply if self._reply is not None and self._reply.committed else None

    # --- how they begin -------------------------------------------------------------------------

    def turn_begins(self) -> None:
        """What is dropped from now on was for this turn."""
        self._waste = Waste()

    def prepare(self, listen: Listen, turn_id: str, plan: Plan) -> None:
        """Begin on a guess that the turn is over; `commit` or `drop_prepared` follows."""
        self._reply = self._new(listen, turn_id, plan)
        self._engines.precedence.prepared(self, self.drop_prepared)

    def commit(self, turn_id: str, plan: Callable[[], Plan], endpoint_ms: float, utterance: Utterance) -> None:
        """A spoken turn is over: its prepared reply is live, or one that begins now."""
        self.interrupt()
        reply = self._reply or self._new_at_once(utterance.listen, turn_id, plan())
        self._go_live(reply, "speech", endpoint_ms, utterance)

    def begin(self, listen: Listen, plan: Callable[[], Plan], kind: InputKind) -> str:
        """Reply, in place of any other, to a turn that is over already; returns it."""
        self.interrupt()
        self.drop_prepared()
        reply = self._new_at_once(listen, new_id("turn"), plan())
        self._go_live(reply, kind)
        return reply.turn_id

    def begin_aside(self, listen: Listen, plan: Plan) -> str:
        """Reply beside the conversation; returns the turn."""
        reply = self._new_at_once(listen, new_id("turn"), plan)
        self._asides[reply.turn_id] = reply
        reply.commit(self._now(), None, Waste())
        self._spawn(self._see_aside_through(reply))
        return reply.turn_id

    def _new_at_once(self, listen: Listen, turn_id: str, plan: Plan) -> Reply:
        self._engines.precedence.make_way()
        return self._new(listen, turn_id, plan)

    def _new(self, listen: Listen, turn_id: str, plan: Plan) -> Reply:
        engines = self._engines
        return Reply(turn_id, listen, plan, engines.llm, self._policy, self._outbox, engines.precedence)

    def _go_live(
        self, reply: Reply, kind: InputKind, endpoint_ms: float | None = None, utterance: Utterance | None = None
    ) -> None:
        self._reply, self.utterance = reply, utterance
        self._engines.precedence.settled(self)
        reply.commit(self._now() - (endpoint_ms or 0.0) / 1000, endpoint_ms, self._waste if utterance else Waste())
        self._tell_ears(ReplyBegan())
        self._spawn(self._see_through(reply, kind, utterance))

    # --- what becomes of them -------------------------------------------------------------------

    def played(self, turn_id: str, played_ms: float) -> None:
        """The client's report of what it has really played. One of an older turn is of no use any more."""
        if self._reply is not None and self._reply.turn_id == turn_id:
            self._reply.report_played(played_ms)

    def sent(self, turn_id: str) -> None:
        """The socket took audio of this turn."""
        if self._reply is not None and self._reply.turn_id == turn_id:
            if not self._reply.audible:
                self._tell_ears(ReplyHeard())
            self._reply.report_sent()

    def spoken(self, turn_id: str) -> Spoken | None:
        """How the live reply, or an aside, sounds."""
        reply = self._asides.get(turn_id) or self.live
        return reply.spoken if reply is not None and reply.turn_id == turn_id else None

    # --- how they end ---------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop the live one."""
        if self.live is not None:
            self.end(self.live, self.live.interrupt())

    def cancel(self, turn_id: str) -> None:
        """Stop this one, if it is live; an aside as well."""
        if turn_id in self._asides:
            self._asides[turn_id].interrupt()
        elif self.live is not None and self.live.turn_id == turn_id:
            self.interrupt()

    def cancel_all(self) -> None:
        """Stop every one."""
        for aside in self._asides.values():
            aside.interrupt()
        self.interrupt()
        self.drop_prepared()

    def drop_prepared(self) -> None:
        """The turn goes on, or comes to something else."""
        if self._reply is not None and not self._reply.committed:
            self._engines.precedence.settled(self)
            self._waste = self._waste.plus(self._reply.tokens, self._reply.work_ms)
            self._spawn(self._reply.drop())
            self._reply = None

    def end(self, reply: Reply, outcome: Outcome) -> None:
        """The first to see that a live reply has ended remembers it, before anything else can be asked."""
        if self._reply is reply:
            self.forget()
            # more than the model can read is nothing to remind it of; what was called has happened
            if outcome.calls or not isinstance(outcome.error, ClientError):
                self._log.remember(outcome)

    def carry_on(self, reply: Reply) -> None:
        """The live one's turn is not over after all: what it becomes stands for it too."""
        reply.superseded = True
        self.forget()

    def forget(self) -> None:
        """There is none any more, and nothing of it is remembered."""
        self._reply = None
        self._tell_ears(ReplyEnded())

    async def _see_through(self, reply: Reply, kind: InputKind, utterance: Utterance | None) -> None:
        """Wait for the end of a committed reply; then remember, save and tell it, in this order."""
        outcome = await reply.outcome()
        self.end(reply, outcome)
        unheard = outcome.status == "interrupted" and not outcome.said.text
        if utterance is not None and unheard and self._conduct().each_turn_stands:
            self._spawn(self.ending.hear_out(utterance, reply.turn_id))
            return
        if utterance is not None:
            self._spawn(utterance.aclose())
        is_turn = bool(outcome.said.text) or reply.is_unasked or not isinstance(outcome.error, ClientError | None)
        if outcome.error is not None:
            self.ending.report(outcome.error, reply.turn_id if is_turn else None)
        if is_turn:
            await self.ending.conclude(reply, kind, outcome)
        elif self._conduct().each_turn_stands:  # nothing was said, or not in a way we could use
            self._outbox.put(TranscriptReady(reply.turn_id, "", is_answered=False))

    async def _see_aside_through(self, reply: Reply) -> None:
        outcome = await reply.outcome()
        del self._asides[reply.turn_id]
        if outcome.error is not None:
            self.ending.report(outcome.error, reply.turn_id)
        self.ending.tell_done(reply, outcome)
