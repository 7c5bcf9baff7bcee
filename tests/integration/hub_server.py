"""A local server that speaks the protocols of both hubs, with the model `tiny`, and fails on demand."""

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import huggingface_hub.constants
import pytest
import pytest_asyncio
from aiohttp import web

from avatar.hub import catalog
from avatar.hub.catalog import Model, ModelFile

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
CONFIG = b'{"layers": 2}'
REVISION = "c0ffee" * 6 + "cafe"
WHOLE = {"config.json": CONFIG, "sub/model.bin": WEIGHTS}
TINY = Model(
    "tiny",
    "stt",
    "Tiny",
    "MIT",
    (ModelFile("config.json"), ModelFile("sub/model.bin")),
    huggingface="org/tiny",
    modelscope="mirror/tiny",
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Fault:
    """What happens to one request instead of a whole answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after_bytes: int | None = None
    stall: bool = False
    """Then hold the connection open instead of closing it."""
    body: bytes | None = None
    ignore_range: bool = False


@dataclass
class Hub:
    """Both hubs in one: `repos[repo][path]` is served, `faults[path]` are played one a request."""

    url: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    """Hashes that the metadata tells wrongly, by path."""
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    metadata_status: int = 200
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(path of the request, its Range header)"""
    authorizations: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.app = web.Application()
        self.app.add_routes(
            [
                web.get("/api/models/{repo:[^/]+/[^/]+}", self._hf_info),
                web.get("/api/v1/models/{repo:[^/]+/[^/]+}/repo/files", self._modelscope_files),
                web.get("/models/{repo:[^/]+/[^/]+}/resolve/master/{path:.+}", self._file),
                web.get("/{repo:[^/]+/[^/]+}/resolve/" + REVISION + "/{path:.+}", self._file),
            ]
        )

    def ranges(self, path: str) -> list[str]:
        """The Range headers of the requests for one file, in order."""
        return [asked for url, asked in self.requests if url.endswith(path)]

    def metadata_requests(self) -> int:
        return sum("/api/" in url for url, _ in self.requests)

    def _note(self, request: web.Request) -> None:
        self.requests.append((request.path, request.headers.get("Range", "")))
        self.authorizations.add(request.headers.get("Authorization"))

    async def _hf_info(self, request: web.Request) -> web.Response:
        self._note(request)
        if self.metadata_status != 200:
            return web.Response(status=self.metadata_status)
        repo = request.match_info["repo"]
        if repo not in self.repos:
            return web.json_response(
                {"error": "Repository not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"}
            )
        siblings = []
        for path, data in self.repos[repo].items():
            entry: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": "0" * 40}
            if path.endswith(".bin"):
                digest = self.declared.get(path, sha256(data))
                entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        return web.json_response(
            {"id": repo, "sha": REVISION, "siblings": siblings if "blobs" in request.query else []}
        )

    async def _modelscope_files(self, request: web.Request) -> web.Response:
        self._note(request)
        repo = request.match_info["repo"]
        if repo not in self.repos:
            return web.json_response({"Code": 10010205001, "Message": "not found"}, status=404)
        listed = [{"Path": "sub", "Type": "tree", "Size": 0}] + [
            {"Path": path, "Type": "blob", "Size": len(data), "Sha256": sha256(data)}
            for path, data in self.repos[repo].items()
        ]
        return web.json_response({"Code": 200, "Data": {"Files": listed}})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        path = request.match_info["path"]
        fault = self.faults[path].popleft() if self.faults[path] else Fault()
        if fault.status:
            return web.Response(status=fault.status, headers=fault.headers)
        data = self.repos[request.match_info["repo"]][path] if fault.body is None else fault.body
        begin = 0 if fault.ignore_range else request.http_range.start or 0
        if begin > len(data):
            return web.Response(status=416)
        response = web.StreamResponse(status=206 if begin else 200)
        response.content_length = len(data) - begin
        if begin:
            response.headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        await response.prepare(request)
        await response.write(data[begin : None if fault.cut_after_bytes is None else begin + fault.cut_after_bytes])
        if fault.stall:
            await asyncio.Event().wait()  # until the client goes away
        if fault.cut_after_bytes is not None:
            assert request.transport is not None
            request.transport.close()
        return response


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def set_hf_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does when huggingface_hub is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest_asyncio.fixture
async def hub(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    """A hub whose Hugging Face side has the model `tiny`; its ModelScope side is empty."""
    hub = Hub(repos={"org/tiny": {"config.json": CONFIG, "sub/model.bin": WEIGHTS, "README.md": b"#"}})
    async with serving(hub.app) as hub.url:
        set_hf_endpoint(monkeypatch, hub.url)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.url)
        monkeypatch.setitem(catalog.MODELS, "tiny", TINY)
        yield hub
