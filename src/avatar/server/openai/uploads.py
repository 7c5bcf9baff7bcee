"""The form with which a recording is sent. The body's own bound is `server/uploads.py`'s."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import FormData, UploadFile

from avatar.core.errors import BadMessage
from avatar.server.openai import errors
from avatar.server.openai.faults import find_fault

BODY_TIMEOUT_S = 120.0
"""25 MB take so long at 1.7 Mbit/s."""
_MAX_FIELDS = 64

TranscriptForm = Literal["json", "text", "srt", "verbose_json", "vtt"]


class Fields(BaseModel):
    """What of the form is read. `model`, `prompt` and `temperature` change nothing: the engines here take none."""

    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]+)*$")] | None = None
    response_format: TranscriptForm = "json"
    stream: bool = False
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    timestamp_granularities: list[Literal["word", "segment"]] = Field(default_factory=list)


class Upload(Fields):
    """A recording, still encoded, and how it is to be written down."""

    data: bytes = Field(repr=False)


async def read_upload(request: Request) -> Upload:
    """Read the whole form. Raises `WrongField`, and `BadMessage` for one that is too slow in coming."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            form = await request.form(max_files=1, max_fields=_MAX_FIELDS)
    except TimeoutError:
        raise BadMessage(f"The recording did not arrive within {BODY_TIMEOUT_S:g} s.") from None
    try:
        return Upload(**_fields(form).model_dump(), data=await _file(form))
    finally:
        await form.close()


async def _file(form: FormData) -> bytes:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        why = "Send the recording as the file `file` of a multipart form."
        raise errors.WrongField("file", why, "missing_required_parameter")
    data = await file.read()
    if not data:
        raise errors.WrongField("file", "The recording is empty.")
    return data


def _fields(form: FormData) -> Fields:
    _refuse_what_nobody_has(form)
    given: dict[str, Any] = {name: form[name] for name in Fields.model_fields if form.get(name)}
    given["timestamp_granularities"] = _list(form, "timestamp_granularities")
    try:
        fields = Fields(**given)
    except ValidationError as error:
        raise errors.wrong(find_fault(error.errors(), given)) from None
    if "word" in fields.timestamp_granularities and fields.response_format != "verbose_json":
        raise errors.WrongField("timestamp_granularities", "Times of words come in `verbose_json` alone.")
    language = fields.language and fields.language.partition("-")[0].lower()
    return fields.model_copy(update={"language": language})


def _refuse_what_nobody_has(form: FormData) -> None:
    """Parts of the API whose absence a client could not otherwise tell."""
    if form.get("response_format") == "diarized_json":
        raise errors.unsupported("response_format", "No engine here tells speakers apart; `verbose_json` gives times.")
    if "logprobs" in _list(form, "include"):
        raise errors.unsupported("include", "No engine here gives `logprobs`.")


def _list(form: FormData, name: str) -> list[Any]:
    """A field that may come several times, under either of the names that clients give it."""
    return form.getlist(f"{name}[]") + form.getlist(name)
