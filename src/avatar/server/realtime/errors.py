"""What a client is told of an event that cannot be: the `error` event's fields, with the codes clients test for."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from avatar.core.errors import BadMessage, Problem

Path = Sequence[int | str]


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
    """The same for what went wrong on our side."""
    told = code or problem.code.lower()
    return {"type": "server_error", "code": told, "message": problem.message, "param": None, "event_id": event_id}


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


# --- from validation ----------------------------------------------------------------------------

_CODES = {
    "missing": "missing_required_parameter",
    "union_tag_not_found": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "string_too_long": "string_above_max_length",
    "string_too_short": "string_below_min_length",
    "too_long": "array_above_max_length",
}


def explain(error: ValidationError, data: Any, prefix: str = "") -> BadEvent:
    """The first thing that is wrong with `data`, of which nothing is repeated; `prefix` is where `data` stands."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    path = _path(first["loc"], data, kind == "missing")
    if kind.startswith("union_tag"):
        path = [*path, _discriminator(str(context["discriminator"]), data, path)]
    param = _dotted(prefix, path)
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    return BadEvent(code, _message(code, param, first["msg"], context.get("expected_tags")), param)


def _message(code: str, param: str, why: str, known: str | None) -> str:
    if code == "missing_required_parameter":
        return f"Missing required parameter: '{param}'."
    if code == "unknown_parameter":
        return f"Unknown parameter: '{param}'."
    return f"Invalid '{param}': {f'supported values are: {known}' if known else why[:1].lower() + why[1:]}."


def _path(location: Path, data: Any, missing: bool) -> list[int | str]:
    """`location` less the names of union members, which are in no document; the last part may be what is `missing`."""
    path: list[int | str] = []
    for place, part in enumerate(location):
        try:
            data = data[part]
        except (LookupError, TypeError):
            if not missing or place < len(location) - 1:
                continue
        path.append(part)
    return path


def _discriminator(name: str, data: Any, path: Path) -> str:
    """The field that tells the members of a union apart; of items it is two."""
    if not name.endswith("()"):
        return name.strip("'")
    for part in path:
        data = data[part]
    return "role" if isinstance(data, dict) and data.get("type") == "message" else "type"


def _dotted(prefix: str, path: Path) -> str:
    dotted = prefix
    for part in path:
        dotted += f"[{part}]" if isinstance(part, int) else f".{part}" if dotted else part
    return dotted
