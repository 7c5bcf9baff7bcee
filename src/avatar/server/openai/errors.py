"""Errors below `/v1`, in the shape OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`.

The official SDK chooses its exception by the status, and tries again on 408, 409, 429 and 5xx: what the client did
wrong must never be one of those. Nothing of the request is echoed.
"""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from avatar.core.errors import AvatarError, BadMessage, NotFound, Unauthorized, describe
from avatar.server.openai.faults import Fault, find_fault, kind_of

logger = logging.getLogger(__name__)

_CODES = {"UNAUTHORIZED": "invalid_api_key", "RATE_LIMITED": "rate_limit_exceeded", "NOT_FOUND": "not_found"}
"""Codes that clients test for; the others are ours, in lower case."""


class WrongField(BadMessage):
    """A field of the request that cannot be used as it is; `param` is its name."""

    def __init__(self, param: str | None, message: str, openai_code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.openai_code = openai_code


def wrong(fault: Fault) -> WrongField:
    """A body that does not fit its model."""
    return WrongField(fault.param, fault.message, fault.code)


class NoModel(NotFound):
    """No engine here goes by the name that was asked for."""

    param = "model"
    openai_code = "model_not_found"


def unsupported(param: str, message: str) -> WrongField:
    """What OpenAI's API has, and this server, or the engine it runs, has not."""
    return WrongField(param, message, "unsupported_value")


def install(app: FastAPI) -> None:
    """Let `app` answer in this shape whatever fails in it; call once."""
    app.add_exception_handler(HTTPException, _from_http)
    app.add_exception_handler(RequestValidationError, _from_validation)
    app.add_exception_handler(AvatarError, _from_error)
    app.add_exception_handler(Exception, _from_error)


def body(error: BaseException, status: int | None = None) -> dict[str, Any]:
    """What a client is told of `error`."""
    problem = describe(error)
    status = status or problem.http_status
    code, param = _CODES.get(problem.code, problem.code.lower()), None
    if isinstance(error, WrongField | NoModel):
        code, param = error.openai_code, error.param
    return {"error": {"message": problem.message, "type": kind_of(status), "param": param, "code": code}}


def response(error: BaseException, status: int | None = None, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response to any exception."""
    status = status or describe(error).http_status
    return JSONResponse(body(error, status), status, headers)


def log(error: BaseException) -> None:
    """Note an error that its client is told of in the middle of an answer; ours by name, others in full."""
    if isinstance(error, AvatarError | TimeoutError):
        logger.warning("an answer broke off: %s", type(error).__name__)
    else:
        logger.error("an answer broke off", exc_info=error)


async def _from_error(_: Request, error: Exception) -> JSONResponse:
    return response(error)


async def _from_http(_: Request, error: Exception) -> JSONResponse:
    """The framework's own refusals."""
    assert isinstance(error, HTTPException)
    kinds: dict[int, type[AvatarError]] = {401: Unauthorized, 404: NotFound}
    return response(kinds.get(error.status_code, BadMessage)(error.detail), error.status_code, error.headers)


async def _from_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [{**one, "loc": () if one["type"] == "json_invalid" else one["loc"][1:]} for one in error.errors()]
    return response(wrong(find_fault(errors, error.body)))
