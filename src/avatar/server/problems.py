"""Errors over HTTP: every failed request answers with `application/problem+json` (RFC 9457).

`code` is the one of `core/errors.py`, the same as on the sockets. A wrong request also says which `fields`. Nothing of
the request is echoed: it may hold what somebody said, or a key.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from avatar.core.errors import AvatarError, BadMessage, BufferLimit, ClientError, NotFound, Unauthorized, describe

MEDIA_TYPE = "application/problem+json"


class FieldProblem(BaseModel):
    """What is wrong with one field: its path (`query.limit`, `body.title`) and why."""

    field: str
    message: str


class ProblemBody(BaseModel):
    """The body of a failed request."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    fields: list[FieldProblem] | None = None


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem", "content": {MEDIA_TYPE: {"schema": ProblemBody.model_json_schema()}}}
}
"""For a router's `responses`: what the API description says of failures."""


def install(app: FastAPI) -> None:
    """Let `app` answer with problems whatever fails in it; call once."""
    app.add_exception_handler(HTTPException, _from_http)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(AvatarError, _from_error)
    app.add_exception_handler(Exception, _from_error)  # these the framework raises again, for the log


def response(
    error: BaseException,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    fields: list[FieldProblem] | None = None,
) -> JSONResponse:
    """The response to any exception; what is outside the tree is told as a failure of the server, without its text."""
    problem = describe(error)
    status = status or problem.http_status
    body = ProblemBody(
        title=HTTPStatus(status).phrase, status=status, code=problem.code, detail=problem.message, fields=fields
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


async def _from_error(_: Request, error: Exception) -> JSONResponse:
    return response(error)


async def _from_http(_: Request, error: Exception) -> JSONResponse:
    """The framework's own refusals: no such route, a method not allowed."""
    assert isinstance(error, HTTPException)
    if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return response(error, error.status_code, error.headers)
    kinds: dict[int, type[ClientError] | type[Unauthorized]] = {401: Unauthorized, 404: NotFound, 413: BufferLimit}
    return response(kinds.get(error.status_code, BadMessage)(error.detail), error.status_code, error.headers)


async def _from_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fields = [FieldProblem(field=".".join(map(str, item["loc"])), message=_words(item)) for item in error.errors()]
    listed = "; ".join(f"{item.field}: {item.message}" for item in fields)
    return response(BadMessage(f"The request is wrong: {listed}."), fields=fields)


def _words(item: Mapping[str, Any]) -> str:
    """The framework's own words, unless they are about its classes."""
    return "It is to be sent as a file, with a file name" if "UploadFile" in item["msg"] else str(item["msg"])
