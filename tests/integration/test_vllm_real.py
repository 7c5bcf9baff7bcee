"""The real vLLM, held to the contract of language models; it needs no GPU.

Runs where `vllm` can be imported and `AVATAR_VLLM_MODEL` names a folder with SmolLM2-135M-Instruct as safetensors:
`python benchmarks/vllm_cpu.py convert <gguf> <folder>` makes one. On a CPU, `VLLM_CPU_KVCACHE_SPACE=1` keeps it small.
"""

import asyncio
import gc
import importlib.util
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from avatar.core.errors import EngineFailed
from avatar.engines.base import LanguageModel
from avatar.engines.llm.vllm import Vllm
from tests.contract.test_llm_contract import STORY, LanguageModelContract, answer, ask

pytestmark = [
    pytest.mark.weights,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),  # vLLM and torch deprecate each other
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.skipif("AVATAR_VLLM_MODEL" not in os.environ, reason="AVATAR_VLLM_MODEL names no model folder"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """A vLLM that died leaves its sockets to the garbage collector, which complains: here it may.

    They are free only after the test that killed it, with its log records; so that test is not the last.
    """
    yield
    gc.collect()


_ON_CPU = {"enforce_eager": True, "dtype": "bfloat16"}


def load(folder: Path, **options: object) -> Vllm:
    return Vllm(folder, context_tokens=1024, concurrent=4, engine_args=_ON_CPU | options)


async def test_a_folder_without_a_model_is_refused_with_advice(tmp_path: Path) -> None:
    engine = load(tmp_path)
    with pytest.raises(EngineFailed, match="could not load"):
        await engine.warm_up()
    await engine.aclose()


async def test_a_worker_that_dies_loses_the_answer_and_says_so() -> None:
    psutil = pytest.importorskip("psutil")
    engine = load(Path(os.environ["AVATAR_VLLM_MODEL"]))
    await engine.warm_up()
    async with aclosing(engine.stream(STORY)) as deltas:
        await anext(deltas)
        for child in psutil.Process().children(recursive=True):
            child.kill()
        with pytest.raises(EngineFailed, match="restart AVATAR"):
            async with asyncio.timeout(30):
                _ = [delta async for delta in deltas]
    with pytest.raises(EngineFailed, match="restart AVATAR"):
        await answer(engine, ask("Hello?"))
    await engine.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Vllm]:
    """One for all tests: it takes half a minute to start."""
    engine = load(Path(os.environ["AVATAR_VLLM_MODEL"]))
    await engine.warm_up()
    yield engine
    await engine.aclose()
    await engine.aclose()


@pytest.mark.asyncio(loop_scope="module")
class TestVllm(LanguageModelContract):
    async def test_tokens_are_counted_exactly(self, engine: LanguageModel) -> None:
        assert engine.count_tokens("Hello, how are you?") == 6

    async def test_a_closed_answer_leaves_no_request_behind(self, engine: Vllm) -> None:
        running = engine._engine.get_num_unfinished_requests
        stream = engine.stream(STORY)
        await anext(stream)
        assert running() == 1
        await stream.aclose()
        assert running() == 0
