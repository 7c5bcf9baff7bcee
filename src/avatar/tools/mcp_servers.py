"""MCP servers as tools: over stdio (a command of this machine) and streamable HTTP, by the official `mcp` SDK.

Owns the connections, what may be connected to, and what a call came to. A connection is made at first use, is shared by
whoever has it, and is made again after it was lost. Knows no session, no protocol of clients and no settings.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TextIO
from urllib.parse import urlsplit

from avatar.core.errors import BadMessage, EngineFailed, NotFound, Unsupported

if TYPE_CHECKING:
    from mcp import Client

logger = logging.getLogger(__name__)

MAX_RESULT_CHARS = 1 << 16
"""More of a result no context holds; the rest is cut off."""
MAX_TOOLS = 128
_CONNECTION_CLOSED = -32_000
"""The SDK's own code for a connection that went away in the middle of a call."""


@dataclass(frozen=True)
class McpServer:
    """Where a server is: a `command` with its arguments, or a `url`. `allowed_tools` empty: all of them.

    `require_approval` says when a person is asked before a call: for tools that are not read-only, or never. Whoever
    calls sees to it."""

    label: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allowed_tools: Collection[str] = ()
    timeout_s: float = 30.0
    require_approval: Literal["always", "never"] = "always"


@dataclass(frozen=True)
class McpTool:
    """A tool on offer; `parameters` is a JSON Schema object. `read_only`: the server says that it changes nothing."""

    name: str
    description: str
    parameters: dict[str, Any]
    read_only: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a call came to nothing, in the protocol's three kinds."""

    kind: Literal["tool_execution_error", "protocol_error", "http_error"]
    message: str
    code: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a call came to: text for the model, which is also told of a failure."""

    text: str = field(repr=False)
    failure: Failure | None = None


@dataclass(eq=False)
class _Link:
    """One live connection, held by a task that lets go of it after `leave`."""

    client: "Client"
    holder: "asyncio.Task[None]"
    leave: asyncio.Event
    calls: int = 0


class McpConnection:
    """One server. Whatever fails in a call is its outcome; cancelling a call tells the server."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None
        self._holders: dict[asyncio.Task[None], asyncio.Event] = {}

    async def tools(self) -> list[McpTool]:
        """Those on offer that are allowed. Raises `EngineFailed` when the server cannot be asked."""
        try:
            async with self._linked(lambda _: True) as client:
                listed = (await client.list_tools()).tools[:MAX_TOOLS]
        except (EngineFailed, Unsupported):
            raise
        except Exception as error:
            raise self._unreachable(error) from error
        tools = [
            McpTool(tool.name, tool.description or "", dict(tool.input_schema), _is_read_only(tool)) for tool in listed
        ]
        return [tool for tool in tools if self._allows(tool.name)]

    async def call(self, name: str, arguments: str) -> Outcome:
        """Call a tool with `arguments` as the model wrote them. Never twice: it may have done something."""
        if not self._allows(name):
            return _failed("protocol_error", "This tool may not be called here.", -32_601)
        try:
            given = json.loads(arguments or "{}")
        except ValueError:
            return _failed("tool_execution_error", "The arguments are not JSON.")
        if not isinstance(given, dict):
            return _failed("tool_execution_error", "The arguments are not a JSON object.")
        try:
            async with self._linked(_is_loss) as client:
                result = await client.call_tool(name, given)
        except Exception as error:
            return self._failure(error)
        text = _text(result)[:MAX_RESULT_CHARS]
        return Outcome(text, Failure("tool_execution_error", text) if result.is_error else None)

    async def aclose(self) -> None:
        """Close the connection; a server that was started ends. Idempotent, and a later call connects again."""
        async with self._connecting:
            self._link = None
            holders = dict(self._holders)
            for leave in holders.values():
                leave.set()
            if not holders:
                return
            _, pending = await asyncio.wait(holders, timeout=self.server.timeout_s)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _allows(self, name: str) -> bool:
        return not self.server.allowed_tools or name in self.server.allowed_tools

    def _failure(self, error: Exception) -> Outcome:
        from mcp.shared.exceptions import MCPError

        if isinstance(error, TimeoutError):
            return _failed("tool_execution_error", f"The tool gave nothing for {self.server.timeout_s:g} s.")
        if isinstance(error, MCPError) and not _is_loss(error):
            return _failed("protocol_error", error.error.message, error.error.code)
        logger.warning("the MCP server %s was lost: %s", self.server.label, type(error).__name__)
        return _failed("http_error", f"The MCP server {self.server.label} cannot be reached.", 502)

    @asynccontextmanager
    async def _linked(self, is_loss: Callable[[Exception], bool]) -> AsyncIterator["Client"]:
        """The connection, for `timeout_s` in all. After a loss the next to come get a new one; whoever still has a call
        on the old one keeps it, and the last to leave lets it close."""
        deadline_s = asyncio.get_running_loop().time() + self.server.timeout_s
        async with asyncio.timeout_at(deadline_s):
            link = await self._connected()
        link.calls += 1
        try:
            async with asyncio.timeout_at(deadline_s):
                yield link.client
        except Exception as error:
            if self._link is link and is_loss(error):
                self._link = None
            raise
        finally:
            link.calls -= 1
            if self._link is not link and not link.calls:
                link.leave.set()

    async def _connected(self) -> _Link:
        async with self._connecting:
            if self._link is None or self._link.holder.done():
                self._link = await self._connect()
            return self._link

    async def _connect(self) -> _Link:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        leave = asyncio.Event()
        holder = asyncio.create_task(self._hold(ready, leave), name=f"mcp {self.server.label}")
        self._holders[holder] = leave
        holder.add_done_callback(self._holders.pop)
        try:
            return _Link(await ready, holder, leave)
        except BaseException:
            leave.set()
            holder.cancel()
            raise

    async def _hold(self, ready: "asyncio.Future[Client]", leave: asyncio.Event) -> None:
        """The one task that enters the SDK's contexts and leaves them, as they demand."""
        try:
            async with _client(self.server) as client:
                if not ready.done():
                    ready.set_result(client)
                await leave.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(error if isinstance(error, Unsupported) else self._unreachable(error))
                return
            logger.debug("the MCP server %s ended: %r", self.server.label, error)

    def _unreachable(self, error: Exception) -> EngineFailed:
        logger.warning("the MCP server %s cannot be used: %s", self.server.label, type(error).__name__)
        return EngineFailed(f"The MCP server {self.server.label} cannot be reached; see that it runs.")


class McpServers:
    """The servers this installation knows, and the addresses clients may bring servers from.

    `allowed_urls`: what the address of such a server must begin with; scheme, host and port whole.
    """

    def __init__(self, servers: Sequence[McpServer], allowed_urls: Sequence[str] = ()) -> None:
        self._known = {server.label: McpConnection(server) for server in servers}
        self._allowed_urls = allowed_urls

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the servers that are known."""
        return tuple(self._known)

    def known(self, label: str) -> McpConnection:
        """The shared connection to a server. Raises `NotFound`."""
        if label not in self._known:
            raise NotFound("There is no MCP server of that label here; tools.mcp_servers lists those that are.")
        return self._known[label]

    def brought(self, server: McpServer) -> McpConnection:
        """A connection to a client's own server, to be closed with the client's. Raises `BadMessage` if not allowed."""
        if server.command or not any(_is_below(server.url, allowed) for allowed in self._allowed_urls):
            raise BadMessage("That MCP server may not be used here; tools.mcp_allowed_urls says which may.")
        return McpConnection(server)

    async def aclose(self) -> None:
        """Close every shared connection."""
        await asyncio.gather(*(connection.aclose() for connection in self._known.values()))


@asynccontextmanager
async def _client(server: McpServer) -> AsyncIterator["Client"]:
    try:
        for module in ("mcp", "mcp.client.stdio", "mcp.client.streamable_http"):  # most of a second, the first time
            await asyncio.to_thread(import_module, module)
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared._httpx_utils import create_mcp_http_client
    except ImportError:
        raise Unsupported("MCP servers want the extra `mcp`: `pip install 'avatar-voice[mcp]'`.") from None
    async with AsyncExitStack() as stack:
        if server.command:
            command, *arguments = server.command
            parameters = StdioServerParameters(command=command, args=arguments, env=dict(server.env))
            transport = stdio_client(parameters, errlog=stack.enter_context(_nowhere()))
        else:
            http = await stack.enter_async_context(create_mcp_http_client(headers=dict(server.headers)))
            transport = streamable_http_client(server.url, http_client=http)
        yield await stack.enter_async_context(Client(transport))


@contextmanager
def _nowhere() -> Iterator[TextIO]:
    """Where what a server prints of itself goes: it may hold what somebody said."""
    with open(os.devnull, "w") as nowhere:
        yield nowhere


def _failed(kind: Literal["tool_execution_error", "protocol_error", "http_error"], why: str, code: int = 0) -> Outcome:
    return Outcome(why, Failure(kind, why, code))


def _is_loss(error: Exception) -> bool:
    """Whether it was the connection that failed, and neither the tool nor its time."""
    from mcp.shared.exceptions import MCPError

    if isinstance(error, MCPError):
        return error.error.code == _CONNECTION_CLOSED
    return not isinstance(error, TimeoutError)


def _is_read_only(tool: Any) -> bool:
    return bool(tool.annotations and tool.annotations.read_only_hint)


def _text(result: Any) -> str:
    """What of a result a language model can read."""
    parts = [part.text if part.type == "text" else f"({part.type})" for part in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _is_below(url: str, allowed: str) -> bool:
    """Whether `url` is `allowed` or below it: the same scheme, host and port, and its path, up to a slash, the same."""
    ours, theirs = urlsplit(allowed), urlsplit(url)
    if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc) or ".." in theirs.path:
        return False
    path = ours.path.rstrip("/")
    return theirs.path == path or theirs.path.startswith(path + "/")
