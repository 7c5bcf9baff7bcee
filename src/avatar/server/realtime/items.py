"""Items of a conversation: messages, function calls and their results, and what belongs to MCP."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from avatar.server.realtime.model import MAX_AUDIO_CHARS, Id, Strict, Text

Status = Literal["completed", "incomplete", "in_progress"]


class InputText(Strict):
    """What a user or the system wrote."""

    type: Literal["input_text"]
    text: Text


class InputAudio(Strict):
    """What a user said; `transcript` is null until it is known."""

    type: Literal["input_audio"]
    audio: Annotated[str, Field(max_length=MAX_AUDIO_CHARS)] | None = Field(None, repr=False)
    transcript: Text | None = None


class OutputText(Strict):
    """What the assistant wrote."""

    type: Literal["output_text"]
    text: Text = ""


class OutputAudio(Strict):
    """What the assistant said."""

    type: Literal["output_audio"]
    audio: Annotated[str, Field(max_length=MAX_AUDIO_CHARS)] | None = Field(None, repr=False)
    transcript: Text | None = None


class _Item(Strict):
    id: Id | None = None
    object: Literal["realtime.item"] = "realtime.item"
    status: Status = "completed"


class SystemMessage(_Item):
    """Instructions in the middle of a conversation."""

    type: Literal["message"] = "message"
    role: Literal["system"] = "system"
    content: Annotated[list[InputText], Field(max_length=64)]


class UserMessage(_Item):
    """What the user said or wrote."""

    type: Literal["message"] = "message"
    role: Literal["user"] = "user"
    content: Annotated[list[Annotated[InputText | InputAudio, Field(discriminator="type")]], Field(max_length=64)]


class AssistantMessage(_Item):
    """What the assistant said or wrote."""

    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    content: Annotated[list[Annotated[OutputText | OutputAudio, Field(discriminator="type")]], Field(max_length=64)]


class FunctionCall(_Item):
    """A function that the model wants called."""

    type: Literal["function_call"] = "function_call"
    call_id: Id | None = None
    name: Annotated[str, Field(min_length=1, max_length=128)]
    arguments: Text


class FunctionCallOutput(_Item):
    """What came of it."""

    type: Literal["function_call_output"] = "function_call_output"
    call_id: Id
    output: Text


class McpCall(Strict):
    """A call to an MCP server, and what came of it."""

    id: Id | None = None
    type: Literal["mcp_call"] = "mcp_call"
    server_label: str
    name: str
    arguments: Text
    approval_request_id: str | None = None
    output: Text | None = None
    error: dict[str, Any] | None = None


class McpListTools(Strict):
    """What an MCP server offers."""

    id: Id | None = None
    type: Literal["mcp_list_tools"] = "mcp_list_tools"
    server_label: str
    tools: list[dict[str, Any]]


class McpApprovalRequest(Strict):
    """The client is asked whether a tool may be called."""

    id: Id | None = None
    type: Literal["mcp_approval_request"] = "mcp_approval_request"
    server_label: str
    name: str
    arguments: Text


class McpApprovalResponse(Strict):
    """The client's answer."""

    id: Id | None = None
    type: Literal["mcp_approval_response"] = "mcp_approval_response"
    approval_request_id: Id
    approve: bool
    reason: Text | None = None


class ItemReference(Strict):
    """An item of the conversation, in a response's own `input`."""

    type: Literal["item_reference"]
    id: Id


Message = SystemMessage | UserMessage | AssistantMessage
Item = Message | FunctionCall | FunctionCallOutput | McpCall | McpListTools | McpApprovalRequest | McpApprovalResponse
"""Whatever is in a conversation."""


def _kind(data: Any) -> str | None:
    """What tells the kinds apart: the `type`, of messages the `role` as well."""
    if not isinstance(data, dict):
        return getattr(data, "role", None) or getattr(data, "type", None)
    kind = data.get("role") if data.get("type") == "message" else data.get("type")
    return kind if isinstance(kind, str) else None


NewItem = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[McpApprovalResponse, Tag("mcp_approval_response")],
    Discriminator(_kind),
]
"""What a client may create."""

InputItem = Annotated[
    Annotated[SystemMessage, Tag("system")]
    | Annotated[UserMessage, Tag("user")]
    | Annotated[AssistantMessage, Tag("assistant")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ItemReference, Tag("item_reference")],
    Discriminator(_kind),
]
"""What a response's own `input` may hold."""


def with_transcript(message: UserMessage, transcript: str) -> UserMessage:
    """The message, once it is known what is said in it."""
    said = {"transcript": transcript}
    parts = [part.model_copy(update=said) if isinstance(part, InputAudio) else part for part in message.content]
    return message.model_copy(update={"content": parts})


def wire(item: Item, audio: str | None = None) -> dict[str, Any]:
    """As events tell it; `audio` (base64) is told to whoever retrieves the item, in its first part of sound."""
    if isinstance(item, McpCall):
        return item.wire()  # clients look for its `output` before there is one
    told = {name: value for name, value in item.wire().items() if value is not None}
    if "content" in told:
        told["content"] = [_part(part) for part in told["content"]]
        for part in told["content"] if audio else ():
            if part["type"] in ("input_audio", "output_audio"):
                part["audio"] = audio
                break
    return told


def _part(part: dict[str, Any]) -> dict[str, Any]:
    told = (name for name, value in part.items() if value is not None or name == "transcript")
    return {name: part[name] for name in told if name != "audio"}
