"""Tools on offer in a session or a response: functions of the client's, and MCP servers."""

from typing import Annotated, Literal

from pydantic import Field

from avatar.conversation.tool_use import callable_name
from avatar.server.realtime.model import Json, Strict, Text

MAX_TOOLS = 128
"""OpenAI's bound."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class FunctionTool(Strict):
    """A function that the client calls."""

    type: Literal["function"]
    name: Name
    description: Text | None = None
    parameters: Json | None = None


class ToolFilter(Strict):
    """Some of a server's tools."""

    tool_names: list[str] | None = None
    read_only: bool | None = None


class ApprovalFilter(Strict):
    """For which tools the client is asked."""

    always: ToolFilter | None = None
    never: ToolFilter | None = None


class McpTool(Strict):
    """The tools of an MCP server, which this server calls."""

    type: Literal["mcp"]
    server_label: Name
    server_url: Annotated[str, Field(max_length=2048)] | None = None
    server_description: Text | None = None
    connector_id: str | None = None
    authorization: Text | None = Field(None, repr=False)
    headers: dict[str, str] | None = Field(None, repr=False)
    allowed_tools: list[str] | ToolFilter | None = None
    require_approval: Literal["always", "never"] | ApprovalFilter | None = None
    allowed_callers: list[Literal["direct", "programmatic"]] | None = None
    defer_loading: bool | None = None
    tunnel_id: str | None = None


def offered_name(server_label: str, name: str) -> str:
    """What models know a server's tool by."""
    return callable_name(f"{server_label}-{name}")


def is_allowed(server: McpTool, name: str, read_only: bool) -> bool:
    """Whether a tool of an MCP server is on offer."""
    allowed = server.allowed_tools
    if isinstance(allowed, ToolFilter):
        return _is_meant(allowed, name, read_only)
    return allowed is None or name in allowed


def needs_approval(server: McpTool, name: str, read_only: bool) -> bool:
    """Whether the client is asked before a tool is called: always, unless the session says otherwise."""
    rule = server.require_approval
    if not isinstance(rule, ApprovalFilter):
        return rule != "never"
    return not (rule.never is not None and _is_meant(rule.never, name, read_only)) or (
        rule.always is not None and _is_meant(rule.always, name, read_only)
    )


def _is_meant(tools: ToolFilter, name: str, read_only: bool) -> bool:
    named = tools.tool_names is None or name in tools.tool_names
    return named and (tools.read_only is None or tools.read_only == read_only)


Tool = Annotated[FunctionTool | McpTool, Field(discriminator="type")]


class ChosenFunction(Strict):
    """The function that must be called."""

    type: Literal["function"]
    name: Name


class ChosenMcp(Strict):
    """The MCP server, or its tool, that must be called."""

    type: Literal["mcp"]
    server_label: Name
    name: str | None = None


ToolChoice = Literal["auto", "none", "required"] | Annotated[ChosenFunction | ChosenMcp, Field(discriminator="type")]
