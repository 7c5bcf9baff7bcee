"""What the parts of a session share: its settings, its conversation, and the way to its client."""

from collections.abc import Callable
from dataclasses import dataclass

from avatar.conversation.opening import VOICE_FALLBACK, House
from avatar.conversation.session import LiveSession
from avatar.core.errors import Problem
from avatar.server.realtime import errors
from avatar.server.realtime.conversation import Conversation
from avatar.server.realtime.items import Item
from avatar.server.realtime.server_events import Event, ServerEvents
from avatar.server.realtime.session import RealtimeSession, SemanticVad, ServerVad, Session


@dataclass
class TalkState:
    """One session's. `settings` is replaced by each `session.update`."""

    settings: Session
    live: LiveSession
    house: House
    events: ServerEvents
    conversation: Conversation
    send: Callable[[Event], None]

    def tell(self, *events: Event) -> None:
        """Send events, in order."""
        for event in events:
            self.send(event)

    def tell_fallback(self, why: str) -> None:
        """Another voice speaks than the one that was asked for."""
        problem = Problem(VOICE_FALLBACK, why, 200, fatal=False)
        self.tell(self.events.make("error", error=errors.fields_of_problem(problem)))

    def tell_done(self, item: Item) -> None:
        """An item that was growing is complete; nothing, if it was deleted meanwhile."""
        if item.id is not None and item.id in self.conversation:
            self.tell(self.events.item_done(item, self.conversation.previous_id(item.id)))

    def mint(self, kind: str) -> str:
        """An id."""
        return self.events.mint(kind)

    @property
    def detection(self) -> ServerVad | SemanticVad | None:
        """How turns are found; None: the client says where they end."""
        return self.settings.audio.input.turn_detection

    @property
    def answers_turns(self) -> bool:
        """Whether each turn is answered by itself."""
        is_realtime = isinstance(self.settings, RealtimeSession)
        return is_realtime and self.detection is not None and self.detection.create_response
