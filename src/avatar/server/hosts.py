"""Which names the server answers to while it listens to its own machine alone, and whose pages may connect.

A page of any site can have its own name pointed at 127.0.0.1 (DNS rebinding); its browser then takes the server for a
part of that site and lets the page read everything. Such requests call the server by a name that is not its own, and
are refused before anything else sees them. Knows no route.
"""

import re
from collections.abc import Collection, Iterable
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from avatar.core.errors import BadMessage
from avatar.server import problems

MISDIRECTED = 421  # RFC 9110, 15.5.20: a request for somebody this server is not
FORBIDDEN = 403

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PORT = re.compile(r":\d*$")


class OwnNames:
    """ASGI middleware: refuses what is addressed neither to this machine nor to a host of `origins`."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(origin.partition("://")[2].lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "").lower() if scope["type"] in ("http", "websocket") else None
        if host is None or host in self._hosts or is_this_machine(_PORT.sub("", host)):
            await self._app(scope, receive, send)
            return
        error = BadMessage("This server does not know itself by that name. Add its address to server.allowed_origins.")
        await problems.response(error, MISDIRECTED)(scope, receive, send)


class OwnPages:
    """ASGI middleware: pages of other sites may change nothing here, though their visitors' browsers would ask.

    A browser sends a form, or an empty body, to any site without asking that site first.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _SAFE or is_own_page(HTTPConnection(scope), self._origins):
            await self._app(scope, receive, send)
            return
        error = BadMessage("Pages of other sites may not ask for this. Add their origin to server.allowed_origins.")
        await problems.response(error, FORBIDDEN)(scope, receive, send)


def is_own_page(connection: HTTPConnection, origins: Collection[str]) -> bool:
    """Whether a page of ours or of `origins` connects, or no page at all: no other may use its visitor's browser."""
    origin = connection.headers.get("origin")
    return origin is None or origin in origins or origin.partition("://")[2] == connection.headers.get("host")


def is_this_machine(host: str) -> bool:
    """Whether `host` (a name or an address, no port) can only mean the machine it is used on."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
