"""Any server that speaks OpenAI's chat completions as a `LanguageModel`: `vllm serve`, SGLang, Ollama, llama-server.

A request is tried twice while nothing has been produced, so that a
connection the server had closed meanwhile goes unnoticed; what has begun is never begun again. Closing the generator
closes the connection, which is how such servers are told to stop. Knows no settings.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletionChunk

from avatar.core.errors import EngineError, EngineFailed, PromptTooLong
from avatar.engines.base import Capabilities, Delta, Message, Sampling, Tool
from avatar.engines.llm import wire
from avatar.engines.llm.tokens import estimate_tokens
from avatar.engines.openai_server import NONSENSE, Failures, connect, is_silence

_log = logging.getLogger(__name__)

_TOKENS_PER_DENSE_CHAR = 1.5  # current multilingual vocabularies need 0.6 to 1.3 for a Chinese character


class OpenAICompatible:
    """A model on the server at `base_url` (which ends in `/v1` as a rule); `model` empty: the first it offers.

    `read_timeout_s` is the longest silence, before the first token as between two.
    """

    capabilities = Capabilities(streams=True, writes_json=True, concurrent=16)

    def __init__(
        self,
        base_url: str,
        model: str = "",
        api_key: str = "",
        context_tokens: int = 4096,
        read_timeout_s: float = 30.0,
    ) -> None:
        self._base_url = base_url
        self._model = model
        self._context_tokens = context_tokens
        self._failures = Failures(base_url, read_timeout_s, "language model", "llm", "chat completions", "answer")
        self._client = connect(base_url, api_key, read_timeout_s)

    @property
    def name(self) -> str:
        return f"openai ({self._model or 'any model'} at {urlsplit(self._base_url).netloc})"

    @property
    def context_tokens(self) -> int:
        """As configured, or what the server says of its model, if that is less."""
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        """An overestimate: the tokenizer is on the server."""
        return estimate_tokens(text, _TOKENS_PER_DENSE_CHAR)

    async def warm_up(self) -> None:
        """Connect, and find the model. Raises `EngineFailed` when the server cannot be used as configured."""
        try:
            await self._find_model()
        except openai.APIError as error:
            raise EngineFailed(str(self._meaning(error, given=False))) from error
        except NONSENSE:
            raise self._failures.nonsense() from None

    async def aclose(self) -> None:
        await self._client.close()

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> AsyncGenerator[Delta, None]:
        reader = wire.ChunkReader()
        try:
            async with await self._open(wire.request(messages, tools, sampling or Sampling())) as chunks:
                async for chunk in chunks:
                    if delta := reader.read(chunk.model_dump(warnings=False)):
                        yield delta
                    if reader.finished:
                        return
        except openai.APIError as error:
            raise self._meaning(error, reader.given) from error
        except NONSENSE:
            _log.warning("The server at %s sent what is not a chat completion.", self._base_url)
        if reader.given:
            raise self._failures.lost()
        raise self._failures.nonsense()

    async def _find_model(self) -> None:
        try:
            models = {model.id: model async for model in self._client.models.list()}
        except openai.NotFoundError:  # not every server lists its models
            models = {}
        self._model = self._model or next(iter(models), "")
        if not self._model:
            raise EngineFailed(f"The server at {self._base_url} offers no model: load one there, or set llm.model.")
        if models and self._model not in models:
            offered = ", ".join(list(models)[:8])
            raise EngineFailed(f"The server at {self._base_url} has no model {self._model!r}; it offers: {offered}.")
        limit = getattr(models.get(self._model), "max_model_len", None)  # vLLM and SGLang say
        self._context_tokens = min(self._context_tokens, limit or self._context_tokens)

    async def _open(self, body: dict[str, Any]) -> openai.AsyncStream[ChatCompletionChunk]:
        if not self._model:
            await self._find_model()
        try:
            return await self._post(body)
        except openai.APIConnectionError as error:
            if is_silence(error):
                raise
            return await self._post(body)

    async def _post(self, body: dict[str, Any]) -> openai.AsyncStream[ChatCompletionChunk]:
        stream: openai.AsyncStream[ChatCompletionChunk] = await self._client.chat.completions.create(
            model=self._model, **body
        )
        return stream

    def _meaning(self, error: openai.APIError, given: bool) -> EngineError:
        if given:
            return self._failures.lost()
        if isinstance(error, openai.APIStatusError):
            too_long = error.status_code in (400, 413, 422) and "context" in error.message.lower()
            if too_long:
                return PromptTooLong(
                    "The conversation does not fit into the model's context: start a new one, or lower "
                    "llm.context_tokens."
                )
        return self._failures.meaning(error, self._model)
