"""A model and its threads."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from avatar.core.errors import EngineFailed, Overloaded
from avatar.engines.worker import ModelThreads


class Model:
    """Counts how often it is loaded."""

    loads = 0

    def __init__(self) -> None:
        type(self).loads += 1


@pytest.fixture
async def threads() -> AsyncIterator[ModelThreads[Model]]:
    Model.loads = 0
    engine = ModelThreads("engine", Model, threads=2)
    yield engine
    await engine.aclose()


def raise_(error: Exception) -> Callable[[Model], None]:
    def work(_: Model) -> None:
        raise error

    return work


async def test_the_model_is_loaded_once_and_used_off_the_loop(threads: ModelThreads[Model]) -> None:
    models = await asyncio.gather(*(threads.run(lambda model: (model, threading.get_ident())) for _ in range(8)))
    await threads.warm_up()
    assert Model.loads == 1
    assert len({model for model, _ in models}) == 1
    assert threading.get_ident() not in {thread for _, thread in models}


async def test_errors_of_our_own_pass_and_others_become_engine_failed(
    threads: ModelThreads[Model], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Overloaded, match="busy"):
        await threads.run(raise_(Overloaded("busy")))
    assert not caplog.records
    with pytest.raises(EngineFailed, match=r"engine failed \(ZeroDivisionError\)"):
        await threads.run(raise_(ZeroDivisionError("secret")))
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_loading_is_tried_again_after_it_failed() -> None:
    missing = [True]

    def load() -> str:
        if missing:
            raise EngineFailed("The weights are missing.")
        return "model"

    threads = ModelThreads("engine", load)
    with pytest.raises(EngineFailed, match="missing"):
        await threads.warm_up()
    missing.clear()
    assert await threads.run(lambda model: model) == "model"
    await threads.aclose()


async def test_cancelled_work_that_waits_never_begins(threads: ModelThreads[Model]) -> None:
    go = threading.Event()
    busy = [asyncio.ensure_future(threads.run(lambda _: go.wait())) for _ in range(2)]
    done: list[int] = []
    waiting = asyncio.ensure_future(threads.run(lambda _: done.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    go.set()
    await asyncio.gather(*busy)
    await threads.run(lambda _: None)
    assert done == []


async def test_closed_is_closed(threads: ModelThreads[Model]) -> None:
    await threads.warm_up()
    await threads.aclose()
    await threads.aclose()
    with pytest.raises(EngineFailed, match="closed"):
        await threads.warm_up()
