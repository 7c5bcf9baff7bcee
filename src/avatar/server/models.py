"""Models over HTTP: what is here, downloading, checking, deleting; and the same for clients of the earlier Qwen3 paths.

Thin: `avatar.hub` does the work, `problems.py` the errors. What an engine is using is asked of a function.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from avatar.core.errors import Conflict, NotFound
from avatar.core.progress import JobProgress
from avatar.hub import catalog
from avatar.hub.catalog import Model
from avatar.hub.downloads import Downloads
from avatar.hub.library import Holding, Library, State
from avatar.hub.source import SourceName
from avatar.hub.verify import FileState
from avatar.server import problems

Provider = Literal["auto", "hf", "modelscope"]
SOURCES: dict[Provider, tuple[SourceName, ...]] = {"auto": (), "hf": ("huggingface",), "modelscope": ("modelscope",)}
Key = Annotated[str, InPath(max_length=64)]
AliasKey = Annotated[str, Field(max_length=64)]


@dataclass(frozen=True)
class Shelf:
    """What the routes work on. `used_by`: the stages whose engines have their weights in a folder."""

    library: Library
    downloads: Downloads
    used_by: Callable[[Path], Sequence[str]]


class FileOut(BaseModel):
    """One file of a model after a thorough check."""

    name: str
    state: FileState


class HoldingOut(BaseModel):
    """A model on this disk, as clients of the earlier paths know it. `path`: where it is, or would be."""

    key: str
    path: str
    exists: bool
    valid: bool
    missing: list[str]


class Validation(HoldingOut):
    """A thorough check: `problems` in words, `files` one by one."""

    problems: list[str]
    files: list[FileOut]


class ModelOut(HoldingOut):
    """A model of the catalog."""

    alias: str | None
    title: str
    role: str
    licence: str
    terms: str | None = Field(description="What its licence asks, where it is to be accepted before a download.")
    languages: list[str] = Field(description="ISO 639-1; empty: any.")
    state: State
    problems: list[str]
    size_bytes: int
    vram_bytes: int = Field(description="About what it takes on a GPU; 0: it runs on the CPU.")
    huggingface: str | None
    modelscope: str | None
    used_by: list[str] = Field(description="Stages whose engines hold it now.")
    download: JobProgress | None = Field(description="The download under way, or how the last one ended.")


class ModelList(BaseModel):
    """All models that AVATAR knows."""

    models_dir: str
    items: list[ModelOut]


class Source(BaseModel):
    """Where to download from; `auto`: the sources of the settings in their order, until one has it all."""

    model_config = ConfigDict(extra="forbid")

    provider: Provider = "auto"
    accept_terms: bool = Field(False, description="Accepts the model's `terms`.")


class WhichModel(BaseModel):
    """A model by its key."""

    model_config = ConfigDict(extra="forbid")

    key: AliasKey


class WhichDownload(WhichModel, Source):
    """A model by its key, and where from."""


def router(shelf: Shelf) -> APIRouter:
    """The routes below `/api/models`."""
    routes = APIRouter(prefix="/api/models", tags=["models"], responses=problems.RESPONSES)

    @routes.get("")
    async def list_models() -> ModelList:
        items = await asyncio.to_thread(lambda: [_out(shelf, shelf.library.look(key)) for key in catalog.MODELS])
        return ModelList(models_dir=str(shelf.library.models_dir), items=items)

    routes.include_router(_by_body(shelf, _known))  # before a key could be taken for one of these words

    @routes.get("/{key}")
    async def read(key: Key) -> ModelOut:
        return await _read(shelf, key)

    @routes.post("/{key}/download", status_code=202)
    async def download(key: Key, source: Source | None = None) -> ModelOut:
        _begin(shelf, _known(key), source or Source())
        return await _read(shelf, key)

    @routes.post("/{key}/pause")
    async def pause(key: Key) -> ModelOut:
        await shelf.downloads.pause(_known(key).key)
        return await _read(shelf, key)

    @routes.post("/{key}/resume", status_code=202)
    async def resume(key: Key) -> ModelOut:
        shelf.downloads.resume(_known(key).key)
        return await _read(shelf, key)

    @routes.post("/{key}/cancel")
    async def cancel(key: Key) -> ModelOut:
        await shelf.downloads.cancel(_known(key).key)
        return await _read(shelf, key)

    @routes.post("/{key}/validate")
    async def validate(key: Key) -> Validation:
        return _validation(key, await asyncio.to_thread(shelf.library.validate, _known(key).key))

    @routes.delete("/{key}", status_code=204)
    async def delete(key: Key) -> None:
        await _delete(shelf, _known(key))

    return routes


def earlier_paths(shelf: Shelf) -> APIRouter:
    """`/api/tts/qwen3/models…`: the three Qwen3 models by the keys that clients of earlier systems have for them."""
    routes = APIRouter(prefix="/api/tts/qwen3/models", tags=["models"], responses=problems.RESPONSES)

    @routes.get("")
    async def list_models() -> list[HoldingOut]:
        aliases = [model.alias for model in catalog.MODELS.values() if model.alias]
        return await asyncio.to_thread(lambda: [_holding(alias, shelf.library.look(alias)) for alias in aliases])

    routes.include_router(_by_body(shelf, _aliased))
    return routes


def _by_body(shelf: Shelf, find: Callable[[str], Model]) -> APIRouter:
    """Routes that take the key in their body or query; `find` raises `NotFound` for one it does not know."""
    routes = APIRouter()

    @routes.post("/download", status_code=202)
    async def download(wanted: WhichDownload) -> HoldingOut:
        model = find(wanted.key)
        _begin(shelf, model, wanted)
        return _holding(wanted.key, await asyncio.to_thread(shelf.library.look, model.key))

    @routes.post("/validate")
    async def validate(wanted: WhichModel) -> Validation:
        return _validation(wanted.key, await asyncio.to_thread(shelf.library.validate, find(wanted.key).key))

    @routes.get("/open-path", response_class=PlainTextResponse)
    async def open_path(key: Annotated[str, Query(max_length=64)]) -> str:
        return str((await asyncio.to_thread(shelf.library.look, find(key).key)).path)

    return routes


def _begin(shelf: Shelf, model: Model, source: Source) -> None:
    if model.terms and not source.accept_terms:
        raise Conflict(f"{model.question} Ask again with `accept_terms` to accept that.")
    shelf.downloads.begin(model.key, SOURCES[source.provider])


async def _read(shelf: Shelf, key: str) -> ModelOut:
    return await asyncio.to_thread(lambda: _out(shelf, shelf.library.look(_known(key).key)))


async def _delete(shelf: Shelf, model: Model) -> None:
    users = [user for folder in shelf.library.folders(model) for user in shelf.used_by(folder)]
    if users:
        raise Conflict(f"{model.title} is in use by {', '.join(users)}. Load another engine there first.")
    progress = shelf.downloads.progress(model.key)
    if progress is not None and progress.state in ("queued", "running"):
        raise Conflict(f"{model.title} is being downloaded. Cancel that first.")
    shelf.downloads.forget(model.key)
    await shelf.library.delete(model.key)


def _known(key: str) -> Model:
    if key not in catalog.MODELS and not any(key == model.alias for model in catalog.MODELS.values() if model.alias):
        raise NotFound("There is no such model. `GET /api/models` lists those that are known.")
    return catalog.model(key)


def _aliased(key: str) -> Model:
    found = next((model for model in catalog.MODELS.values() if model.alias == key and key), None)
    if found is None:
        keys = ", ".join(model.alias for model in catalog.MODELS.values() if model.alias)
        raise NotFound(f"There is no such model here. Known: {keys}.")
    return found


def _holding(key: str, found: Holding) -> HoldingOut:
    return HoldingOut(
        key=key, path=str(found.path), exists=found.exists, valid=found.valid, missing=list(found.missing)
    )


def _validation(key: str, found: Holding) -> Validation:
    files = [FileOut(name=report.name, state=report.state) for report in found.files]
    return Validation(**vars(_holding(key, found)), problems=list(found.problems), files=files)


def _out(shelf: Shelf, found: Holding) -> ModelOut:
    model = found.model
    return ModelOut(
        **vars(_holding(model.key, found)),
        alias=model.alias or None,
        title=model.title,
        role=model.role,
        licence=model.licence,
        terms=model.question or None,
        languages=sorted(model.languages),
        state=found.state,
        problems=list(found.problems),
        size_bytes=model.size_bytes,
        vram_bytes=model.vram_bytes,
        huggingface=model.huggingface or None,
        modelscope=model.modelscope or None,
        used_by=list(shelf.used_by(found.path)),
        download=shelf.downloads.progress(model.key),
    )
