"""The tools of one session: those of this installation's MCP servers, and those the client brought and calls itself.

Owns their names, the wait for a person's leave to call, the wait for a client's result, and what the client is told of
each call: one `ToolCalled`, then one `ToolReturned`. Knows no wire, and no reply.
"""

import asyncio
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from avatar.conversation.outbox import Outbox
from avatar.conversation.terms import ToolPolicy
from avatar.conversation.tool_use import CallOutcome, callable_name, warn_once
from avatar.core.errors import AvatarError, NotFound, Problem, describe
from avatar.core.events import ErrorOccurred, ToolCalled, ToolReturned
from avatar.engines.base import Tool, ToolCall
from avatar.tools.mcp_servers import MAX_TOOLS, McpConnection, McpServers, McpTool

T = TypeVar("T")

TOOLS_UNAVAILABLE = "TOOLS_UNAVAILABLE"
"""Code of the message that the tools of a server cannot be had."""
LISTING_S = 3.0
"""So long after it began a session's first reply waits for servers to say what they offer; then it does without."""
ASK_AGAIN_S = 10.0
"""So long a server that could not be asked is left alone: tools are wanted several times a second while one speaks."""

INTERRUPTED = "Interrupted."
NO_SUCH_TOOL = CallOutcome("There is no tool of that name.", is_error=True)
REFUSED = CallOutcome("Not called: the user does not want it.", is_error=True)
NOT_APPROVED = CallOutcome("Not called: the user was asked for leave and did not answer in time.", is_error=True)
NOT_ANSWERED = CallOutcome("The user's device gave no result in time.", is_error=True)


@dataclass(frozen=True)
class _Offer:
    """A tool by the name the model knows; without a connection it is the client's own."""

    tool: Tool
    connection: McpConnection | None = None
    original: McpTool | None = None

    @property
    def server(self) -> str | None:
        return self.connection.server.label if self.connection else None

    @property
    def needs_approval(self) -> bool:
        """A server's word that a tool changes nothing is believed: whoever runs this installation chose the server."""
        if self.connection is None or self.original is None:
            return False
        return self.connection.server.require_approval == "always" and not self.original.read_only


class Toolbox:
    """A `Caller`. It begins to ask the servers at once; close it with the session."""

    def __init__(self, servers: McpServers, own: Sequence[Tool], policy: ToolPolicy, outbox: Outbox) -> None:
        self._servers = servers
        self._own = own
        self._policy = policy
        self._outbox = outbox
        self._now = asyncio.get_running_loop().time
        self._patient_until_s = self._now() + LISTING_S
        self._listings: dict[str, asyncio.Task[list[McpTool] | None]] = {}
        self._ask_at_s: dict[str, float] = {}
        self._complained: set[str] = set()
        self._offers: dict[str, _Offer] = {}
        self._approvals: dict[str, asyncio.Future[bool]] = {}
        self._results: dict[str, asyncio.Future[CallOutcome]] = {}
        self._begun: set[str] = set()
        self._ask_servers()

    # --- what there is --------------------------------------------------------------------------

    async def offer(self) -> Sequence[Tool]:
        """The client's tools, and those of the servers that have answered."""
        self._ask_servers()
        waited = [listing for listing in self._listings.values() if not listing.done()]
        patience_s = self._patient_until_s - self._now()
        if waited and patience_s > 0:
            await asyncio.wait(waited, timeout=patience_s)
        self._offers = {tool.name: _Offer(tool) for tool in self._own}
        for label, listing in self._listings.items():
            for tool in (listing.result() if listing.done() else None) or ():
                self._add(self._servers.known(label), tool)
        return [offer.tool for offer in self._offers.values()]

    def _ask_servers(self) -> None:
        """Those that have not been asked, and from time to time those that could not answer."""
        for label in self._servers.labels:
            if self._now() >= self._ask_at_s.get(label, 0.0):
                self._ask_at_s[label] = math.inf
                self._listings[label] = asyncio.create_task(self._list(label), name=f"tools of {label}")

    async def _list(self, label: str) -> list[McpTool] | None:
        try:
            return await self._servers.known(label).tools()
        except AvatarError as error:
            self._ask_at_s[label] = self._now() + ASK_AGAIN_S
            if label not in self._complained:
                self._complained.add(label)
                problem = Problem(TOOLS_UNAVAILABLE, describe(error).message, 200, fatal=False)
                self._outbox.put(ErrorOccurred(problem))
            return None

    def _add(self, connection: McpConnection, tool: McpTool) -> None:
        """By its own name; by its server's and its own if the former is taken."""
        label = connection.server.label
        names = (callable_name(tool.name), callable_name(f"{label}-{tool.name}"))
        name = next((name for name in names if name not in self._offers), "")
        if not name or len(self._offers) >= MAX_TOOLS:
            warn_once("the MCP server %s has more tools than can be offered", label)
            return
        self._offers[name] = _Offer(Tool(name, tool.description, tool.parameters), connection, tool)

    # --- calls ----------------------------------------------------------------------------------

    async def call(self, turn_id: str, call: ToolCall) -> CallOutcome:
        """Have a tool called, with leave where that is needed; the client is told. As in `Caller`."""
        offer = self._offers.get(call.name)
        if offer is None:
            return NO_SUCH_TOOL
        call_id = f"call_{secrets.token_urlsafe(12)}"  # models use the same one again and again
        self._begun.add(call_id)
        name = offer.original.name if offer.original else call.name
        self._outbox.put(ToolCalled(turn_id, call_id, name, call.arguments, offer.server, offer.needs_approval))
        outcome = CallOutcome(INTERRUPTED, is_error=True)
        try:
            outcome = await self._called(call_id, offer, call)
        finally:
            self._outbox.put(ToolReturned(turn_id, call_id, outcome.text, outcome.is_error))
        return outcome

    async def _called(self, call_id: str, offer: _Offer, call: ToolCall) -> CallOutcome:
        if offer.connection is None or offer.original is None:
            return await self._answer(self._results, call_id, self._policy.client_timeout_s) or NOT_ANSWERED
        if offer.needs_approval:
            approved = await self._answer(self._approvals, call_id, self._policy.approval_timeout_s)
            if not approved:
                return NOT_APPROVED if approved is None else REFUSED
        outcome = await offer.connection.call(offer.original.name, call.arguments)
        return CallOutcome(outcome.text, outcome.failure is not None)

    async def _answer(self, waiting: "dict[str, asyncio.Future[T]]", call_id: str, seconds: float) -> T | None:
        """What the client says to a call; None if it says nothing."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting[call_id] = answer
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            return None
        finally:
            del waiting[call_id]

    def approve(self, call_id: str, approve: bool) -> None:
        """A person lets a call be made, or not. Too late, nothing happens. Raises `NotFound` for no call of ours."""
        self._settle(self._approvals, call_id, approve)

    def result(self, call_id: str, text: str, is_error: bool) -> None:
        """What came of a call to one of the client's tools. As in `approve`."""
        self._settle(self._results, call_id, CallOutcome(text, is_error))

    def _settle(self, waiting: "dict[str, asyncio.Future[T]]", call_id: str, answer: T) -> None:
        if call_id not in self._begun:
            raise NotFound("There is no call of that id in this session.")
        if call_id in waiting and not waiting[call_id].done():
            waiting[call_id].set_result(answer)

    async def aclose(self) -> None:
        """Leave no task behind. The servers are others' as well."""
        for listing in self._listings.values():
            listing.cancel()
        if self._listings:
            await asyncio.wait(self._listings.values())
