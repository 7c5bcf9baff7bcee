"""The base of every message."""

from pydantic import BaseModel, ConfigDict


class WireModel(BaseModel):
    """A JSON object of the wire; unknown fields are refused, so a typo never passes in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid")
