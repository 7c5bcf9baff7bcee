"""What every suite shares: real weights, virtual time in unit tests, and a guard against leaked asyncio tasks."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from avatar.settings import default_models_dir
from tests.virtual_clock import VirtualClockLoop

# Time is for benchmarks: a busy machine must not fail a law.
hypothesis.settings.register_profile("avatar", deadline=None)
hypothesis.settings.load_profile("avatar")

UNIT = Path(__file__).parent / "unit"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Unit tests run on virtual time; every other suite on the real clock."""
    if item.path.is_relative_to(UNIT):
        return {"virtual": VirtualClockLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real weights, laid out by the hub as `<key>/<file>`; `make setup` fills it."""
    folder = Path(os.environ.get("AVATAR_MODELS_DIR") or default_models_dir())
    if not folder.is_dir():
        pytest.fail(f"No weights in {folder}: run `make setup` first.")
    return folder


@pytest.fixture(scope="session")
def torch_on_one_thread() -> Iterator[None]:
    """Tiny models run faster so, and leave the other cores alone."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest_asyncio.fixture(autouse=True)
async def no_leaked_tasks() -> AsyncIterator[None]:
    """A test that leaves a task running fails: whoever starts a task must end it."""
    yield  # the fixture's own two halves run as tasks of their own, before and after the test's
    leaked = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in leaked:
        task.cancel()
    await asyncio.gather(*leaked, return_exceptions=True)
    assert not leaked, f"leaked tasks: {leaked}"
