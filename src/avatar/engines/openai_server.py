"""What all adapters of OpenAI-compatible servers share: the connection, and what its failures mean. Knows no stage."""

import sys
from dataclasses import dataclass

import openai

from avatar.core.errors import EngineError, EngineFailed, EngineLost, EngineTimeout, Overloaded

NONSENSE = (ValueError, TypeError, AttributeError)
"""What the SDK raises on what is not JSON, or not what it expects."""

_HTTP_LIBRARY = next(kind.__module__ for kind in openai.DefaultAsyncHttpxClient.__mro__ if "httpx" in kind.__module__)
HTTP_ERRORS: tuple[type[Exception], ...] = (sys.modules[_HTTP_LIBRARY.partition(".")[0]].HTTPError,)
"""What the SDK lets through while a raw body is read: its HTTP library's own (httpx, or httpx2 from version 3 on)."""

_CONNECT_TIMEOUT_S = 5.0
_BUSY = (429, 502, 503, 504, 529)


def connect(base_url: str, api_key: str, read_timeout_s: float) -> openai.AsyncOpenAI:
    """A client that tries nothing twice by itself; aiohttp, which costs a fraction of httpx on this path."""
    timeout = openai.Timeout(read_timeout_s, connect=_CONNECT_TIMEOUT_S)
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key or "none",  # the SDK insists on one
        timeout=timeout,
        max_retries=0,
        http_client=openai.DefaultAioHttpClient(timeout=timeout),
    )


@dataclass(frozen=True)
class Failures:
    """Errors of one server, in our words. `kind`: what it is, `language model`; `section`: of the settings, `llm`;
    `route`: what it is asked for, `chat completions`; `product`: what it gives, `answer`."""

    base_url: str
    read_timeout_s: float
    kind: str
    section: str
    route: str
    product: str

    @property
    def address(self) -> str:
        """What to do when the address seems wrong."""
        return f"correct {self.section}.base_url (it often ends in /v1)"

    def nonsense(self) -> EngineFailed:
        """What came is not of the protocol."""
        return EngineFailed(f"What the server at {self.base_url} sent is no {self.product}: {self.address}.")

    def lost(self) -> EngineLost:
        """It broke off after something had been given."""
        return EngineLost(f"The {self.kind} server went away in the middle of its {self.product}; ask again.")

    def meaning(self, error: openai.APIError, model: str) -> EngineError:
        """An error before anything was given."""
        if isinstance(error, openai.APIStatusError):
            return self._meaning_of_status(error, model)
        if not isinstance(error, openai.APIConnectionError):
            return EngineFailed(f"The {self.kind} server reported an error of its own: see its log.")
        if is_silence(error):
            silence = f"gave nothing for {self.read_timeout_s:g} s"
            return EngineTimeout(f"The server at {self.base_url} {silence}: it may be loading or busy.")
        return Overloaded(
            f"No {self.kind} server answers at {self.base_url}: start it, or correct {self.section}.base_url."
        )

    def broken(self, error: Exception) -> EngineError:
        """The body broke off, or stopped, before anything was given."""
        if "Timeout" in type(error).__name__:
            return EngineTimeout(f"The server at {self.base_url} gave nothing for {self.read_timeout_s:g} s.")
        return Overloaded(f"The {self.kind} server broke off before its {self.product}: try again in a moment.")

    def _meaning_of_status(self, error: openai.APIStatusError, model: str) -> EngineError:
        status = error.status_code
        if status in (401, 403):
            return EngineFailed(f"The server at {self.base_url} refused the key: correct {self.section}.api_key.")
        if status == 404:
            return EngineFailed(
                f"The server at {self.base_url} knows no {self.route} with the model {model!r}: "
                f"{self.address} or {self.section}.model."
            )
        if status in _BUSY:
            return Overloaded(f"The {self.kind} server is busy (HTTP {status}): try again in a moment.")
        return EngineFailed(f"The {self.kind} server refused the request with HTTP {status}: see its log.")


def is_silence(error: openai.APIConnectionError) -> bool:
    """A read timed out. The SDK's aiohttp transport reports refused and lost connections as timeouts as well."""
    return isinstance(error, openai.APITimeoutError) and type(error.__cause__).__name__ == "ReadTimeout"
