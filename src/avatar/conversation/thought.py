"""The language model's share of a reply: text for the client, clauses for the speech engine, and calls in between.

    language model -> text -> clauses
                   -> calls -> results -> language model

It knows the engine's Protocol and whatever calls tools; nothing of sound, nor of how its turn was found.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from avatar.conversation.plan import Plan, ReplyPolicy
from avatar.conversation.precedence import Precedence
from avatar.conversation.tool_use import ToolUse, cost, offer_cost
from avatar.conversation.watch import Watchdog
from avatar.core.clauses import Clause, ClauseCutter, spoken_weight
from avatar.core.errors import EngineFailed
from avatar.core.events import ReplyCallPiece, ReplyCalls, ReplyTextDelta, ReplyTextDone, SessionEvent
from avatar.core.heard import HeardText
from avatar.core.history import PROMPT_MARGIN_TOKENS
from avatar.core.trace import TurnTrace
from avatar.engines.base import LanguageModel, Message, Sampling, Tool, ToolCall, ToolCallPiece

FAST_WEIGHT_PER_S = 45
"""Text that comes this fast comes three times as fast as it is spoken (15 letters a second, 5 Chinese characters): by
the time a few words are said there is more."""


class Thought:
    """Runs once, in tasks of its reply; `text` and `trace` are shared with what speaks, and `emit` tells the client."""

    def __init__(
        self,
        turn_id: str,
        plan: Plan,
        llm: LanguageModel,
        policy: ReplyPolicy,
        precedence: Precedence,
        text: HeardText,
        trace: TurnTrace,
        emit: Callable[[SessionEvent], None],
    ) -> None:
        self.clauses: asyncio.Queue[Clause | None] = asyncio.Queue()  # bounded by the answer's own token limit
        self.tokens = 0
        self.is_cut_short = False
        self.rests_since_s = math.inf
        """When the model was done, for good or until the turn is committed."""
        self.tool_use = ToolUse(turn_id, plan.caller, llm, policy.max_tool_rounds)
        self._turn_id = turn_id
        self._plan = plan
        self._llm = llm
        self._policy = policy
        self._precedence = precedence
        self._text = text
        self._trace = trace
        self._emit = emit
        self._cutter = ClauseCutter()
        self._now = asyncio.get_running_loop().time
        self._began_at_s = self._asked_at_s = self._now()
        self._is_seam = False

    async def run(self, messages: Sequence[Message], committed: asyncio.Event) -> None:
        """Think until there is nothing more to say. Nothing is called before `committed`: it may have effects.

        Raises the engine's errors.
        """
        self._began_at_s = self._now()
        handed_on = await self._rounds(list(messages), committed)
        if not self._text.text.strip() and not handed_on:
            raise EngineFailed("The language model answered nothing. Ask again, or try another model.")
        if self._text.text:
            self._emit(ReplyTextDone(self._turn_id, self._text.text))
        self._pass_on(self._cutter.flush())
        self.clauses.put_nowait(None)
        self.rests_since_s = self._now()

    async def _rounds(self, messages: list[Message], committed: asyncio.Event) -> bool:
        """Ask, call, and ask again; whether it ended in calls that are the client's."""
        sampling = self._plan.sampling
        while True:
            said_before = len(self._text.text)
            calls, text_behind = await self._ask(messages, sampling)
            handed_on = [call for call in calls if self._is_theirs(call)]
            ours = [call for call in calls if call not in handed_on]
            if handed_on:
                told = tuple((call.id, call.name, call.arguments) for call in handed_on)
                self._emit(ReplyCalls(self._turn_id, told))
            if text_behind:
                self._take(text_behind)
            if not ours or self.tool_use.is_spent:
                return bool(handed_on)
            self._pass_on(self._cutter.flush())
            await self._until(committed)
            said = self._text.text[said_before:].strip()
            messages += await self.tool_use.make(said, ours, self._room_tokens(messages))
            if handed_on:
                return True
            sampling = replace(sampling, tool_choice="auto")

    def _is_theirs(self, call: ToolCall | ToolCallPiece) -> bool:
        """Whether it is handed on to the client, and not called here."""
        return self._plan.caller is None or any(tool.name == call.name for tool in self._plan.tools)

    async def _until(self, committed: asyncio.Event) -> None:
        self.rests_since_s = self._now()
        await committed.wait()
        self.rests_since_s = math.inf

    @property
    def tools(self) -> tuple[Tool, ...]:
        """On offer, the client's and the server's."""
        return (*self._plan.tools, *self.tool_use.offered)

    def _room_tokens(self, messages: Sequence[Message]) -> int:
        count = self._llm.count_tokens
        room = self._llm.context_tokens - self._plan.sampling.max_tokens - PROMPT_MARGIN_TOKENS
        return room - cost(messages, count) - offer_cost(self.tools, count)

    async def _ask(self, messages: Sequence[Message], sampling: Sampling) -> tuple[tuple[ToolCall, ...], str]:
        """One answer of the model: its text goes where text goes, its calls come back, and text that comes while a call
        of the client's is being written, which is to go behind it."""
        self._asked_at_s = self._now()
        self._is_seam = bool(self._text.text) and not self._text.text[-1].isspace()
        calls: tuple[ToolCall, ...] = ()
        text_behind, is_writing = "", False
        watchdog = Watchdog("language model", self._policy.first_token_timeout_s)
        stream = self._llm.stream(messages, tools=self.tools, sampling=sampling)
        async with self._precedence.working(), aclosing(watchdog.watch(stream)) as deltas:
            async for delta in deltas:
                watchdog.allow(self._policy.stall_timeout_s)
                self.is_cut_short = delta.finish_reason == "length"
                if is_writing:
                    text_behind += delta.text
                elif delta.text:
                    self._take(delta.text)
                for piece in filter(self._is_theirs, delta.call_pieces):
                    is_writing = True
                    self._emit(ReplyCallPiece(self._turn_id, piece.id, piece.name, piece.arguments))
                calls += delta.tool_calls
        return calls, text_behind

    def _take(self, text: str) -> None:
        if self._is_seam and not text[0].isspace():
            text = " " + text
        self._is_seam = False
        if not self.tokens:
            self._note_first_token()
        self.tokens += 1
        self._text.add_text(text)
        self._emit(ReplyTextDelta(self._turn_id, text))
        self._pass_on(self._cutter.push(text))
        self._hurry()

    def _note_first_token(self) -> None:
        if self._asked_at_s > self._began_at_s:
            self._trace.note("tools", self._began_at_s, self._asked_at_s)
        self._trace.note("llm_first_token", self._asked_at_s, self._now())

    def _hurry(self) -> None:
        """Begin to speak after a few words, if the rest comes faster than it is spoken."""
        if "first_clause" in self._trace:
            return
        first_token_s = self._trace.end_s("llm_first_token") or self._asked_at_s
        enough = (self._now() - first_token_s) * FAST_WEIGHT_PER_S
        if spoken_weight(self._text.text) >= enough:
            clause = self._cutter.cut_short()
            self._pass_on([clause] if clause is not None else [])

    def _pass_on(self, clauses: Sequence[Clause]) -> None:
        for clause in clauses:
            if clause.spoken and "first_clause" not in self._trace:
                self._trace.follow("first_clause", "llm_first_token", self._now())
            self.clauses.put_nowait(clause)
