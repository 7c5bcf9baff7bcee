"""What we send, as JSON objects; each passes `TypeAdapter(openai.types.realtime.RealtimeServerEvent)`.

Those of a response's course are made in `responses`. Knows no state.
"""

from collections.abc import Callable
from typing import Any

from avatar.server.realtime import errors
from avatar.server.realtime.items import Item, wire

Event = dict[str, Any]
Mint = Callable[[str], str]
"""Makes an id that begins with what it is given: `event`, `item`, `resp`, …"""

TRANSCRIPTION = "conversation.item.input_audio_transcription"


class ServerEvents:
    """Makes events, each with an id of its own."""

    def __init__(self, mint: Mint) -> None:
        self.mint = mint

    def make(self, type_: str, **fields: Any) -> Event:
        """Any event."""
        return {"type": type_, "event_id": self.mint("event"), **fields}

    def error(self, error: errors.BadEvent) -> Event:
        """What a client did wrong."""
        return self.make("error", error=errors.fields_of(error))

    def session(self, change: str, session: dict[str, Any]) -> Event:
        """`created` or `updated`: the session as `session.wire` tells it."""
        return self.make(f"session.{change}", session=session)

    def no_limits(self) -> Event:
        """What clients are told at the beginning of a response: here nothing is rationed."""
        return self.make("rate_limits.updated", rate_limits=[])

    # --- what is heard --------------------------------------------------------------------------

    def speech_started(self, item_id: str, audio_start_ms: float) -> Event:
        """`item_id`: of the message that this speech is going to be."""
        return self.make("input_audio_buffer.speech_started", audio_start_ms=round(audio_start_ms), item_id=item_id)

    def speech_stopped(self, item_id: str, audio_end_ms: float) -> Event:
        """The end of what `speech_started` began."""
        return self.make("input_audio_buffer.speech_stopped", audio_end_ms=round(audio_end_ms), item_id=item_id)

    def timeout_triggered(self, item_id: str, audio_start_ms: float, audio_end_ms: float) -> Event:
        """Nobody spoke for `idle_timeout_ms`."""
        times = {"audio_start_ms": round(audio_start_ms), "audio_end_ms": round(audio_end_ms)}
        return self.make("input_audio_buffer.timeout_triggered", item_id=item_id, **times)

    def committed(self, item_id: str, previous_item_id: str | None) -> Event:
        """The buffer has become a message; `item_added` and `item_done` follow."""
        return self.make("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous_item_id)

    def cleared(self) -> Event:
        """The buffer is empty."""
        return self.make("input_audio_buffer.cleared")

    def transcription_delta(self, item_id: str, delta: str) -> Event:
        """More of what was said."""
        return self.make(f"{TRANSCRIPTION}.delta", item_id=item_id, content_index=0, delta=delta)

    def transcription_completed(self, item_id: str, transcript: str, seconds: float) -> Event:
        """All that was said, in `seconds` of audio."""
        usage = {"type": "duration", "seconds": seconds}
        return self.make(
            f"{TRANSCRIPTION}.completed", item_id=item_id, content_index=0, transcript=transcript, usage=usage
        )

    def transcription_failed(self, item_id: str, code: str, message: str) -> Event:
        """It could not be understood."""
        error = {"type": "transcription_error", "code": code, "message": message, "param": None}
        return self.make(f"{TRANSCRIPTION}.failed", item_id=item_id, content_index=0, error=error)

    # --- items ----------------------------------------------------------------------------------

    def item_added(self, item: Item, previous_item_id: str | None) -> Event:
        """It is in the conversation, perhaps still growing."""
        return self.make("conversation.item.added", item=wire(item), previous_item_id=previous_item_id)

    def item_done(self, item: Item, previous_item_id: str | None) -> Event:
        """It grows no more."""
        return self.make("conversation.item.done", item=wire(item), previous_item_id=previous_item_id)

    def item_retrieved(self, item: Item, audio: str | None) -> Event:
        """All of it, sound included."""
        return self.make("conversation.item.retrieved", item=wire(item, audio))

    def item_deleted(self, item_id: str) -> Event:
        """It is gone."""
        return self.make("conversation.item.deleted", item_id=item_id)

    def item_truncated(self, item_id: str, content_index: int, audio_end_ms: int) -> Event:
        """What came after is gone, text and sound."""
        return self.make(
            "conversation.item.truncated", item_id=item_id, content_index=content_index, audio_end_ms=audio_end_ms
        )
