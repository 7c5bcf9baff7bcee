"""The prompt of a reply is read while its user still speaks, so that its first word comes sooner.

Nothing is generated, told or kept: this only warms the engine. Knows plans and the engine's Protocol; neither
microphone nor session.
"""

import asyncio
import logging

from avatar.conversation.plan import Plan
from avatar.conversation.precedence import Precedence, stopped
from avatar.conversation.tool_use import on_offer
from avatar.conversation.watch import within
from avatar.core.errors import AvatarError
from avatar.engines.base import LanguageModel, ReadsAhead

logger = logging.getLogger(__name__)

READ_S = 20.0
"""Nobody speaks for so long that it would be worth more."""


class ReadingAhead:
    """One session's: a prompt at a time, and of those that come meanwhile the last."""

    def __init__(self, llm: LanguageModel, precedence: Precedence) -> None:
        """Does nothing with an engine that is no `ReadsAhead`."""
        self._llm = llm
        self._precedence = precedence
        self._next: tuple[Plan, str] | None = None
        self._task: asyncio.Task[None] | None = None

    def read(self, plan: Plan, words: str) -> None:
        """`words` are what is known of the user's, right or wrong. Passed over while the model is at work on a reply,
        anybody's; stopped by the next one."""
        if not isinstance(self._llm, ReadsAhead) or not self._precedence.is_idle:
            return
        self._next = (plan, words)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._read_all(self._llm), name="reading ahead")
            self._precedence.reads(self._task)

    async def aclose(self) -> None:
        """Stop, and wait until the engine has let go."""
        if self._task is not None and not self._task.done():
            await stopped([self._task])

    async def _read_all(self, llm: ReadsAhead) -> None:
        while self._next is not None:
            (plan, words), self._next = self._next, None
            try:
                offered = await on_offer(plan.caller, self._llm)
                messages = plan.prompt(words, offered)
                reading = llm.read_ahead(messages, tools=(*plan.tools, *offered), sampling=plan.sampling)
                await within(READ_S, reading, "language model")
            except AvatarError as error:  # the reply will tell
                logger.debug("a prompt could not be read ahead (%s)", type(error).__name__)
