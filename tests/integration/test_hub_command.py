"""`avatar models` as a command, fetching through `HF_ENDPOINT` from a local hub."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.integration.hub_server import WEIGHTS, Hub, hub

__all__ = ["hub"]  # the fixture


def command(
    tmp_path: Path, hub: Hub, **changes: str
) -> tuple[dict[str, str], Callable[..., Awaitable[tuple[int, str]]]]:
    """Its environment, and `avatar models` with arguments: exit status and output. `changes`: to the model `tiny`."""
    program = (
        "from dataclasses import replace\n"
        "from avatar.hub import catalog\n"
        "from tests.integration.hub_server import TINY\n"
        f"catalog.MODELS['tiny'] = replace(TINY, **{changes!r})\n"
        "from avatar.cli import main\n"
        "main()"
    )
    environment = {**os.environ, "AVATAR_MODELS_DIR": str(tmp_path), "HF_ENDPOINT": hub.url}

    async def avatar_models(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, "models", *arguments),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    return environment, avatar_models


async def test_the_command_asks_before_it_fetches_what_has_terms(hub: Hub, tmp_path: Path) -> None:
    _, avatar_models = command(tmp_path, hub, terms="CC BY-NC 4.0: not for commercial use")
    code, output = await avatar_models("fetch", "tiny")
    assert code == 1
    assert output.splitlines() == [
        "Tiny is licensed under CC BY-NC 4.0: not for commercial use.",
        "tiny is not fetched: run again with --accept-terms to accept its licence.",
    ]
    assert not hub.requests
    code, output = await avatar_models("fetch", "tiny", "--accept-terms")
    assert (code, output.splitlines()[0]) == (0, "Tiny is licensed under CC BY-NC 4.0: not for commercial use.")
    code, output = await avatar_models("fetch", "tiny")  # once it is here nobody is asked again
    assert (code, output.splitlines()[-1]) == (0, f"tiny: was here already: {tmp_path / 'tiny'}")


async def test_the_command_fetches_through_hf_endpoint_and_verifies_offline(hub: Hub, tmp_path: Path) -> None:
    environment, avatar_models = command(tmp_path, hub)
    assert await avatar_models("path", "tiny") == (1, f"tiny is not in {tmp_path}: run `avatar models fetch tiny`.\n")
    code, output = await avatar_models("fetch", "tiny")
    assert (code, output.splitlines()[-1]) == (0, f"tiny: fetched from huggingface: {tmp_path / 'tiny'}")
    assert await avatar_models("path", "tiny") == (0, f"{tmp_path / 'tiny'}\n")
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"
    assert await avatar_models("verify") == (0, "tiny: ok\n")
    (tmp_path / "tiny/sub/model.bin").write_bytes(WEIGHTS[::-1])
    code, output = await avatar_models("verify", "tiny")
    assert (code, output) == (1, "tiny: sub/model.bin: wrong hash. Run `avatar models fetch tiny`.\n")
    environment["MODELSCOPE_DOMAIN"] = "http://127.0.0.1:9"
    code, output = await avatar_models("fetch", "tiny")
    assert code == 1
    assert "tiny: not fetched." in output
    assert "cannot be reached" in output
