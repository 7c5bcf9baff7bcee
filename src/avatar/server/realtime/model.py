"""The base of every object of the protocol, and the bounds they share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

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
