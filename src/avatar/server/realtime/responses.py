"""The course of one response: what is said and called goes in, the documented events come out in the documented order.

response.created
  response.output_item.added, conversation.item.added
    response.content_part.added, deltas, their dones, response.content_part.done
  response.output_item.done, conversation.item.done
response.done
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.items import (
    AssistantMessage,
    FunctionCall,
    Item,
    McpApprovalRequest,
    McpCall,
    OutputAudio,
    OutputText,
    wire,
)
from avatar.server.realtime.server_events import Event, ServerEvents

ResponseStatus = Literal["completed", "cancelled", "failed", "incomplete"]
_ItemStatus = Literal["completed", "incomplete"]
Reason = Literal["turn_detected", "client_cancelled", "max_output_tokens", "content_filter"]


@dataclass(frozen=True)
class Usage:
    """Tokens, as far as they are known."""

    input_text: int = 0
    input_audio: int = 0
    output_text: int = 0
    output_audio: int = 0

    def wire(self) -> dict[str, Any]:
        """As `response.done` tells it."""
        spent, made = self.input_text + self.input_audio, self.output_text + self.output_audio
        cached = {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0}
        return {
            "total_tokens": spent + made,
            "input_tokens": spent,
            "output_tokens": made,
            "input_token_details": {
                "text_tokens": self.input_text,
                "audio_tokens": self.input_audio,
                "image_tokens": 0,
                "cached_tokens": 0,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": self.output_text, "audio_tokens": self.output_audio},
        }


@dataclass(frozen=True)
class ResponseSettings:
    """What of a response its events tell; `audio`: format and voice."""

    modality: Literal["audio", "text"]
    audio: Mapping[str, Any]
    max_output_tokens: int | Literal["inf"] = "inf"
    metadata: Mapping[str, str] | None = None


@dataclass
class _Message:
    """The message that is being said."""

    item: AssistantMessage
    index: int
    text: str = ""
    spoken: bool = False


@dataclass
class _Call:
    """The function call that is being written."""

    item: FunctionCall
    index: int
    arguments: str = ""


@dataclass
class Response:
    """Call `created` first and `done` last. Without a `conversation` its items go nowhere but into its events."""

    events: ServerEvents
    settings: ResponseSettings
    conversation: Conversation | None
    id: str = ""
    output: list[Item] = field(default_factory=list)
    _message: _Message | None = None
    _call: _Call | None = None
    _called: set[str] = field(default_factory=set)
    _over: bool = False

    def __post_init__(self) -> None:
        self.id = self.id or self.events.mint("resp")

    def created(self) -> list[Event]:
        """The beginning."""
        return [self.events.make("response.created", response=self._wire("in_progress"))]

    @property
    def message_id(self) -> str | None:
        """Of the message that is being said."""
        return self._message.item.id if self._message else None

    # --- a message ------------------------------------------------------------------------------

    def say(self, delta: str) -> list[Event]:
        """More text: of the transcript, where there is sound."""
        message, events = self._open_message()
        message.text += delta
        kind = "output_audio_transcript" if self._speaks else "output_text"
        return [*events, self._part_event(message, f"{kind}.delta", delta=delta)]

    def sound(self, audio: str) -> list[Event]:
        """More sound, in base64."""
        message, events = self._open_message()
        message.spoken = True
        return [*events, self._part_event(message, "output_audio.delta", delta=audio)]

    def _end_message(self, status: _ItemStatus) -> list[Event]:
        message, self._message = self._message, None
        if message is None:
            return []
        item = message.item.model_copy(update={"status": status, "content": [self._content(message.text)]})
        events = [self._part_event(message, "output_audio.done")] if self._speaks else []
        kind, name = ("output_audio_transcript", "transcript") if self._speaks else ("output_text", "text")
        events += [
            self._part_event(message, f"{kind}.done", **{name: message.text}),
            self._part_event(message, "content_part.done", part=self._part(message.text)),
        ]
        return events + self._item_done(item, message.index)

    def _open_message(self) -> tuple[_Message, list[Event]]:
        if self._message is not None:
            return self._message, []
        item = AssistantMessage(id=self.events.mint("item"), status="in_progress", content=[])
        events = self.end_item() + self._item_added(item)
        self._message = _Message(item, len(self.output) - 1)
        return self._message, [*events, self._part_event(self._message, "content_part.added", part=self._part(""))]

    # --- a call ---------------------------------------------------------------------------------

    def write_call(self, call_id: str, name: str, piece: str) -> list[Event]:
        """More of a function call's arguments; the first piece begins it."""
        call, events = self._open_call(call_id, name)
        call.arguments += piece
        return [*events, self._call_event(call, "delta", delta=piece)] if piece else events

    def call(self, call_id: str, name: str, arguments: str) -> list[Event]:
        """A whole function call. What was written of it is not told again."""
        if call_id in self._called:
            return []
        call, events = self._open_call(call_id, name)
        return events + self.write_call(call_id, name, arguments[len(call.arguments) :]) + self.end_item()

    def _open_call(self, call_id: str, name: str) -> tuple[_Call, list[Event]]:
        if self._call is not None and self._call.item.call_id == call_id:
            return self._call, []
        item = FunctionCall(id=self.events.mint("item"), status="in_progress", call_id=call_id, name=name, arguments="")
        events = self.end_item() + self._item_added(item)
        self._call = _Call(item, len(self.output) - 1)
        return self._call, events

    def _end_call(self, status: _ItemStatus) -> list[Event]:
        call, self._call = self._call, None
        if call is None:
            return []
        self._called.add(call.item.call_id or "")
        done = self._call_event(call, "done", name=call.item.name, arguments=call.arguments)
        item = call.item.model_copy(update={"status": status, "arguments": call.arguments})
        return [done, *self._item_done(item, call.index)]

    def _call_event(self, call: _Call, kind: str, **fields: Any) -> Event:
        where = {"item_id": call.item.id, "output_index": call.index, "call_id": call.item.call_id}
        return self._event(f"function_call_arguments.{kind}", **where, **fields)

    def mcp_call(self, server_label: str, name: str, arguments: str, *, runs: bool) -> tuple[McpCall, list[Event]]:
        """A call to an MCP server; `runs`: now, and not only when the client agrees.

        Its item is done only when there is a result: `conversation.item.done` is told then.
        """
        item = McpCall(id=self.events.mint("mcp"), server_label=server_label, name=name, arguments="")
        events = self.end_item() + self._item_added(item)
        index = len(self.output) - 1
        where = {"item_id": item.id, "output_index": index}
        if arguments:
            events.append(self._event("mcp_call_arguments.delta", **where, delta=arguments))
        events.append(self._event("mcp_call_arguments.done", **where, arguments=arguments))
        if runs:
            events.append(self.events.make("response.mcp_call.in_progress", **where))
        self.output[index] = item = item.model_copy(update={"arguments": arguments})
        if self.conversation is not None:
            self.conversation.replace(item)
        events.append(self._event("output_item.done", output_index=index, item=wire(item)))
        return item, events

    def ask_approval(self, call: McpCall) -> tuple[str, list[Event]]:
        """The client is asked whether this call may be made; the id of the request."""
        request_id = self.events.mint("mcpr")
        item = McpApprovalRequest(
            id=request_id, server_label=call.server_label, name=call.name, arguments=call.arguments
        )
        return request_id, self._item_added(item) + self._item_done(item, len(self.output) - 1)

    # --- the end --------------------------------------------------------------------------------

    def end_item(self, status: _ItemStatus = "completed") -> list[Event]:
        """The message or call that is open is over; others may follow."""
        return self._end_message(status) + self._end_call(status)

    def done(
        self,
        status: ResponseStatus,
        usage: Usage | None = None,
        reason: Reason | None = None,
        error: Mapping[str, str] | None = None,
    ) -> list[Event]:
        """The end, once: what is unfinished is ended first. `error` (`type`, `code`, `message`) is why it failed."""
        assert not self._over, "a response ends once"
        self._over = True
        events = self.end_item("completed" if status == "completed" else "incomplete")
        details: dict[str, Any] | None = None
        if status != "completed":
            details = {"type": status} | ({"reason": reason} if reason else {}) | ({"error": error} if error else {})
        response = self._wire(status) | {"status_details": details, "usage": (usage or Usage()).wire()}
        return [*events, self.events.make("response.done", response=response)]

    # --- the parts ------------------------------------------------------------------------------

    @property
    def _speaks(self) -> bool:
        return self.settings.modality == "audio"

    def _content(self, text: str) -> OutputText | OutputAudio:
        if self._speaks:
            return OutputAudio(type="output_audio", transcript=text)
        return OutputText(type="output_text", text=text)

    def _part(self, text: str) -> dict[str, str]:
        return {"type": "audio", "transcript": text} if self._speaks else {"type": "text", "text": text}

    def _item_added(self, item: Item) -> list[Event]:
        self.output.append(item)
        index = len(self.output) - 1
        events = [self._event("output_item.added", output_index=index, item=wire(item))]
        if self.conversation is not None:
            item, before = self.conversation.create(item)
            events.append(self.events.item_added(item, before))
        return events

    def _item_done(self, item: Item, index: int) -> list[Event]:
        if self.conversation is not None:
            item = self.conversation.replace(item)  # it may have been truncated while it grew
        self.output[index] = item
        events = [self._event("output_item.done", output_index=index, item=wire(item))]
        if self.conversation is not None and (item.id or "") in self.conversation:
            events.append(self.events.item_done(item, self.conversation.previous_id(item.id or "")))
        return events

    def _event(self, kind: str, **fields: Any) -> Event:
        return self.events.make(f"response.{kind}", response_id=self.id, **fields)

    def _part_event(self, message: _Message, kind: str, **fields: Any) -> Event:
        return self._event(kind, item_id=message.item.id, output_index=message.index, content_index=0, **fields)

    def _wire(self, status: str) -> dict[str, Any]:
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": None,
            "output": [wire(item) for item in self.output],
            "conversation_id": self.conversation.id if self.conversation is not None else None,
            "output_modalities": [self.settings.modality],
            "max_output_tokens": self.settings.max_output_tokens,
            "audio": {"output": dict(self.settings.audio)},
            "usage": None,
            "metadata": dict(self.settings.metadata) if self.settings.metadata is not None else None,
        }
