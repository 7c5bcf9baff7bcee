"""Models over the API of a real server: licences, deleting, folders copied by hand, pages of other sites."""

from dataclasses import replace

import pytest

from avatar.hub import catalog
from tests.integration.hub_server import TINY, Fault, Hub
from tests.integration.models_client import (
    TOKENIZER,
    TOKENIZER_FILES,
    call,
    hub,
    news,
    received,
    server,
    settings,
    until,
)
from tests.integration.serving import Server

__all__ = ["hub", "server", "settings"]  # the fixtures


async def test_what_has_terms_is_downloaded_once_they_are_accepted(
    hub: Hub, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(catalog.MODELS, "tiny", replace(TINY, terms="CC BY-NC 4.0: not for commercial use"))
    _, model = await call(server, "GET", "/api/models/tiny")
    assert model["terms"] == "Tiny is licensed under CC BY-NC 4.0: not for commercial use."
    for body in (None, {}, {"provider": "hf"}, {"accept_terms": False}):
        status, problem = await call(server, "POST", "/api/models/tiny/download", body)
        assert (status, problem["code"]) == (409, "CONFLICT")
        assert "not for commercial use. Ask again with `accept_terms`" in problem["detail"]
    assert (await call(server, "POST", "/api/models/download", {"key": "tiny"}))[0] == 409
    assert not hub.requests
    async with news(server) as socket:
        assert (await call(server, "POST", "/api/models/tiny/download", {"accept_terms": True}))[0] == 202
        assert (await until(socket, "done", "failed"))[-1]["state"] == "done"


async def test_delete(hub: Hub, server: Server) -> None:
    hub.faults["sub/model.bin"].append(Fault(cut_after_bytes=400_000, stall=True))
    await call(server, "POST", "/api/models/tiny/download")
    await received(server, 400_000)
    status, problem = await call(server, "DELETE", "/api/models/tiny")
    assert (status, problem["code"]) == (409, "CONFLICT")
    await call(server, "POST", "/api/models/tiny/pause")
    assert (await call(server, "DELETE", "/api/models/tiny"))[0] == 204
    _, model = await call(server, "GET", "/api/models/tiny")
    assert (model["state"], model["download"]) == ("absent", None)
    assert not (server.service.settings.models_dir / "tiny").exists()
    assert (await call(server, "DELETE", "/api/models/tiny"))[0] == 204
    assert (await call(server, "DELETE", "/api/models/nothing"))[0] == 404


async def test_a_folder_copied_by_hand_is_looked_at_closely(hub: Hub, server: Server) -> None:
    folder = server.service.settings.models_dir / TOKENIZER
    folder.mkdir(parents=True)
    for name, data in TOKENIZER_FILES.items():
        (folder / name).write_bytes(data)
    where = "/api/tts/qwen3/models/validate"
    _, checked = await call(server, "POST", where, {"key": "tokenizer_12hz"})
    assert checked["valid"]
    (folder / "model.safetensors").write_bytes(TOKENIZER_FILES["model.safetensors"][:-1])
    _, checked = await call(server, "POST", where, {"key": "tokenizer_12hz"})
    assert (checked["valid"], checked["problems"]) == (False, ["model.safetensors: damaged"])
    (folder / "model.safetensors").unlink()
    _, checked = await call(server, "POST", where, {"key": "tokenizer_12hz"})
    assert (checked["valid"], checked["missing"]) == (False, ["model.safetensors"])
    (folder / "model.safetensors").write_bytes(TOKENIZER_FILES["model.safetensors"])
    (folder / "config.json").write_bytes(b'{"model_type": "qwen3_tts_tokenizer_25hz"}')
    _, checked = await call(server, "POST", where, {"key": "tokenizer_12hz"})
    assert not checked["valid"]
    assert "qwen3_tts_tokenizer_12hz' is wanted" in checked["problems"][0]


async def test_a_page_of_another_site_changes_nothing(hub: Hub, server: Server) -> None:
    for method, path in (("POST", "/api/models/tiny/download"), ("DELETE", "/api/models/tiny")):
        status, problem = await call(server, method, path, Origin="https://evil.example")
        assert (status, problem["code"]) == (403, "BAD_MESSAGE")
    assert not hub.requests
    assert (await call(server, "POST", "/api/models/tiny/download", Origin=server.url))[0] == 202
