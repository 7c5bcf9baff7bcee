"""The MCP servers of one Realtime session: which may be used, what they offer, and the items that tell it.

Knows nothing of calls (`tool_calls`) nor of when a model is asked.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from avatar.conversation.opening import House
from avatar.core.errors import AvatarError, BadMessage, NotFound
from avatar.engines.base import Tool as EngineTool
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.items import McpListTools
from avatar.server.realtime.state import TalkState
from avatar.server.realtime.tools import McpTool, Tool, is_allowed, needs_approval, offered_name
from avatar.tools import mcp_servers
from avatar.tools.mcp_servers import McpConnection, McpServer

MAX_SERVERS = 32
"""That one session may ever bring: each is a connection."""


@dataclass(frozen=True)
class Offer:
    """A tool of a server's, on the terms of the session or response that offers it."""

    terms: McpTool
    tool: mcp_servers.McpTool
    connection: McpConnection

    @property
    def name(self) -> str:
        """As the model calls it."""
        return offered_name(self.terms.server_label, self.tool.name)

    @property
    def needs_approval(self) -> bool:
        """Whether the client is asked before a call."""
        return needs_approval(self.terms, self.tool.name, self.tool.read_only)

    @property
    def described(self) -> EngineTool:
        """As the model is told of it."""
        return EngineTool(self.name, self.tool.description, self.tool.parameters)


@dataclass
class _Listing:
    """What one server was asked for."""

    terms: McpTool
    connection: McpConnection
    is_brought: bool
    tools: list[mcp_servers.McpTool] = field(default_factory=list)
    asking: "asyncio.Task[None] | None" = None


class ToolServers:
    """Close it with the session: servers that the client brought are then left."""

    def __init__(self, state: TalkState) -> None:
        self._state = state
        self._listings: list[_Listing] = []

    def check(self, tools: Sequence[Tool], param: str) -> None:
        """Raise `BadEvent` for servers that cannot be used here."""
        check(tools, self._state.house, param)
        new = sum(isinstance(tool, McpTool) and self._listing(tool) is None for tool in tools)
        if len(self._listings) + new > MAX_SERVERS:
            raise BadEvent("invalid_value", f"A session may use {MAX_SERVERS} MCP servers in all.", param)

    def ask(self, tools: Sequence[Tool]) -> None:
        """Find out what those servers offer that are new; items tell of it. They must have passed `check`."""
        for tool in tools:
            if isinstance(tool, McpTool) and self._listing(tool) is None:
                connection = _connection(tool, self._state.house, "tools")
                listing = _Listing(_terms(tool), connection, is_brought=tool.server_url is not None)
                self._listings.append(listing)
                item = McpListTools(id=self._state.mint("mcpl"), server_label=tool.server_label, tools=[])
                listing.asking = asyncio.create_task(self._list(listing, item), name="mcp_list_tools")
                self._tell_asked(item)

    async def asked(self, tools: Sequence[Tool]) -> None:
        """Wait until it is known what those servers offer."""
        asking = [listing.asking for tool in tools if isinstance(tool, McpTool) and (listing := self._listing(tool))]
        waited = [task for task in asking if task is not None]
        if waited:
            await asyncio.wait(waited)

    def offers(self, tools: Sequence[Tool], besides: Collection[str] = ()) -> list[Offer]:
        """What is known to be on offer in `tools`, by names that are not among `besides`."""
        offers: dict[str, Offer] = {}
        for terms in tools:
            listing = self._listing(terms) if isinstance(terms, McpTool) else None
            if listing is None or not isinstance(terms, McpTool):
                continue
            for tool in listing.tools:
                offer = Offer(terms, tool, listing.connection)
                if is_allowed(terms, tool.name, tool.read_only) and offer.name not in besides:
                    offers.setdefault(offer.name, offer)
        return list(offers.values())

    async def aclose(self) -> None:
        """Leave no task and no connection of the client's behind."""
        asking = [listing.asking for listing in self._listings if listing.asking is not None]
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        await asyncio.gather(*(listing.connection.aclose() for listing in self._listings if listing.is_brought))

    def _listing(self, tool: McpTool) -> _Listing | None:
        terms = _terms(tool)
        return next((listing for listing in self._listings if listing.terms == terms), None)

    def _tell_asked(self, item: McpListTools) -> None:
        item_, before = self._state.conversation.create(item)
        self._state.tell(
            self._state.events.item_added(item_, before),
            self._state.events.make("mcp_list_tools.in_progress", item_id=item.id),
        )

    async def _list(self, listing: _Listing, item: McpListTools) -> None:
        try:
            listing.tools = await listing.connection.tools()
            how = "completed"
        except AvatarError:  # the connection logs why
            how = "failed"
        allowed = [tool for tool in listing.tools if is_allowed(listing.terms, tool.name, tool.read_only)]
        done = item.model_copy(update={"tools": [_wire(tool) for tool in allowed]})
        self._state.conversation.replace(done)
        self._state.tell(self._state.events.make(f"mcp_list_tools.{how}", item_id=item.id))
        self._state.tell_done(done)


def check(tools: Sequence[Tool], house: House, param: str) -> None:
    """Raise `BadEvent` for servers that no session can use here."""
    labels: set[str] = set()
    for place, tool in enumerate(tools):
        if not isinstance(tool, McpTool):
            continue
        where = f"{param}[{place}]"
        if tool.server_label in labels:
            raise BadEvent("invalid_value", "Two MCP servers have that label.", f"{where}.server_label")
        labels.add(tool.server_label)
        _connection(tool, house, where)


def _connection(tool: McpTool, house: House, where: str) -> McpConnection:
    """Made, not used. Raises `BadEvent`."""
    if tool.connector_id is not None:
        raise BadEvent("unsupported_value", "There are no connectors here.", f"{where}.connector_id")
    try:
        if tool.server_url is None:
            return house.mcp.known(tool.server_label)
        headers = dict(tool.headers or {})
        if tool.authorization is not None:
            headers["Authorization"] = f"Bearer {tool.authorization}"
        return house.mcp.brought(McpServer(tool.server_label, url=tool.server_url, headers=headers))
    except (NotFound, BadMessage) as error:
        field_ = "server_label" if tool.server_url is None else "server_url"
        raise BadEvent("invalid_value", str(error), f"{where}.{field_}") from None


def _terms(tool: McpTool) -> McpTool:
    """What of a server makes it another one."""
    return tool.model_copy(update={"require_approval": None, "server_description": None})


def _wire(tool: mcp_servers.McpTool) -> dict[str, object]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.parameters,
        "annotations": {"readOnlyHint": tool.read_only},
    }
