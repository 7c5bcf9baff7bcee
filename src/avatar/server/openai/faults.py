"""What is wrong with a body or an event that does not fit its model, with OpenAI's codes, names of fields and words.

For the HTTP API and for Realtime alike. Nothing of what was sent is repeated. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Path = tuple[int | str, ...]

_OF_TYPE = ("_type", "_parsing", "int_from_float")
"""How pydantic's kinds of errors end that say: this is no number, no text, …"""


@dataclass(frozen=True)
class Fault:
    """`param` is the field's path, as in `session.tools[0].name`; None: the whole."""

    code: str
    message: str
    param: str | None


def kind_of(http_status: int) -> str:
    """The `type` of an error that is answered, or would be, with this status."""
    if http_status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    return "invalid_request_error" if 400 <= http_status < 500 else "server_error"


def find_fault(errors: Sequence[Any], data: Any, prefix: str = "", *, tagged: bool = False) -> Fault:
    """The first of pydantic's `errors` about `data`, which stands at `prefix`.

    `tagged`: the model's unions have discriminators, whose values pydantic puts into its locations.
    """
    places = [(_path(error, data, tagged), error) for error in errors]
    first, _ = places[0]
    # Of a union each member complains: the one that was meant is the one that was looked into.
    path, error = max(
        (place for place in places if place[0][: len(first)] == first),
        key=lambda place: (len(place[0]), not place[1]["type"].endswith(_OF_TYPE)),
    )
    param = _dotted(prefix, path)
    code, message = _said(error["type"], error.get("ctx", {}), error["msg"], f"'{param}'" if param else "the body")
    return Fault(code, message, param or None)


def _said(kind: str, context: dict[str, Any], why: str, name: str) -> tuple[str, str]:
    """The code, and the message."""
    if kind in ("missing", "union_tag_not_found"):
        return "missing_required_parameter", f"Missing required parameter: {name}."
    if kind == "extra_forbidden":
        return "unknown_parameter", f"Unknown parameter: {name}."
    if kind == "json_invalid":
        return "invalid_json", "We could not parse the JSON body of your request."
    if kind.endswith(_OF_TYPE):
        return "invalid_type", f"Invalid type for {name}: {_lowered(why)}."
    code, what = _bound(kind, context) or (
        "invalid_value",
        f"supported values are: {context['expected_tags']}" if "expected_tags" in context else _lowered(why),
    )
    return code, f"Invalid {name}: {what}."


def _bound(kind: str, context: dict[str, Any]) -> tuple[str, str] | None:
    """A bound that was not kept."""
    number = "integer" if any(isinstance(bound, int) for bound in context.values()) else "decimal"
    match kind:
        case "greater_than_equal":
            return f"{number}_below_min_value", f"{number} below minimum value. Expected a value >= {context['ge']}"
        case "less_than_equal":
            return f"{number}_above_max_value", f"{number} above maximum value. Expected a value <= {context['le']}"
        case "string_too_long":
            most = context["max_length"]
            return "string_above_max_length", f"string too long. Expected a string with maximum length {most}"
        case "string_too_short":
            least = context["min_length"]
            return "string_below_min_length", f"string too short. Expected a string with minimum length {least}"
        case "too_long":
            most = context["max_length"]
            return "array_above_max_length", f"array too long. Expected an array with maximum length {most}"
        case "too_short":
            return "empty_array", f"empty array. Expected an array with minimum length {context['min_length']}"
    return None


def _lowered(why: str) -> str:
    return why[:1].lower() + why[1:]


def _path(error: Any, data: Any, tagged: bool) -> Path:
    """Where it is wrong, less the names of union members, which are in no document."""
    location, missing = error["loc"], error["type"] == "missing"
    path: Path = ()
    tag_seen = False
    for place, part in enumerate(location):
        is_last = place == len(location) - 1
        if tagged and not tag_seen and not is_last and isinstance(data, dict) and part == data.get("type"):
            tag_seen = True
            continue
        try:
            data = data[part]
        except (LookupError, TypeError):
            if not missing or not is_last:
                continue
        path, tag_seen = (*path, part), False
    if error["type"].startswith("union_tag"):
        path = (*path, _discriminator(str(error["ctx"]["discriminator"]), data))
    return path


def _discriminator(name: str, data: Any) -> str:
    """The field that tells the members of a union apart; of items it is two."""
    if not name.endswith("()"):
        return name.strip("'")
    return "role" if isinstance(data, dict) and data.get("type") == "message" else "type"


def _dotted(prefix: str, path: Path) -> str:
    dotted = prefix
    for part in path:
        dotted += f"[{part}]" if isinstance(part, int) else f".{part}" if dotted else part
    return dotted
