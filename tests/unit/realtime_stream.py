"""A Realtime session's events, recorded, with its conversation: what the tests of both begin with."""

from dataclasses import dataclass
from itertools import count
from typing import Any

from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.items import (
    InputText,
    UserMessage,
)
from avatar.server.realtime.responses import Response, ResponseSettings
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession
from avatar.server.realtime.session import wire as session_wire

SETTINGS = {"voice": "alloy", "format": {"type": "audio/pcm", "rate": 24_000}}


@dataclass
class Stream:
    """A session's events, recorded, with its conversation."""

    events: ServerEvents
    conversation: Conversation
    sent: list[Event]

    def respond(self, modality: Any = "audio", *, inside: bool = True) -> Response:
        response = Response(self.events, ResponseSettings(modality, SETTINGS), self.conversation if inside else None)
        self.sent += response.created()
        return response

    def user(self, text: str) -> str:
        item, before = self.conversation.create(UserMessage(content=[InputText(type="input_text", text=text)]))
        self.sent += [self.events.item_added(item, before), self.events.item_done(item, before)]
        assert item.id is not None
        return item.id


def new_stream() -> Stream:
    numbers = count()

    def mint(kind: str) -> str:
        return f"{kind}_{next(numbers)}"

    events = ServerEvents(mint)
    told = session_wire(RealtimeSession(type="realtime", model="gpt-realtime"), mint("sess"), 60)
    return Stream(events, Conversation(mint("conv"), mint), [events.session("created", told)])


class Words:
    """A word every 100 ms."""

    def __init__(self, text: str) -> None:
        self._words = text.split()
        self.duration_ms = 100.0 * len(self._words)

    def text_until(self, ms: float) -> str:
        return " ".join(self._words[: int(ms // 100)])


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]
