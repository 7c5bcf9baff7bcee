"""What a client is told of an event that cannot be: the `error` event's fields, with the codes clients test for."""

from typing import Any

from pydantic import ValidationError

from avatar.core.errors import BadMessage, Problem
from avatar.server.openai.faults import find_fault, kind_of


class BadEvent(BadMessage):
    """A client's event that changes nothing; `event_id` is the client's own, once it is known."""

    def __init__(self, code: str | None, message: str, param: str | None = None, event_id: str | None = None) -> None:
        super().__init__(message)
        self.openai_code = code
        self.param = param
        self.event_id = event_id


def fields_of(error: BadEvent) -> dict[str, Any]:
    """The `error` of an `error` event."""
    return {
        "type": "invalid_request_error",
        "code": error.openai_code,
        "message": str(error),
        "param": error.param,
        "event_id": error.event_id,
    }


def fields_of_problem(problem: Problem, code: str | None = None, event_id: str | None = None) -> dict[str, Any]:
    """The same for any other problem, which may be the client's or ours."""
    return {
        "type": kind_of(problem.http_status),
        "code": code or problem.code.lower(),
        "message": problem.message,
        "param": None,
        "event_id": event_id,
    }


# --- what clients test for ----------------------------------------------------------------------


def no_active_response() -> BadEvent:
    """`response.cancel` when there is nothing to cancel."""
    return BadEvent("response_cancel_not_active", "Cancellation failed: no active response found")


def active_response(response_id: str) -> BadEvent:
    """`response.create` while another response is being made for the conversation."""
    return BadEvent(
        "conversation_already_has_active_response",
        f"Conversation already has an active response in progress: {response_id}. "
        "Wait until the response is finished before creating a new one.",
    )


def commit_empty(buffered_ms: float) -> BadEvent:
    """`input_audio_buffer.commit` with less than 100 ms in the buffer."""
    return BadEvent(
        "input_audio_buffer_commit_empty",
        "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
        f"but buffer only has {buffered_ms:.2f}ms of audio.",
    )


def duplicate_item(item_id: str | None) -> BadEvent:
    """`conversation.item.create` with the id of an item that is there. LiveKit takes it for done then."""
    return BadEvent(
        "item_create_duplicate_item_id",
        f"Error adding item: an item with id '{item_id}' is in the conversation already.",
        "item.id",
    )


def voice_is_locked() -> BadEvent:
    """A new voice after the first audio of the old one."""
    return BadEvent(
        "cannot_update_voice",
        "Cannot update a conversation's voice if assistant audio is present.",
        "session.audio.output.voice",
    )


MAX_DEPTH = 200
"""Of lists and objects within one another; pydantic reads so many itself, and writes not many more."""


def check_depth(data: Any) -> None:
    """Raise `BadEvent` for what nests deeper than anything means."""
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [value for values in inner for value in values]
    raise BadEvent("invalid_value", f"That has more than {MAX_DEPTH} lists and objects within one another.")


def explain(error: ValidationError, data: Any, prefix: str = "") -> BadEvent:
    """The first thing that is wrong with `data`; `prefix` is where `data` stands."""
    fault = find_fault(error.errors(include_url=False, include_input=False), data, prefix, tagged=True)
    return BadEvent(fault.code, fault.message, fault.param)
