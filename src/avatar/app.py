"""The composition root: settings -> engines -> store -> FastAPI app.

`service.py` makes what lives as long as the server; here are the routes around it, and who may reach them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from avatar import __version__, choosing
from avatar.choosing import Choosing
from avatar.core.errors import AvatarError
from avatar.server import (
    access,
    chat,
    conversations,
    engines,
    events,
    hosts,
    models,
    pages,
    problems,
    uploads,
)
from avatar.server.openai import app as openai_app
from avatar.server.realtime import calls, client_secrets
from avatar.server.realtime import socket as realtime
from avatar.server.voices import routes as voices
from avatar.service import Service
from avatar.settings import Settings, load
from avatar.voices.library import MAX_UPLOAD_BYTES


def create_app(settings: Settings | None = None, choosings: tuple[Choosing, ...] | None = None) -> FastAPI:
    """The ASGI app. Raises `SetupError` when a stage has no engine; see `avatar doctor`."""
    settings = settings or load()
    access.check(settings.server.host, settings.server.api_keys, settings.server.open_to_all)
    choosings = choosings or choosing.survey(settings)
    return assemble(Service(settings, choosing.picks(choosings, settings)))


def assemble(service: Service) -> FastAPI:
    """The routes around a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(title="AVATAR", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    problems.install(app)
    _guard(app, service)
    _tell_health(app, service)
    _manage(app, service)
    _talk(app, service)
    pages.mount(app)
    return app


def _guard(app: FastAPI, service: Service) -> None:
    """What a request must pass; what is added last is asked first."""
    server = service.settings.server
    app.add_middleware(hosts.OwnPages, origins=server.allowed_origins)
    app.add_middleware(
        uploads.LimitedBodies,
        limits={"/api/": uploads.JSON_BYTES} | dict.fromkeys(voices.UPLOADS, MAX_UPLOAD_BYTES + uploads.FORM_BYTES),
    )
    app.add_middleware(
        access.OnlyWithKey,
        keys=access.Keys(server.api_keys),
        ephemeral=service.ephemeral,
        origins=server.allowed_origins,
    )
    if server.allowed_origins:  # outside the keys: a browser asks first, and without one
        app.add_middleware(
            CORSMiddleware,
            allow_origins=server.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Location"],
        )
    if hosts.is_this_machine(server.host):
        app.add_middleware(hosts.OwnNames, origins=server.allowed_origins)


def _tell_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        """The process is alive."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """Every stage can serve; 503 with the reason until then."""
        try:
            names = service.house().engines.names()
        except AvatarError as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, status_code=503)
        return JSONResponse({"status": "ready", "engines": names})


def _manage(app: FastAPI, service: Service) -> None:
    """Models, engines, voices, and how work on them goes on."""
    settings, server = service.settings, service.settings.server
    app.include_router(models.router(service.shelf))
    app.include_router(models.earlier_paths(service.shelf))
    app.include_router(
        engines.router(
            service.lineup,
            partial(choosing.options, settings),
            partial(choosing.pick, settings),
            settings.tts.high_engine,
        )
    )
    app.include_router(voices.router(service.library, lambda: service.house().speaker(), service.provenance))
    app.include_router(events.router(service.feed, server.send_timeout_s, server.allowed_origins))


def _talk(app: FastAPI, service: Service) -> None:
    """Conversations, over `/ws/chat` and OpenAI's protocols, and those that are over."""
    server = service.settings.server
    app.include_router(
        chat.router(service.house, service.sessions, service.limits, server.send_timeout_s, server.allowed_origins)
    )
    app.include_router(
        realtime.router(
            service.house,
            service.sessions,
            service.calls,
            service.ephemeral,
            server.send_timeout_s,
            server.allowed_origins,
        )
    )
    app.include_router(conversations.router(service.store))
    beginnings = (
        client_secrets.router(service.house, service.ephemeral),
        calls.router(service.house, service.calls, service.ephemeral),
    )
    app.mount("/v1", openai_app.create(service.openai, *beginnings))  # after all other routes below it
