"""Downloads over the API of a real server: begun once however many ask, paused, cancelled, restarted, failing."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from avatar.hub import downloads, files, presence
from avatar.hub.library import Library
from avatar.settings import Settings
from tests.integration.hub_server import CONFIG, WHOLE, Fault, Hub, sha256
from tests.integration.models_client import call, hub, news, received, server, settings, until
from tests.integration.serving import Server, fake_engines, serving, settled

__all__ = ["hub", "server", "settings"]  # the fixtures


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
from tests.integration.hub_server import TINY

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
