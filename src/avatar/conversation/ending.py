"""How turns end: saved, logged and told, in this order.

Knows the log, the outbox and replies that are over; nothing of what comes after them.
"""

import asyncio
import logging

from avatar.conversation import telemetry
from avatar.conversation.log import ConversationLog
from avatar.conversation.outbox import Outbox
from avatar.conversation.reply import Outcome, Reply
from avatar.conversation.terms import Engines
from avatar.conversation.utterance import Utterance
from avatar.core.errors import AvatarError, StoreError, describe
from avatar.core.events import ErrorOccurred, ReplyDone, TranscriptReady
from avatar.core.trace import TurnMetrics
from avatar.store.records import InputKind

logger = logging.getLogger(__name__)


class Ending:
    """Of the turns of one session."""

    def __init__(self, outbox: Outbox, log: ConversationLog, engines: Engines) -> None:
        self._outbox = outbox
        self._log = log
        self._engines = engines
        self._now = asyncio.get_running_loop().time

    async def conclude(self, reply: Reply, kind: InputKind, outcome: Outcome) -> None:
        """Save the turn of a reply that is over, and tell the client that it is."""
        metrics = reply.metrics
        try:
            await self._log.save(reply.turn_id, kind, outcome, reply.rate_hz, metrics, superseded=reply.superseded)
        except Exception as error:  # whatever it was: the client must hear how the turn ended
            logger.error("turn %s was not saved", reply.turn_id, exc_info=error)
            self.report(StoreError(f"This turn was not saved: {describe(error).message}"), reply.turn_id)
        _log_turn(reply.turn_id, outcome, metrics)
        self.tell_done(reply, outcome)
        age_ms = (self._now() - reply.voice_ended_at_s) * 1000
        ids = reply.turn_id, self._log.conversation_id
        telemetry.emit(*ids, outcome.status, self._engines.names(), metrics, age_ms)

    def tell_done(self, reply: Reply, outcome: Outcome) -> None:
        """Nothing more of this reply follows."""
        self._outbox.put(
            ReplyDone(reply.turn_id, outcome.status, outcome.heard_text, reply.metrics, reply.is_cut_short)
        )

    def report(self, error: AvatarError, turn_id: str | None) -> None:
        """Tell the client what went wrong."""
        self._outbox.put(ErrorOccurred(describe(error), turn_id))

    async def hear_out(self, utterance: Utterance, turn_id: str) -> None:
        """A turn that is not answered by itself."""
        try:
            self._outbox.put(TranscriptReady(turn_id, (await utterance.listen()).text, is_answered=False))
        except AvatarError as error:
            self.report(error, turn_id)
        finally:
            await utterance.aclose()


def _log_turn(turn_id: str, outcome: Outcome, metrics: TurnMetrics) -> None:
    logger.info(
        "turn %s %s: voice-to-voice %s ms (endpoint %s, stt %s, llm %s, tts %s)",
        turn_id,
        outcome.status,
        metrics.voice_to_voice_ms,
        metrics.endpoint_ms,
        metrics.stt_ms,
        metrics.llm_ttft_ms,
        metrics.tts_ttfa_ms,
    )
