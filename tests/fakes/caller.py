"""Tools that answer what the test says, as slowly as it says; they note what was called, and what was called off."""

import asyncio
from collections.abc import Mapping, Sequence

from avatar.conversation.tool_use import CallOutcome
from avatar.engines.base import Tool, ToolCall


class FakeCaller:
    """`answers`: tool to what it gives, an exception to be raised or (None) nothing, ever. All may be changed."""

    def __init__(self, answers: Mapping[str, str | Exception | None] | None = None, delay_s: float = 0.0) -> None:
        self.answers: dict[str, str | Exception | None] = {"look": "rain"} if answers is None else dict(answers)
        self.delay_s = delay_s
        self.began: list[tuple[float, str, ToolCall]] = []
        self.called_off: list[str] = []
        self.active = self.most_active = 0

    async def offer(self) -> Sequence[Tool]:
        return [Tool(name, f"Does {name}.", {"type": "object", "properties": {}}) for name in self.answers]

    async def call(self, turn_id: str, call: ToolCall) -> CallOutcome:
        self.began.append((asyncio.get_running_loop().time(), turn_id, call))
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            await asyncio.sleep(self.delay_s)
            if call.name not in self.answers:
                return CallOutcome("There is no such tool.", is_error=True)
            answer = self.answers[call.name]
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Exception):
                raise answer
            return CallOutcome(str(answer))
        except asyncio.CancelledError:
            self.called_off.append(call.name)
            raise
        finally:
            self.active -= 1

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [call.name for _, _, call in self.began]
