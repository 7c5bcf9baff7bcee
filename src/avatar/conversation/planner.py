"""How replies are made in a conversation that is remembered here: the prompt from its log, the rest from its client.

Knows no session; realtime sessions, whose clients keep the conversation themselves, plan for themselves.
"""

from collections.abc import Sequence

from avatar.conversation.log import ConversationLog
from avatar.conversation.plan import Plan, ReplyPolicy, Speaker
from avatar.conversation.terms import Engines, SessionOptions
from avatar.conversation.tool_use import Caller, message_of, offer_cost
from avatar.core.history import PROMPT_MARGIN_TOKENS
from avatar.engines.base import Message, Tool

RESULTS_SHARE = 0.25
"""Of the context, kept free for what tools give while there are any."""


class Planner:
    """Makes the plans of one session; `caller` is what the model may have called."""

    def __init__(self, engines: Engines, policy: ReplyPolicy, log: ConversationLog, caller: Caller | None) -> None:
        self._engines = engines
        self._policy = policy
        self._log = log
        self._caller = caller

    def plan(self, options: SessionOptions) -> Plan:
        """For a turn that begins now."""

        def prompt(user_text: str, tools: Sequence[Tool]) -> list[Message]:
            lines = self._log.history.prompt(options.instructions, user_text, self._room_tokens(tools))
            return [message_of(line) for line in lines]

        speaker = Speaker(self._engines.tts, options.voice, options.language, options.output_rate_hz)
        return Plan(prompt, speaker, self._policy.sampling, caller=self._caller)

    def _room_tokens(self, tools: Sequence[Tool]) -> int:
        llm = self._engines.llm
        room = llm.context_tokens - self._policy.sampling.max_tokens - PROMPT_MARGIN_TOKENS
        if not tools:
            return room
        return room - offer_cost(tools, llm.count_tokens) - int(llm.context_tokens * RESULTS_SHARE)
