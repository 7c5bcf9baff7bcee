"""Runs the server: says which engine serves each stage and why, binds the address, hands over to uvicorn."""

import logging
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.supervisors import ChangeReload
from websockets.http11 import Request

from avatar.app import create_app
from avatar.choosing import Choosing, survey
from avatar.core.errors import SetupError
from avatar.server import access
from avatar.server.realtime.model import MAX_EVENT_BYTES
from avatar.server.realtime.socket import PATH
from avatar.settings import ServerSettings, Settings, load

BACKLOG = 128
GRACE_S = 5
"""How long open conversations may take to end when the server is told to stop."""


def serve(settings: Settings) -> None:
    """Serve until interrupted. Raises `SetupError` when a stage has no engine or the address is taken."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    choosings = survey(settings)
    announce(choosings)
    app = create_app(settings, choosings)
    listening = _bind(settings.server)
    host, port = listening.getsockname()[:2]
    Console(highlight=False).print(f"AVATAR is at [bold]http://{f'[{host}]' if ':' in host else host}:{port}[/]")
    with suppress(KeyboardInterrupt):  # Ctrl-C is how one stops it
        uvicorn.Server(uvicorn_config(app, settings)).run([listening])


def serve_reloading() -> None:
    """Serve by the settings of the environment, anew whenever a source changes; for work on AVATAR itself."""
    settings = load()
    server = settings.server
    try:
        access.check(server.host, server.api_keys, server.open_to_all)  # the reloader would wait for a change
        listening = _bind(server)
    except SetupError as error:
        sys.exit(str(error))
    sources = str(Path(__file__).parents[1])
    config = uvicorn_config("avatar.app:create_app", settings, factory=True, reload=True, reload_dirs=[sources])
    ChangeReload(config, target=uvicorn.Server(config).run, sockets=[listening]).run()


def uvicorn_config(app: object, settings: Settings, **more: Any) -> uvicorn.Config:
    """How uvicorn must run: sans-I/O WebSockets with flow control, bounded messages, no deflate."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI app
        ws=WebSockets,
        ws_max_size=settings.server.max_message_bytes,
        ws_per_message_deflate=False,
        access_log=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
        **more,
    )


class WebSockets(WebSocketsSansIOProtocol):
    """Every message is bounded by the settings, but for those to a Realtime session: an event of that protocol may hold
    15 MiB of audio."""

    def handle_connect(self, event: Request) -> None:
        """Read a handshake, and answer it."""
        if event.path.partition("?")[0] == PATH:
            self.conn.max_message_size = max(self.config.ws_max_size, MAX_EVENT_BYTES)
        super().handle_connect(event)


def announce(choosings: tuple[Choosing, ...]) -> None:
    """One line a stage: what serves it and why."""
    console = Console(highlight=False, soft_wrap=True)
    for found in choosings:
        what = f"{found.choice.spec.name} ({found.choice.reason})" if found.choice else f"[red]{found.problem}[/]"
        console.print(f"  [dim]{found.stage.replace('_', ' '):>12}[/]  {what}")


def _bind(server: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio turns Nagle off if it says TCP
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((server.host, server.port))
        listening.listen(BACKLOG)  # who is quick waits for uvicorn instead of being refused
    except OSError as error:
        listening.close()
        raise SetupError(
            f"Cannot listen on {server.host}, port {server.port}: {error.strerror}. Choose another with --port."
        ) from None
    return listening
