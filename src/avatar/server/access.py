"""Who may use the server: whoever brings one of its keys, where it has any.

Everything is behind the keys but the two probes. A program sends `Authorization: Bearer KEY`; a browser's WebSocket,
which cannot set headers, a subprotocol; the page a cookie, which it gets for the key at the door and which does not
hold the key itself. Ephemeral keys open Realtime sessions and nothing else. Knows no route.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs

from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from avatar.core.errors import SetupError, Unauthorized
from avatar.server import problems
from avatar.server.ephemeral import PREFIX, EphemeralKeys
from avatar.server.hosts import is_own_page, is_this_machine
from avatar.server.openai import errors

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
LOGIN_PATH = "/login"
COOKIE = "avatar_key"
COOKIE_DAYS = 90
KEY_SUBPROTOCOL = "openai-insecure-api-key."
"""Before the key, among a WebSocket's subprotocols: OpenAI's own way for browsers."""
EPHEMERAL_PATHS = frozenset({"/v1/realtime", "/v1/realtime/calls"})
"""Where ephemeral keys count: where a session begins."""
_MAX_FORM_BYTES = 4096


def check(host: str, keys: Sequence[str], open_to_all: bool) -> None:
    """Raise `SetupError` for an address that others can reach when nothing keeps them out."""
    if not (is_this_machine(host) or keys or open_to_all):
        raise SetupError(
            f"Anybody who reaches {host} could listen and talk. Set a key (server.api_keys), or listen to this machine "
            'alone (server.host = "127.0.0.1"), or, in a network you trust, set server.open_to_all = true.'
        )


class Keys:
    """The server's keys, compared in constant time."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]
        self._cookies = [cookie_for(key).encode() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admits(self, key: str) -> bool:
        """Whether `key` is one of them."""
        return _is_among(sha256(key.encode(errors="replace")).digest(), self._digests)

    def admits_cookie(self, value: str) -> bool:
        """Whether `value` was once given for one of them."""
        return _is_among(value.encode(errors="replace"), self._cookies)


def cookie_for(key: str) -> str:
    """What a browser gets for `key`, and nobody can turn back into it."""
    return hmac.new(key.encode(), b"avatar cookie", sha256).hexdigest()


def _is_among(given: bytes, known: Sequence[bytes]) -> bool:
    return sum(hmac.compare_digest(given, one) for one in known) > 0  # all of them are compared, whichever it is


def key_of(connection: HTTPConnection) -> str | None:
    """The key that a program, or a browser's WebSocket, sends."""
    headers = connection.headers
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(KEY_SUBPROTOCOL):
            return protocol.strip().removeprefix(KEY_SUBPROTOCOL)
    return None


class OnlyWithKey:
    """ASGI middleware: what brings no key is refused before anything else sees it.

    Without `keys` all is open, but for those who bring an ephemeral key that is none. `origins`: web origins besides
    the server's own whose pages may use the cookie.
    """

    def __init__(self, app: ASGIApp, keys: Keys, ephemeral: EphemeralKeys[Any], origins: Sequence[str] = ()) -> None:
        self._app = app
        self._keys = keys
        self._ephemeral = ephemeral
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif scope["path"] == LOGIN_PATH and scope["type"] == "http" and self._keys:
            await (await self._log_in(Request(scope, receive)))(scope, receive, send)
        elif scope["path"] in OPEN_PATHS or self._is_admitted(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        else:
            await _refusal(scope)(scope, receive, send)

    def _is_admitted(self, connection: HTTPConnection) -> bool:
        key = key_of(connection)
        if key is not None and key.startswith(PREFIX) and connection.scope["path"] in EPHEMERAL_PATHS:
            return self._ephemeral.find(key) is not None or self._keys.admits(key)
        if not self._keys:
            return True
        if key is not None:
            return self._keys.admits(key)
        # Cookies come with the requests of every page of this host, whatever its port.
        is_ours = is_own_page(connection, self._origins)
        return is_ours and self._keys.admits_cookie(connection.cookies.get(COOKIE, ""))

    async def _log_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _door()
        key = await _form_key(request)
        if not self._keys.admits(key):
            return _door()
        response = RedirectResponse("/", 303)
        response.set_cookie(
            COOKIE,
            cookie_for(key),
            max_age=COOKIE_DAYS * 86_400,
            httponly=True,
            samesite="strict",
            secure=request.scope.get("scheme") == "https",
        )
        return response


async def _form_key(request: Request) -> str:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM_BYTES:
                return ""
    except ClientDisconnect:
        return ""
    return parse_qs(body.decode(errors="replace")).get("key", [""])[0].strip()


def _refusal(scope: Scope) -> Response:
    """In the words of whoever asks: a program of OpenAI's, one of ours, or a person."""
    key = key_of(HTTPConnection(scope)) or ""
    error = Unauthorized(_EXPIRED if key.startswith(PREFIX) else _WANTED)
    if scope["path"].startswith("/v1"):
        return errors.response(error, headers=_CHALLENGE)
    if scope["type"] == "http" and scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", ""):
        return _door()
    return problems.response(error, headers=_CHALLENGE)


def _door() -> Response:
    return HTMLResponse(
        _DOOR, 401, {**_CHALLENGE, "Content-Security-Policy": _DOOR_POLICY, "Cache-Control": "no-store"}
    )


_WANTED = "This server wants a key: send it as `Authorization: Bearer KEY`."
_EXPIRED = (
    "That client secret has expired, is unknown, or does not open this: it is for `/v1/realtime` and "
    "`/v1/realtime/calls`. Ask for a new one at `/v1/realtime/client_secrets`."
)
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_DOOR_POLICY = "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
_DOOR = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>AVATAR</title>
<form method="post" action="/login">
<p><label for="key">This server wants a key. 此服务器需要密钥。</label></p>
<p><input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>OK</button></p>
</form>
</html>
"""
