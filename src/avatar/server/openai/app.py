"""The application below `/v1`: its routes, its errors, its bounds."""

from fastapi import APIRouter, FastAPI

from avatar.server.openai import completions, errors, models, speech, streams, transcriptions
from avatar.server.openai.service import Service
from avatar.server.uploads import LimitedBodies


def create(service: Service, *more: APIRouter) -> FastAPI:
    """An application to be mounted, with `more` routes beside its own; it has no life of its own."""
    app = FastAPI(title="AVATAR, as OpenAI's clients know it", docs_url=None, redoc_url=None)
    errors.install(app)
    app.add_middleware(LimitedBodies, limits={"/": service.max_body_bytes})
    app.add_middleware(streams.RequestIds)
    for routes in (models, completions, transcriptions, speech):
        app.include_router(routes.router(service))
    for others in more:
        app.include_router(others)
    return app
