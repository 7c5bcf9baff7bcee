"""Fixtures every suite shares: real weights, and a guard that fails a test which leaks asyncio tasks."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from avatar.settings import default_models_dir


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real weights, laid out by the hub as `<key>/<file>`; `make setup` fills it."""
    folder = Path(os.environ.get("AVATAR_MODELS_DIR") or default_models_dir())
    if not folder.is_dir():
        pytest.fail(f"No weights in {folder}: run `make setup` first.")
    return folder


@pytest_asyncio.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """A test that leaves a task running fails: whoever starts a task must end it."""
    before = asyncio.all_tasks()
    yield
    leaked = [task for task in asyncio.all_tasks() - before if not task.done()]
    for task in leaked:
        task.cancel()
    await asyncio.gather(*leaked, return_exceptions=True)
    assert not leaked, f"leaked tasks: {leaked}"
