"""Bounds what a request may send before anything of it is kept: multipart parsers write files of any size to the disk,
and JSON is read into memory.

Knows no route's fields; what else a form holds is small.
"""

from collections.abc import Mapping

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = 413
JSON_BYTES = 1_000_000
"""For a request that takes no file."""
FORM_BYTES = 64_000
"""For the text fields beside a file, and the multipart headers."""


class LimitedBodies:
    """ASGI middleware: refuses a body larger than `limits` says for the longest prefix of its path that it knows.

    One that says so in its `Content-Length` is refused before any of it is read.
    """

    def __init__(self, app: ASGIApp, limits: Mapping[str, int]) -> None:
        self._app = app
        self._limits = sorted(limits.items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        limit = next((limit for prefix, limit in self._limits if path.startswith(prefix)), None)
        if scope["type"] != "http" or limit is None:
            await self._app(scope, receive, send)
            return
        refusal = HTTPException(_TOO_LARGE, f"A request may have {limit:,} bytes here. Send less at a time.")
        claimed = Headers(scope=scope).get("content-length", "")
        received = 0

        async def limited() -> Message:
            nonlocal received
            if claimed.isdecimal() and int(claimed) > limit:
                raise refusal
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise refusal
            return message

        await self._app(scope, limited, send)
