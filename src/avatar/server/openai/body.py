"""The base of what a request's body holds. Knows no route."""

from typing import Any

from pydantic import BaseModel, model_validator


class Body(BaseModel):
    """An object of a request. Null says as much as an absent field, where the field may be absent: clients' libraries
    write out every field they know."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        wanted = {field.alias or name for name, field in cls.model_fields.items() if field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name in wanted}
