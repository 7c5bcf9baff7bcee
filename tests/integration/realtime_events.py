"""Events of a Realtime session as a client of the tests noted them, and what a spoken turn comes to."""

from typing import Any

SPOKEN_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "conversation.item.done",
    "response.done",
]
"""Types of its events in their order, runs of one once."""


class Noted:
    """All that came, in order."""

    events: list[dict[str, Any]]

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == type_]

    @property
    def order(self) -> list[str]:
        """Types, runs of one once."""
        types = [event["type"] for event in self.events]
        return [one for one, before in zip(types, [None, *types], strict=False) if one != before]
