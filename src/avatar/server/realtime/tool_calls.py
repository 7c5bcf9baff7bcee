"""Calls to MCP servers: made when the response that asked for them is over, once the client has agreed where it must.

As in OpenAI's service a call outlives its response: the result becomes part of the call's item, and the client, which
is told, asks for the next response. So there are as many rounds as the client wants. Knows no servers' names or keys.
"""

import asyncio
from dataclasses import dataclass

from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.items import McpApprovalResponse, McpCall
from avatar.server.realtime.state import TalkState
from avatar.server.realtime.tool_servers import Offer
from avatar.tools.mcp_servers import Failure, Outcome

MAX_RUNNING = 16
"""Calls of one session that run at a time."""


@dataclass(frozen=True)
class Called:
    """A call in a response: its item, and where that is in the response's output."""

    offer: Offer
    item: McpCall
    output_index: int


class ToolCalls:
    """Those of one session. A call ends by its connection's time-out at the latest."""

    def __init__(self, state: TalkState) -> None:
        self._state = state
        self._unapproved: dict[str, Called] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def make(self, called: Called) -> None:
        """Call. `response.mcp_call.in_progress` was told."""
        if len(self._tasks) >= MAX_RUNNING:
            self._end(called, _refused("Too many calls are running; this one was not made."))
            return
        task = asyncio.create_task(self._run(called), name="mcp_call")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def await_approval(self, request_id: str, called: Called) -> None:
        """Call when the client has agreed."""
        self._unapproved[request_id] = called

    def check(self, answer: McpApprovalResponse) -> None:
        """Raise `BadEvent` if nobody waits for that answer."""
        if answer.approval_request_id not in self._unapproved:
            raise BadEvent("invalid_value", "No approval request of that id waits.", "item.approval_request_id")

    def answered(self, answer: McpApprovalResponse) -> None:
        """The client agrees, or not. It must have passed `check`."""
        called = self._unapproved.pop(answer.approval_request_id)
        if answer.approve:
            self._tell(called, "in_progress")
            self.make(called)
        else:
            self._end(called, _refused(f"The user did not agree to this call. {answer.reason or ''}".strip()))

    async def aclose(self) -> None:
        """Leave no task behind."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, called: Called) -> None:
        outcome = await called.offer.connection.call(called.offer.tool.name, called.item.arguments)
        self._end(called, outcome)

    def _end(self, called: Called, outcome: Outcome) -> None:
        failure = outcome.failure
        came_of_it = {"output": outcome.text} if failure is None else {"error": _error(failure)}
        item = called.item.model_copy(update=came_of_it)
        self._state.conversation.replace(item)
        self._state.live.forget_prepared()
        self._tell(called, "completed" if failure is None else "failed")
        self._state.tell_done(item)

    def _tell(self, called: Called, how: str) -> None:
        where = {"item_id": called.item.id, "output_index": called.output_index}
        self._state.tell(self._state.events.make(f"response.mcp_call.{how}", **where))


def _error(failure: Failure) -> dict[str, object]:
    error: dict[str, object] = {"type": failure.kind, "message": failure.message}
    return error if failure.kind == "tool_execution_error" else error | {"code": failure.code}


def _refused(why: str) -> Outcome:
    return Outcome(why, Failure("tool_execution_error", why))
