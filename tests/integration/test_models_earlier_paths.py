"""Models by the paths that clients of earlier systems call, on a real server, downloading from a local hub."""

from pathlib import Path

import pytest

from avatar.hub import presence
from tests.integration.hub_server import Hub
from tests.integration.models_client import (
    BASE,
    SCOPE,
    TOKENIZER,
    TOKENIZER_FILES,
    call,
    hub,
    news,
    server,
    settings,
    tokenizer_hub,
    until,
)
from tests.integration.serving import Server

__all__ = ["hub", "server", "settings", "tokenizer_hub"]  # the fixtures


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
