"""The base of every object of the protocol, and the bounds they share."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_TEXT_CHARS = 1 << 18
"""Of instructions, a message, a tool's result: more than any context holds."""
MAX_AUDIO_CHARS = (15 << 20) * 4 // 3
"""15 MiB of audio in base64, as the protocol says."""
MAX_EVENT_BYTES = MAX_AUDIO_CHARS + (1 << 16)
"""Such audio and what is around it."""


class Strict(BaseModel):
    """Unknown fields and values of another type are refused, as OpenAI's server does."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def wire(self) -> dict[str, Any]:
        """As JSON has it, nulls included."""
        return self.model_dump(mode="json")


Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Id = Annotated[str, Field(min_length=1, max_length=64)]


def _writable(data: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        raise PydanticCustomError("json", "expected numbers and text that JSON can hold") from None
    return data


Json = Annotated[dict[str, Any], AfterValidator(_writable)]
"""An object of any form that can be sent on as it is. Python's JSON reads more than may be written: `NaN`, `1e999`,
half a surrogate pair."""
