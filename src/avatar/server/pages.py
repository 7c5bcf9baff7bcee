"""The browser UI as static files, with the headers that keep it to itself. Knows no route of the API."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

UI = Path(__file__).parent / "ui"

# `ws: wss:` because not every browser takes 'self' for WebSockets.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class _Pages(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        if not path.startswith("assets/"):  # those are named by their content; the page that names them must be fresh
            response.headers["Cache-Control"] = "no-cache"
        return response


def mount(app: FastAPI) -> None:
    """Serve the built UI at `/`, or say how to build it."""
    if (UI / "index.html").is_file():
        app.mount("/", _Pages(directory=UI, html=True), name="ui")
        return

    @app.get("/", include_in_schema=False)
    async def not_built() -> PlainTextResponse:
        return PlainTextResponse("The page is not built yet. Run `make setup`, then start the server again.", 503)
