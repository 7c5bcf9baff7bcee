"""The models API on a real server, downloading with the real client from a local hub that fails on demand."""

import asyncio
import json
import os
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from avatar.hub import catalog, downloads, files, presence
from avatar.hub.library import Library
from avatar.settings import Settings
from tests.integration.serving import Server, fake_engines, serving, settings_for, settled
from tests.integration.test_hub_http import CONFIG, TINY, WHOLE, Fault, Hub, hub, sha256

__all__ = ["hub"]  # the fixture

BASE = "Qwen/Qwen3-TTS-12Hz-0.6B-Base"
TOKENIZER = "Qwen/Qwen3-TTS-Tokenizer-12Hz"
SCOPE = "qwen3_tts_models"


def safetensors(size_bytes: int) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size_bytes)


TOKENIZER_FILES = {
    "config.json": b'{"model_type": "qwen3_tts_tokenizer_12hz"}',
    "model.safetensors": safetensors(1 << 20),
    "preprocessor_config.json": b"{}",
}


@pytest.fixture
def tokenizer_hub(hub: Hub) -> Hub:
    """The hub with the 12 Hz tokenizer, at both providers."""
    hub.repos[TOKENIZER] = dict(TOKENIZER_FILES)
    return hub


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv(presence.QWEN_TTS_DIR, raising=False)
    return settings_for(tmp_path)


@pytest_asyncio.fixture
async def server(settings: Settings) -> AsyncIterator[Server]:
    async with serving(fake_engines(), settings) as running:
        yield running


async def call(server: Server, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status and JSON, or text where it is not JSON."""
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, server.url + path, json=body, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text and "json" in response.content_type else text


@asynccontextmanager
async def news(server: Server, scope: str = "models") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{server.url}/ws/events?scope={scope}") as socket:
        yield socket


async def until(socket: aiohttp.ClientWebSocketResponse, *states: str) -> list[dict[str, Any]]:
    """What is told until a job is in one of these states."""
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(15):
        while not told or told[-1]["state"] not in states:
            told.append(await socket.receive_json())
    return told


async def received(server: Server, size_bytes: int, key: str = "tiny") -> None:
    """Wait until that much of the weights is on the disk, and the hub has gone silent."""
    part = server.service.settings.models_dir / key / "sub/model.bin.part"
    await settled(lambda: part.exists() and part.stat().st_size >= size_bytes)


# --- the paths of earlier systems ---------------------------------------------------------------


async def test_the_three_models_of_the_earlier_paths(server: Server) -> None:
    models_dir = server.service.settings.models_dir
    status, listed = await call(server, "GET", "/api/tts/qwen3/models")
    assert status == 200
    assert [(item["key"], item["path"]) for item in listed] == [
        ("tokenizer_12hz", str(models_dir / TOKENIZER)),
        ("base_0_6b", str(models_dir / BASE)),
        ("custom_0_6b", str(models_dir / "Qwen/Qwen3-TTS-12Hz-0.6B-CustomVoice")),
    ]
    for item in listed:
        assert set(item) == {"key", "path", "exists", "valid", "missing"}
        assert (item["exists"], item["valid"]) == (False, False)
    assert listed[0]["missing"] == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert await call(server, "GET", "/api/tts/qwen3/models/open-path?key=base_0_6b") == (200, str(models_dir / BASE))


@pytest.mark.parametrize("below", ["Qwen", ""])
async def test_the_folder_of_the_environment_variable_counts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    elsewhere = tmp_path / "else where"
    folder = elsewhere / below / "Qwen3-TTS-Tokenizer-12Hz"
    folder.mkdir(parents=True)
    for name, data in TOKENIZER_FILES.items():
        (folder / name).write_bytes(data)
    monkeypatch.setenv(presence.QWEN_TTS_DIR, str(elsewhere))
    _, listed = await call(server, "GET", "/api/tts/qwen3/models")
    assert listed[0] == {"key": "tokenizer_12hz", "path": str(folder), "exists": True, "valid": True, "missing": []}
    assert listed[1]["path"] == str(elsewhere / BASE)


@pytest.mark.parametrize("provider", ["hf", "modelscope"])
async def test_a_download_by_the_earlier_paths(tokenizer_hub: Hub, server: Server, provider: str) -> None:
    async with news(server, SCOPE) as socket:
        status, answer = await call(
            server, "POST", "/api/tts/qwen3/models/download", {"key": "tokenizer_12hz", "provider": provider}
        )
        assert (status, answer["key"], answer["valid"]) == (202, "tokenizer_12hz", False)
        told = await until(socket, "done", "failed")
    assert [(job["scope"], job["key"]) for job in told] == [(SCOPE, "tokenizer_12hz")] * len(told)
    total = sum(map(len, TOKENIZER_FILES.values()))
    assert (told[-1]["state"], told[-1]["done_bytes"], told[-1]["total_bytes"]) == ("done", total, total)
    fractions = [job["fraction"] for job in told if "fraction" in job and job.get("total_bytes") == total]
    assert fractions == sorted(fractions)
    hub_of = {"hf": "/Qwen/", "modelscope": "/models/Qwen/"}[provider]
    assert all(url.startswith(hub_of) for url, _ in tokenizer_hub.requests if "/resolve/" in url)
    _, listed = await call(server, "GET", "/api/tts/qwen3/models")
    assert (listed[0]["exists"], listed[0]["valid"], listed[0]["missing"]) == (True, True, [])
    status, checked = await call(server, "POST", "/api/tts/qwen3/models/validate", {"key": "tokenizer_12hz"})
    assert (status, checked["valid"], checked["problems"]) == (200, True, [])
    assert {file["state"] for file in checked["files"]} == {"ok"}


@pytest.mark.parametrize("key", ["qwen3-tts-tokenizer-12hz", "tokenizer_12hz"])
async def test_every_model_has_the_earlier_paths_below_models_too(tokenizer_hub: Hub, server: Server, key: str) -> None:
    folder = str(server.service.settings.models_dir / TOKENIZER)
    assert await call(server, "GET", f"/api/models/open-path?key={key}") == (200, folder)
    async with news(server, SCOPE) as socket:
        body = {"key": key, "provider": "modelscope"}
        status, answer = await call(server, "POST", "/api/models/download", body)
        assert (status, answer["key"], answer["valid"]) == (202, key, False)
        assert (await until(socket, "done", "failed"))[-1]["state"] == "done"
    status, checked = await call(server, "POST", "/api/models/validate", {"key": key})
    assert (status, checked["key"], checked["path"], checked["valid"]) == (200, key, folder, True)
    assert (await call(server, "GET", "/api/models/open-path?key=nothing"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/download", {"key": "../../etc", "provider": "hf"}, 404),
        ("POST", "/download", {"key": "tiny", "provider": "hf"}, 404),
        ("POST", "/download", {"key": "base_0_6b", "provider": "ftp"}, 400),
        ("POST", "/download", {"provider": "hf"}, 400),
        ("POST", "/download", ["base_0_6b"], 400),
        ("POST", "/validate", {"key": ""}, 404),
        ("POST", "/validate", {"key": "x" * 1000}, 400),
        ("GET", "/open-path", None, 400),
        ("GET", "/open-path?key=%00", None, 404),
        ("GET", "/open-path?key=..%2F..%2Fetc", None, 404),
    ],
)
async def test_what_is_wrong_is_said(server: Server, method: str, path: str, body: object, status: int) -> None:
    answered, problem = await call(server, method, "/api/tts/qwen3/models" + path, body)
    assert (answered, problem["status"]) == (status, status)
    assert problem["detail"]


# --- every model --------------------------------------------------------------------------------


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


async def test_a_download_that_falls_back_to_the_other_hub(hub: Hub, server: Server) -> None:
    hub.repos["mirror/tiny"] = dict(WHOLE)
    hub.faults["sub/model.bin"].append(Fault(404))
    async with news(server) as socket:
        assert (await call(server, "POST", "/api/models/tiny/download"))[0] == 202
        assert (await until(socket, "done", "failed"))[-1]["state"] == "done"
    _, model = await call(server, "GET", "/api/models/tiny")
    assert (model["state"], model["valid"], model["download"]["state"]) == ("present", True, "done")
    manifest = presence.read_manifest(Path(model["path"]))
    assert manifest["sub/model.bin"].source == "modelscope"


async def test_one_provider_alone_is_asked_when_it_is_named(hub: Hub, server: Server) -> None:
    del hub.repos["org/tiny"]
    hub.repos["mirror/tiny"] = dict(WHOLE)
    async with news(server) as socket:
        await call(server, "POST", "/api/models/tiny/download", {"provider": "hf"})
        told = (await until(socket, "done", "failed"))[-1]
    assert told["state"] == "failed"
    assert "not there" in told["message"]
    assert "Try again" in told["message"]


async def test_however_many_ask_it_is_fetched_once(hub: Hub, server: Server) -> None:
    async with news(server) as socket:
        answers = await asyncio.gather(*(call(server, "POST", "/api/models/tiny/download") for _ in range(20)))
        await until(socket, "done")
    assert {status for status, _ in answers} == {202}
    assert len(hub.ranges("sub/model.bin")) == 1


async def test_pause_and_resume_go_on_with_the_partial_file(hub: Hub, server: Server) -> None:
    hub.faults["sub/model.bin"].append(Fault(cut_after_bytes=400_000, stall=True))
    async with news(server) as socket:
        await call(server, "POST", "/api/models/tiny/download")
        await received(server, 400_000)
        async with asyncio.timeout(5):  # what came before the hub went silent is told all the same
            while (await socket.receive_json()).get("done_bytes") != 400_000 + len(CONFIG):
                pass
        status, model = await call(server, "POST", "/api/models/tiny/pause")
        assert (status, model["download"]["state"]) == (200, "paused")
        paused = (await until(socket, "paused"))[-1]
        assert paused["done_bytes"] == 400_000 + len(CONFIG)
        assert (await call(server, "POST", "/api/models/tiny/pause"))[0] == 200
        assert hub.ranges("sub/model.bin") == [""]
        assert (await call(server, "POST", "/api/models/tiny/resume"))[0] == 202
        assert (await until(socket, "done", "failed"))[-1]["state"] == "done"
    assert hub.ranges("sub/model.bin") == ["", "bytes=400000-"]
    assert (await call(server, "POST", "/api/models/tiny/validate"))[1]["valid"]


async def test_cancel_drops_what_was_received(hub: Hub, server: Server) -> None:
    hub.faults["sub/model.bin"].append(Fault(cut_after_bytes=400_000, stall=True))
    await call(server, "POST", "/api/models/tiny/download")
    await received(server, 400_000)
    status, model = await call(server, "POST", "/api/models/tiny/cancel")
    assert (status, model["download"]["state"]) == (200, "cancelled")
    assert not list(server.service.settings.models_dir.rglob("*.part"))
    for verb in ("pause", "cancel"):
        status, problem = await call(server, "POST", f"/api/models/tiny/{verb}")
        assert (status, problem["code"]) == (409, "CONFLICT")


@pytest.mark.parametrize("paused", [False, True])
async def test_a_restart_goes_on_where_it_was(hub: Hub, settings: Settings, paused: bool) -> None:
    hub.faults["sub/model.bin"].append(Fault(cut_after_bytes=400_000, stall=True))
    async with serving(fake_engines(), settings) as server:
        await call(server, "POST", "/api/models/tiny/download")
        await received(server, 400_000)
        if paused:
            await call(server, "POST", "/api/models/tiny/pause")
    async with serving(fake_engines(), settings) as server:
        if paused:
            _, model = await call(server, "GET", "/api/models/tiny")
            assert model["download"]["state"] == "paused"
            assert hub.ranges("sub/model.bin") == [""]
            await call(server, "POST", "/api/models/tiny/resume")
        shelf = server.service.shelf
        await settled(lambda: (progress := shelf.downloads.progress("tiny")) is not None and progress.state == "done")
    assert hub.ranges("sub/model.bin") == ["", "bytes=400000-"]
    assert json.loads((settings.models_dir / downloads.JOURNAL).read_text()) == {}


SERVER = """
import asyncio, sys
from pathlib import Path
from avatar.hub import catalog
from tests.integration.serving import fake_engines, serving, settings_for
from tests.integration.test_hub_http import TINY

async def main():
    catalog.MODELS["tiny"] = TINY
    async with serving(fake_engines(), settings_for(Path(sys.argv[1]))) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def server_process(hub: Hub, folder: Path) -> AsyncIterator[str]:
    """A server of its own, killed in the end as with kill -9; its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVER, str(folder)),
        env={**os.environ, "HF_ENDPOINT": hub.url, "MODELSCOPE_DOMAIN": hub.url},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.communicate()


async def test_a_download_survives_kill_9(hub: Hub, tmp_path: Path) -> None:
    hub.faults["sub/model.bin"] += [
        Fault(cut_after_bytes=400_000, stall=True),
        Fault(cut_after_bytes=200_000, stall=True),
    ]
    part, whole = (tmp_path / "models/tiny/sub" / name for name in ("model.bin.part", "model.bin"))

    def has(size_bytes: int) -> bool:
        return part.exists() and part.stat().st_size == size_bytes

    for kept_bytes in (400_000, 600_000):
        async with server_process(hub, tmp_path) as url, aiohttp.ClientSession() as http:
            if not part.exists():
                async with http.post(f"{url}/api/models/tiny/download") as response:
                    assert response.status == 202
            await settled(partial(has, kept_bytes))
            async with http.get(f"{url}/api/models/tiny") as response:
                model = await response.json()
            assert (model["valid"], model["missing"]) == (False, ["sub/model.bin"])
            assert model["download"]["state"] == "running"
        assert not whole.exists()
        half = Library(tmp_path / "models", lambda key, path: None)
        assert (half.look("tiny").valid, half.validate("tiny").valid) == (False, False)
    async with server_process(hub, tmp_path) as url, aiohttp.ClientSession() as http:
        await settled(whole.exists)
        async with http.post(f"{url}/api/models/tiny/validate") as response:
            assert (await response.json())["valid"]
    assert whole.read_bytes() == WHOLE["sub/model.bin"]
    assert hub.ranges("sub/model.bin") == ["", "bytes=400000-", "bytes=600000-"]


async def test_a_wrong_hash_is_deleted_and_said(hub: Hub, server: Server) -> None:
    hub.declared["sub/model.bin"] = sha256(b"another file")
    async with news(server) as socket:
        await call(server, "POST", "/api/models/tiny/download", {"provider": "hf"})
        told = (await until(socket, "done", "failed"))[-1]
    assert "sub/model.bin: wrong hash; it was deleted" in told["message"]
    _, model = await call(server, "GET", "/api/models/tiny")
    assert (model["state"], model["missing"]) == ("incomplete", ["sub/model.bin"])


async def test_a_busy_hub_is_waited_for(hub: Hub, server: Server) -> None:
    hub.faults["sub/model.bin"].extend([Fault(503, {"Retry-After": "0"}), Fault(cut_after_bytes=1000)])
    async with news(server) as socket:
        await call(server, "POST", "/api/models/tiny/download")
        told = await until(socket, "done", "failed")
    assert told[-1]["state"] == "done"


async def test_a_full_disk_is_said_before_anything_is_begun(
    hub: Hub, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.service.shelf.downloads, "_free_bytes", lambda _: files._SPARE_BYTES + 1000)
    status, problem = await call(server, "POST", "/api/tts/qwen3/models/download", {"key": "base_0_6b"})
    assert (status, problem["code"]) == (507, "DISK_FULL")
    assert "2,520 MB are needed" in problem["detail"]
    async with news(server) as socket:  # the catalog does not know this one's size; its hub does
        await call(server, "POST", "/api/models/tiny/download")
        told = (await until(socket, "done", "failed"))[-1]
    assert "1 MB are needed" in told["message"]
    assert hub.ranges("sub/model.bin") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
async def test_a_disk_that_fills_up_on_the_way(hub: Hub, server: Server) -> None:
    part = server.service.settings.models_dir / "tiny/sub/model.bin.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    async with news(server) as socket:
        await call(server, "POST", "/api/models/tiny/download")
        told = (await until(socket, "done", "failed"))[-1]
        assert (told["state"], "is full: free some space" in told["message"]) == ("failed", True)
        part.unlink()
        assert (await call(server, "POST", "/api/models/tiny/resume"))[0] == 202
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
