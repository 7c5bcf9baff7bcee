"""The conversation: its items in order, and the prompt that they are."""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

from avatar.engines.base import Message, ToolCall
from avatar.server.realtime import errors
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.formats import AudioFormat
from avatar.server.realtime.items import (
    AssistantMessage,
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputItem,
    InputText,
    Item,
    ItemReference,
    McpCall,
    OutputAudio,
    OutputText,
    SystemMessage,
    UserMessage,
    with_transcript,
)
from avatar.server.realtime.server_events import Mint
from avatar.server.realtime.sounds import Sounds
from avatar.server.realtime.tools import offered_name

ROOT = "root"
"""The `previous_item_id` of what is to be first."""


class Spoken(Protocol):
    """What is known of the sound of an assistant's message."""

    @property
    def duration_ms(self) -> float:
        """Of all that was sent."""
        ...

    def text_until(self, ms: float) -> str:
        """What had been said by then."""
        ...


class Conversation:
    """Items by id, in order. A method that raises `BadEvent` has changed nothing."""

    def __init__(self, conversation_id: str, mint: Mint) -> None:
        self.id = conversation_id
        self.sounds = Sounds()
        self._mint = mint
        self._order: list[str] = []
        self._items: dict[str, Item] = {}
        self._spoken: dict[str, Spoken] = {}
        self._truncated: set[str] = set()

    @property
    def items(self) -> Sequence[Item]:
        """All of them, in order."""
        return [self._items[item_id] for item_id in self._order]

    @property
    def last_id(self) -> str | None:
        """Of the last item."""
        return self._order[-1] if self._order else None

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def previous_id(self, item_id: str) -> str | None:
        """Of the item before this one."""
        place = self._order.index(item_id)
        return self._order[place - 1] if place else None

    def create(
        self, item: Item, previous_item_id: str | None = None, *, by_client: bool = False
    ) -> tuple[Item, str | None]:
        """Put `item` after the one named, first (`ROOT`), or last; give it an id if it has none.

        Returns it and the id of the one before it.
        """
        if item.id in self._items:
            raise errors.duplicate_item(item.id)
        if isinstance(item, FunctionCallOutput) and not self._has_call(item.call_id):
            raise BadEvent("invalid_tool_call_id", "Tool call ID not found in conversation.", "item.call_id")
        place = self._place_after(previous_item_id)
        item_id = item.id or self._mint("item")
        update = {"id": item_id}
        if by_client and getattr(item, "status", None) == "in_progress":
            update["status"] = "completed"  # nothing is going to complete it
        if isinstance(item, FunctionCall) and item.call_id is None:
            update["call_id"] = self._mint("call")
        item = item.model_copy(update=update)
        self._order.insert(place, item_id)
        self._items[item_id] = item
        return item, self._order[place - 1] if place else None

    def replace(self, item: Item) -> Item:
        """A newer state of an item that is there; what was deleted or truncated meanwhile does not come back.

        Returns the item as it is now.
        """
        item_id = item.id or ""
        if item_id in self._truncated:
            item = item.model_copy(update={"content": getattr(self._items[item_id], "content", [])})
        if item_id in self._items:
            self._items[item_id] = item
        return item

    def note_transcript(self, item_id: str, transcript: str) -> None:
        """What was said in a user's spoken message, if that is there still."""
        item = self._items.get(item_id)
        if isinstance(item, UserMessage):
            self._items[item_id] = with_transcript(item, transcript)

    def note_sound(self, item_id: str | None, form: AudioFormat, data: bytes) -> None:
        """More sound of an item, if that is there still and was not truncated."""
        if item_id is not None and data and item_id in self._items and item_id not in self._truncated:
            self.sounds.add(item_id, form, data)

    def note_spoken(self, item_id: str, spoken: Spoken) -> None:
        """How an assistant's message sounds: without this it cannot be truncated."""
        self._spoken[item_id] = spoken

    def sound_ms(self, item_id: str) -> float | None:
        """How long an assistant's message sounds; None if it cannot be truncated."""
        spoken = self._spoken.get(item_id)
        return spoken.duration_ms if spoken is not None else None

    def retrieve(self, item_id: str) -> Item:
        """The item. Raises `BadEvent`."""
        return self._found(item_id, "item_retrieve_invalid_item_id", "retrieving")

    def delete(self, item_id: str) -> None:
        """Take the item out. Raises `BadEvent`."""
        self._found(item_id, "item_delete_invalid_item_id", "deleting")
        self._order.remove(item_id)
        del self._items[item_id]
        self._spoken.pop(item_id, None)
        self.sounds.forget(item_id)
        self._truncated.discard(item_id)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> str:
        """Of an assistant's spoken message, forget what was not heard by `audio_end_ms`; returns what was.

        Raises `BadEvent`: for another item, another part, or an end beyond its end.
        """
        item = self._found(item_id, "item_truncate_invalid_item_id", "truncating")
        spoken = self._spoken.get(item_id)
        if not isinstance(item, AssistantMessage) or spoken is None:
            raise BadEvent("unsupported_content_type", "Only model output audio messages can be truncated", "item_id")
        parts = list(item.content) or [OutputAudio(type="output_audio")]  # it may be growing still
        if content_index >= len(parts):
            raise BadEvent("invalid_value", "The item has no content part of that index.", "content_index")
        if audio_end_ms > spoken.duration_ms:
            raise BadEvent(
                "invalid_value",
                f"Audio content of {spoken.duration_ms:.0f}ms is already shorter than {audio_end_ms}ms",
                "audio_end_ms",
            )
        heard = spoken.text_until(audio_end_ms)
        parts[content_index] = OutputAudio(type="output_audio", transcript=heard)
        self._items[item_id] = item.model_copy(update={"content": parts})
        self._truncated.add(item_id)
        self.sounds.cut(item_id, audio_end_ms)
        return heard

    def _found(self, item_id: str, code: str, doing: str) -> Item:
        if item_id not in self._items:
            raise BadEvent(code, f"Error {doing} item: the item with that id does not exist.", "item_id")
        return self._items[item_id]

    def _has_call(self, call_id: str) -> bool:
        return any(isinstance(item, FunctionCall) and item.call_id == call_id for item in self._items.values())

    def _place_after(self, previous_item_id: str | None) -> int:
        if previous_item_id is None:
            return len(self._order)
        if previous_item_id == ROOT:
            return 0
        if previous_item_id not in self._items:
            raise BadEvent(
                "item_create_invalid_previous_item_id",
                "Error creating item: the previous item does not exist.",
                "previous_item_id",
            )
        return self._order.index(previous_item_id) + 1

    def resolve(self, items: Sequence[InputItem]) -> list[Item]:
        """A response's own `input`, references looked up. Raises `BadEvent`."""
        for place, item in enumerate(items):
            if isinstance(item, ItemReference) and item.id not in self._items:
                raise BadEvent("invalid_value", "There is no item of that id.", f"response.input[{place}].id")
        return [self._items[item.id] if isinstance(item, ItemReference) else item for item in items]

    def text_of(self, item_id: str) -> str:
        """What is said or written in a message; nothing, if it is not there."""
        item = self._items.get(item_id)
        return _words(item) if isinstance(item, SystemMessage | UserMessage | AssistantMessage) else ""

    def latest(self, item: Item) -> Item:
        """An item of the conversation as it is now, or was last."""
        return self._items.get(item.id or "", item)


# --- the prompt ---------------------------------------------------------------------------------


def prompt(instructions: str, items: Sequence[Item]) -> list[Message]:
    """What a language model is asked. Calls without a result, and results without a call, are left out: chat templates
    have no place for either."""
    results = {item.call_id for item in items if isinstance(item, FunctionCallOutput)}
    calls = {item.call_id for item in items if isinstance(item, FunctionCall)} & results
    messages = [Message("system", instructions)] if instructions else []
    for are_calls, group in groupby(items, lambda item: isinstance(item, FunctionCall | McpCall)):
        if are_calls:
            _add_calls(messages, [made for item in group if (made := _made(item, calls))])
        else:
            messages += [message for item in group if (message := _message(item, calls))]
    return messages


def _made(item: Item, calls: set[str | None]) -> tuple[ToolCall, str | None] | None:
    """A call, and its result unless that is an item of its own; None: there is no result."""
    if isinstance(item, FunctionCall) and item.call_id in calls:
        return ToolCall(item.call_id or "", item.name, item.arguments), None
    if isinstance(item, McpCall) and (item.output is not None or item.error is not None):
        call = ToolCall(item.id or "", offered_name(item.server_label, item.name), item.arguments)
        return call, item.output if item.error is None else f"Failed: {item.error['message']}"
    return None


def _add_calls(messages: list[Message], made: Sequence[tuple[ToolCall, str | None]]) -> None:
    """Parallel calls are one message, together with what was said before them."""
    if not made:
        return
    said = messages.pop().content if messages and messages[-1].role == "assistant" else ""
    messages.append(Message("assistant", said, tuple(call for call, _ in made)))
    messages += [Message("tool", result, tool_call_id=call.id) for call, result in made if result is not None]


def _message(item: Item, calls: set[str | None]) -> Message | None:
    if isinstance(item, SystemMessage | UserMessage | AssistantMessage):
        text = _words(item)
        return Message(item.role, text) if text else None
    if isinstance(item, FunctionCallOutput) and item.call_id in calls:
        return Message("tool", item.output, tool_call_id=item.call_id)
    return None


def _words(item: SystemMessage | UserMessage | AssistantMessage) -> str:
    return " ".join(text for part in item.content if (text := _text(part)))


def _text(part: InputText | InputAudio | OutputText | OutputAudio) -> str:
    return part.text if isinstance(part, InputText | OutputText) else part.transcript or ""
