"""llama.cpp as a `LanguageModel`, in this process: any GGUF file, on the CPU or on what GPU the package was built for.

Owns the loaded model, its slots, and the bridge from the library's blocking calls to asyncio: a thread for each running
answer, which a closed generator stops at the next token, or at the next 64 tokens of a prompt still being read. Answers
beyond the slots wait their turn. The library generates on its own thread as fast as it can, so what is made ahead is
bounded by `max_tokens` and by nothing else. Knows no settings, and nothing of where the file came from.
"""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import xllamacpp

from avatar.core.errors import EngineFailed, EngineLost, PromptTooLong, UnusableSchema
from avatar.engines.base import Capabilities, Delta, Message, Sampling, Tool
from avatar.engines.llm import hermes, wire
from avatar.engines.llm.hermes import HermesFilter
from avatar.engines.llm.tokens import DENSE_SAMPLE, estimate_tokens

_log = logging.getLogger(__name__)

# A batch of prompt is what cannot be interrupted and what all other answers wait for. A CPU reads 64 at a time as fast
# as 2048 (SmolLM2: 400 tokens/s on 2 cores), and each in 0.15 s; a GPU wants more at once.
_CPU_BATCH_TOKENS = 64
_GPU_BATCH_TOKENS = 512
_PROMPT_CACHE_MIB = 512  # prompts whose slot another session took; without it each turn is read from the start
_DEVICE_CPU = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU


class LlamaCpp:
    """One GGUF model. `context_tokens` is for each of the `slots`; `gpu_layers` -1: all that fit.

    `threads` 0: half the logical cores. With a thread for every core, one other busy thread makes it 5 times slower.
    Without a `temperature` the likeliest token is taken: small models are wrong oftener when left to chance.
    """

    def __init__(
        self, path: Path, context_tokens: int = 4096, slots: int = 4, threads: int = 0, gpu_layers: int = -1
    ) -> None:
        self._path = path
        self._context_tokens = context_tokens
        self._slots = slots
        self._threads = threads or max(1, (os.cpu_count() or 1) // 2)
        self._gpu_layers = gpu_layers
        self._server: Any = None
        self._loading = asyncio.Lock()
        self._free = asyncio.Semaphore(slots)
        self._answering = ThreadPoolExecutor(slots, thread_name_prefix="llama.cpp")
        self._tokens_per_dense_char = 2.0
        self._template_knows_tools = False

    @property
    def name(self) -> str:
        return f"llama.cpp ({self._path.stem})"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(streams=True, writes_json=True, concurrent=self._slots)

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        """An overestimate; what a Chinese character costs is measured on the model by `warm_up`."""
        return estimate_tokens(text, self._tokens_per_dense_char)

    async def warm_up(self) -> None:
        """Load the file. The library holds the interpreter while it does: 0.7 s for SmolLM2, more for larger ones."""
        async with self._loading:
            if self._server is None:
                self._server = await asyncio.to_thread(self._load)

    async def aclose(self) -> None:
        await asyncio.to_thread(self._unload)

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> AsyncGenerator[Delta, None]:
        await self.warm_up()
        body, calls = self._asked(messages, tools, sampling or Sampling())
        reader = wire.ChunkReader()
        answer, _ = await self._begin(body)
        try:
            while not reader.finished:
                chunk = self._checked(await answer.chunks.get(), reader)
                if delta := reader.read(calls.read(chunk) if tools else chunk):
                    yield delta
        finally:
            answer.dropped = True

    async def read_ahead(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> None:
        await self.warm_up()
        body, _ = self._asked(messages, tools, replace(sampling or Sampling(), max_tokens=0))
        reader = wire.ChunkReader()
        answer, ended = await self._begin(body)
        try:
            while (chunk := await answer.chunks.get()) is not None:
                self._checked(chunk, reader)
        finally:
            answer.dropped = True
            await asyncio.wait([ended])  # only then is its slot free for the answer, with all that was read in it

    async def _begin(self, body: dict[str, Any]) -> tuple["_Answer", "asyncio.Future[None]"]:
        """Have a slot make the answer, and what is done when its thread has ended."""
        answer = _Answer(asyncio.get_running_loop())
        await self._free.acquire()
        try:
            ended = answer.loop.run_in_executor(self._answering, answer.run, self._server, body)
        except BaseException:
            self._free.release()
            raise
        ended.add_done_callback(lambda _: self._free.release())
        return answer, ended

    def _asked(
        self, messages: Sequence[Message], tools: Sequence[Tool], sampling: Sampling
    ) -> tuple[dict[str, Any], HermesFilter]:
        """The request, and what finds the tool calls in its answer.

        The library passes over tools that the model's template does not know, and does not see to it that one is
        called; its own grammar, made from a schema, does.
        """
        forced = bool(tools) and sampling.tool_choice != "auto"
        call = {"json_schema": hermes.call_schema(tools, sampling.tool_choice)} if forced else {}
        if forced:
            sampling = replace(sampling, schema=None)
        if forced or not self._template_knows_tools:
            messages, tools = hermes.in_text(messages, tools), ()
        body = {"temperature": 0.0} | wire.request(messages, tools, sampling) | _OPTIONS | call
        return body, HermesFilter("<tool_call>" if forced else "")

    def _checked(self, chunk: dict[str, Any] | None, reader: wire.ChunkReader) -> dict[str, Any]:
        """`chunk`, unless it tells of an error, or of the end where none was due (None)."""
        error = {} if chunk is None else chunk.get("error")
        if error is None:
            return chunk or {}
        if error.get("type") == "exceed_context_size_error":
            raise PromptTooLong(
                f"The conversation does not fit into the model's context of {self._context_tokens} tokens: "
                "start a new one, or raise llm.context_tokens."
            )
        if error.get("type") == UNUSABLE_SCHEMA:
            raise UnusableSchema("The model cannot be held to that JSON schema: it is invalid, or too unusual.")
        _log.error("llama.cpp failed: %s %s", error.get("type"), error.get("code"))
        lost = "llama.cpp stopped in the middle of an answer; ask again."
        raise EngineLost(lost) if reader.given else EngineFailed("llama.cpp could not answer; ask again.")

    def _load(self) -> Any:
        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.n_ctx, params.n_parallel = self._context_tokens * self._slots, self._slots
        params.n_gpu_layers = self._gpu_layers
        on_gpu = self._gpu_layers != 0 and any(d["type"] != _DEVICE_CPU for d in xllamacpp.get_device_info())
        params.n_batch = params.n_ubatch = _GPU_BATCH_TOKENS if on_gpu else _CPU_BATCH_TOKENS
        for cpu in (params.cpuparams, params.cpuparams_batch):
            cpu.n_threads = self._threads
        params.cache_ram_mib = _PROMPT_CACHE_MIB
        params.verbosity = -1
        params.ui = params.endpoint_slots = False
        # The library insists on an HTTP server. It gets a socket in a private folder, which is then taken away.
        with tempfile.TemporaryDirectory(prefix="avatar-") as private:
            params.hostnames = [f"{private}/llama.sock"]
            try:
                server = xllamacpp.Server(params)
            except RuntimeError:
                raise EngineFailed(
                    f"llama.cpp cannot load {self._path.name}: the file is missing, damaged or not a GGUF model, or "
                    "memory is short. Fetch it again, or lower llm.context_tokens or llm.slots."
                ) from None
        self._tokens_per_dense_char = _prompt_tokens(server, DENSE_SAMPLE) / len(DENSE_SAMPLE)
        self._template_knows_tools = _template_knows_tools(server)
        return server

    def _unload(self) -> None:
        self._answering.shutdown()
        self._server = None  # the library frees the model with its last reference


UNUSABLE_SCHEMA = "unusable_schema"
"""Our name for what the library raises when it can make no grammar of a schema."""

_OPTIONS = {
    "cache_prompt": True,
    "return_progress": True,  # a chunk for each batch of prompt, so that it can be stopped there
    "chat_template_kwargs": {"enable_thinking": False},
}


class _Answer:
    """One answer between two threads: `run` fills `chunks` on one (None ends them), the loop empties them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.dropped = False

    def run(self, server: Any, body: dict[str, Any]) -> None:
        """Blocks until the answer is complete, has failed, or is dropped and has got its next chunk."""
        try:
            if not self.dropped:
                server.handle_chat_completions(body, self._take)
        except Exception as error:
            is_schema = "JSON schema error" in str(error)
            self._take({"error": {"type": UNUSABLE_SCHEMA if is_schema else type(error).__name__}})
        self._take(None)

    def _take(self, chunk: dict[str, Any] | None) -> bool:
        """The library's callback; it would swallow an exception, and stops when told True."""
        try:
            self.loop.call_soon_threadsafe(self.chunks.put_nowait, chunk)
        except RuntimeError:  # the loop has closed
            self.dropped = True
        return self.dropped


def _prompt_tokens(server: Any, text: str) -> int:
    """Tokens of `text` in a prompt; runs the model twice."""
    return _tokens(server, text) - _tokens(server, "")


def _template_knows_tools(server: Any) -> bool:
    """Whether a tool on offer makes the prompt longer; runs the model twice."""
    tools = wire.tool_dicts([Tool("now", "The time.", {"type": "object", "properties": {}})])
    return _tokens(server, "Hello.", tools=tools) > _tokens(server, "Hello.")


def _tokens(server: Any, content: str, **more: Any) -> int:
    """Tokens of a prompt with this message."""
    usage: list[int] = []

    def take(chunk: dict[str, Any]) -> bool:
        usage.append((chunk.get("usage") or {}).get("prompt_tokens", 0))
        return False

    server.handle_chat_completions({"messages": [{"role": "user", "content": content}], "max_tokens": 1} | more, take)
    return usage[0]
