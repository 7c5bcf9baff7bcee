"""vLLM as a `LanguageModel`, in this process (its own worker beside it): many sessions at once on a GPU.

Owns the engine and the way from messages to tokens: the model's own chat template, and Hermes-style tool calls, which
its default model (Qwen2.5) writes. vLLM itself batches, caches prompt prefixes and aborts what is closed. The package
is imported when it is warmed up: that takes seconds, and it is an extra. Knows no settings.
"""

import asyncio
import contextlib
import copy
import gc
import importlib
import itertools
import json
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from avatar.core.errors import EngineError, EngineFailed, EngineLost, PromptTooLong
from avatar.engines.base import Capabilities, Delta, Message, Sampling, Tool
from avatar.engines.llm import hermes, wire
from avatar.engines.llm.hermes import HermesFilter
from avatar.engines.llm.tokens import estimate_tokens

_log = logging.getLogger(__name__)

# Nothing leaves the machine: vLLM would report its use. A worker started by fork would inherit this process's threads.
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


class Vllm:
    """The model in the folder `path` (safetensors, as hubs have them).

    `gpu_memory_fraction`: what vLLM may take of the GPU, weights and KV cache together. `quantization` empty: as the
    model's own config says, which picks the fastest kernel (AWQ weights run as `awq_marlin`). `engine_args`: any more
    of vLLM's `AsyncEngineArgs`. Without a `temperature` the model's `generation_config.json` decides, else the
    likeliest token is taken.
    """

    def __init__(
        self,
        path: Path,
        context_tokens: int = 4096,
        gpu_memory_fraction: float = 0.5,
        quantization: str = "",
        concurrent: int = 32,
        engine_args: Mapping[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._context_tokens = context_tokens
        self._concurrent = concurrent
        self._engine_args = {
            "model": str(path),
            "max_model_len": context_tokens,
            "gpu_memory_utilization": gpu_memory_fraction,
            "quantization": quantization or None,
            "max_num_seqs": concurrent,
            "disable_log_stats": True,
            **(engine_args or {}),
        }
        self._loading = asyncio.Lock()
        self._templating = ThreadPoolExecutor(
            1, thread_name_prefix="vllm-template"
        )  # the tokenizer takes one at a time
        self._request_ids = itertools.count()
        self._engine: Any = None
        self._vllm: Any = None
        self._engine_class: Any = None
        self._tokenizer: Any = None
        self._counter: Any = None
        self._delta: Any = None
        self._defaults: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return f"vllm ({self._path.name})"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(streams=True, concurrent=self._concurrent)

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        """Exact after `warm_up`, an overestimate before."""
        if self._counter is None:
            return estimate_tokens(text)
        return len(self._counter.encode(text, add_special_tokens=False))

    async def warm_up(self) -> None:
        """Start vLLM and answer once; a minute or two on a GPU, where it compiles."""
        async with self._loading:
            if self._engine is None:
                await asyncio.to_thread(self._import)
                await asyncio.to_thread(self._load)
                async for _ in self._answer([Message("user", "Hello.")], (), Sampling(max_tokens=2)):
                    pass

    async def aclose(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            if engine.output_handler is not None:  # it would take the shutdown for a crash
                engine.output_handler.cancel()
                await asyncio.wait([engine.output_handler])
            await asyncio.to_thread(engine.shutdown)
            del engine
            await asyncio.to_thread(gc.collect)  # it sits in a cycle, and fails if only the interpreter's end finds it
        await asyncio.to_thread(self._templating.shutdown)

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> AsyncGenerator[Delta, None]:
        await self.warm_up()
        async with contextlib.aclosing(self._answer(messages, tools, sampling or Sampling())) as deltas:
            async for delta in deltas:
                yield delta

    async def _answer(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        begun = hermes.begun_call(sampling.tool_choice) if tools and sampling.tool_choice != "auto" else ""
        prompt = await asyncio.get_running_loop().run_in_executor(
            self._templating, self._prompt, messages, tools, begun
        )
        params = self._sampling_params(sampling)
        outputs = self._engine.generate({"prompt_token_ids": prompt}, params, f"avatar-{next(self._request_ids)}")
        reader, calls, made = wire.ChunkReader(), HermesFilter(begun), 0
        try:
            async with contextlib.aclosing(outputs):
                async for output in outputs:
                    made += len(output.outputs[0].token_ids)
                    if delta := reader.read(calls.read(_chunk(output.outputs[0], len(prompt), made))):
                        yield delta
        except Exception as error:
            _log.exception("vLLM failed.")
            raise self._meaning(reader.given) from error
        if not reader.finished:
            raise self._meaning(reader.given)

    def _meaning(self, given: bool) -> EngineError:
        what_to_do = "restart AVATAR" if self._engine is None or self._engine.errored else "ask again"
        if given:
            return EngineLost(f"vLLM failed in the middle of an answer: {what_to_do}.")
        return EngineFailed(f"vLLM could not answer: {what_to_do}; the log has the details.")

    def _prompt(self, messages: Sequence[Message], tools: Sequence[Tool], begun: str) -> list[int]:
        """Token ids of the conversation in the model's own format, and of the answer that is `begun`; on the one thread
        that uses the tokenizer."""
        ids: list[int] = self._tokenizer.apply_chat_template(
            _template_messages(messages),
            tools=wire.tool_dicts(tools) or None,
            add_generation_prompt=True,
            return_dict=False,
            enable_thinking=False,
        )
        if begun:
            ids = [*ids, *self._tokenizer.encode(begun, add_special_tokens=False)]
        if len(ids) >= self._context_tokens:
            raise PromptTooLong(
                f"The conversation does not fit into the model's context of {self._context_tokens} tokens: "
                "start a new one, or raise llm.context_tokens."
            )
        return ids

    def _sampling_params(self, sampling: Sampling) -> Any:
        asked = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
        return self._vllm.SamplingParams(
            **self._defaults | {key: value for key, value in asked.items() if value is not None},
            max_tokens=sampling.max_tokens,
            output_kind=self._delta,
        )

    def _import(self) -> None:
        """A step of its own: torch keeps the frames it was imported from, and whatever they hold."""
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        try:
            self._vllm = importlib.import_module("vllm")
            self._delta = importlib.import_module("vllm.sampling_params").RequestOutputKind.DELTA
            self._engine_class = importlib.import_module("vllm.v1.engine.async_llm").AsyncLLM
        except ImportError as error:
            raise EngineFailed("vLLM is not installed: `pip install 'avatar-voice[vllm]'`.") from error

    def _load(self) -> None:
        try:
            engine = self._engine_class.from_engine_args(self._vllm.AsyncEngineArgs(**self._engine_args))
        except Exception as error:
            _log.exception("vLLM did not start.")
            raise EngineFailed(
                f"vLLM could not load {self._path.name}; the log has the details. If GPU memory is short, lower "
                "llm.context_tokens or raise llm.gpu_memory_fraction."
            ) from error
        self._tokenizer = engine.get_tokenizer()
        self._counter = copy.deepcopy(self._tokenizer)
        self._defaults = {"temperature": 0.0} | engine.model_config.get_diff_sampling_param()
        self._defaults.pop("max_tokens", None)
        self._engine = engine


def _template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """As on the wire, but for the arguments of tool calls: templates write them out themselves."""
    entries = wire.message_dicts(messages)
    for entry in entries:
        for call in entry.get("tool_calls", ()):
            with contextlib.suppress(ValueError):
                call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return entries


def _chunk(piece: Any, prompt_tokens: int, made_tokens: int) -> dict[str, Any]:
    """A piece of vLLM's output as a server would send it."""
    return {
        "choices": [{"delta": {"content": piece.text}, "finish_reason": piece.finish_reason}],
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": made_tokens},
    }
