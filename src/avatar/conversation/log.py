"""The written side of a conversation: what the model is told, and what the store keeps.

Knows the store's records, not its tables; nothing of sockets or engines.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from avatar.conversation.reply import Outcome
from avatar.core.audio import INPUT_RATE_HZ
from avatar.core.errors import BadMessage, NotFound
from avatar.core.history import History, PastTurn
from avatar.core.trace import TurnMetrics
from avatar.store.records import Conversation, InputKind, Turn, TurnRecord


class TurnStore(Protocol):
    """What a conversation needs of the store."""

    async def create_conversation(
        self,
        *,
        title: str = "",
        language: str | None = None,
        instructions: str | None = None,
        conversation_id: str | None = None,
    ) -> Conversation: ...

    async def conversation(self, conversation_id: str) -> Conversation: ...

    async def save_turn(self, record: TurnRecord) -> Turn: ...

    async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]: ...

    async def cut_heard(self, turn_id: str, heard_text: str) -> None: ...


# More turns than any context holds are not worth loading: 4096 tokens are about a hundred short exchanges.
MAX_LOADED_TURNS = 200


class ConversationLog:
    """One conversation's history and its saving. A new one gets its row with its first turn, not before."""

    def __init__(
        self, store: TurnStore, conversation_id: str, count_tokens: Callable[[str], int], engines: Mapping[str, str]
    ) -> None:
        self.conversation_id = conversation_id
        self.history = History(count_tokens)
        self._store = store
        self._engines = engines
        self._exists = False
        self._order = asyncio.Lock()
        self._cut: dict[str, str] = {}

    async def load(self) -> None:
        """Go on with a saved conversation. Raises `NotFound`."""
        await self._store.conversation(self.conversation_id)
        turns = await self._store.recent_turns(self.conversation_id, MAX_LOADED_TURNS)
        await asyncio.to_thread(self._recall, turns)  # counting the tokens of so many takes milliseconds
        self._exists = True

    def _recall(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            too_long = turn.error_code == BadMessage.code and not turn.calls  # for the model, then as now
            if not (too_long or turn.superseded):
                self.history.add(PastTurn(turn.user_text, turn.heard_text, turn.status != "completed", turn.calls))

    def remember(self, outcome: Outcome) -> None:
        """From now on the model knows of this turn: of its reply, as much as was heard."""
        self.history.add(PastTurn(outcome.said.text, outcome.heard_text, outcome.status != "completed", outcome.calls))

    async def save(
        self,
        turn_id: str,
        kind: InputKind,
        outcome: Outcome,
        rate_hz: int,
        metrics: TurnMetrics,
        *,
        superseded: bool = False,
    ) -> None:
        """Save the turn, audio included; on return it survives a power cut. Raises `StoreError`, `NotFound`."""
        said = outcome.said
        record = TurnRecord(
            conversation_id=self.conversation_id,
            id=turn_id,
            input_kind=kind,
            status=outcome.status,
            user_text=said.text,
            user_language=said.language,
            generated_text=outcome.generated_text,
            heard_text=self._cut.get(turn_id, outcome.heard_text),
            error_code=outcome.error.code if outcome.error else None,
            timings=metrics.numbers(),
            engines=self._engines,
            calls=outcome.calls,
            superseded=superseded,
            user_audio=None if said.pcm is None else (said.pcm, INPUT_RATE_HZ),
            reply_audio=(outcome.pcm, rate_hz) if outcome.pcm.size else None,
        )
        async with self._order:
            if not self._exists:
                await self._begin(said.language)
                self._exists = True
            await self._store.save_turn(record)

    async def cut(self, turn_id: str, heard_text: str) -> None:
        """Of this turn's reply no more was heard than this, as is known now. Raises `StoreError`."""
        self._cut[turn_id] = heard_text  # it may be about to be saved
        async with self._order:
            await self._store.cut_heard(turn_id, heard_text)

    async def _begin(self, language: str | None) -> None:
        try:
            await self._store.conversation(self.conversation_id)  # by another connection of the same client
        except NotFound:
            await self._store.create_conversation(conversation_id=self.conversation_id, language=language)
