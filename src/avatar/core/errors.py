"""Every error AVATAR raises on purpose, as one tree, and the one map from errors to wire codes.

    AvatarError                     code             HTTP  fatal
    ├── ClientError                                        the message dies, the session lives
    │   ├── BadMessage              BAD_MESSAGE      400
    │   ├── BadAudio                BAD_AUDIO        422
    │   ├── BufferLimit             BUFFER_LIMIT     413
    │   ├── NoSpeech                NO_SPEECH        422
    │   ├── NotFound                NOT_FOUND        404
    │   ├── VoiceNotReady           VOICE_NOT_READY  409
    │   ├── Conflict                CONFLICT         409
    │   └── Unsupported             UNSUPPORTED      501   no engine here can do it
    ├── EngineError                                        the turn dies, the session lives
    │   ├── EngineFailed            ENGINE_FAILED    502
    │   │   ├── EngineLost          ENGINE_FAILED    502   after the first chunk: what was heard stays
    │   │   ├── PromptTooLong       ENGINE_FAILED    502   it does not fit into the model's context
    │   │   └── UnusableSchema      ENGINE_FAILED    502   no answer can be held to it
    │   ├── EngineTimeout           ENGINE_TIMEOUT   504
    │   └── Overloaded              ENGINE_FAILED    503   nothing was produced: try elsewhere or later
    ├── StoreError                  NOT_SAVED        507   the conversation lives, the turn was not saved
    ├── CapacityError                                      refused at admission
    │   ├── ServerFull              SERVER_FULL      503   fatal
    │   ├── GpuMemory               GPU_MEMORY       503   fatal
    │   └── RateLimited             RATE_LIMITED     429
    ├── Unauthorized                UNAUTHORIZED     401   fatal
    └── SetupError                  (never on the wire: settings, weights, installation)

A message says what happened and what to do about it; it is shown to people as it is, so it holds
no transcript, key or path of another user. This file knows no transport.
"""

from dataclasses import dataclass
from typing import ClassVar


class AvatarError(Exception):
    """Base of the tree. `str(error)` is the message for people."""

    code: ClassVar[str] = "ENGINE_FAILED"
    http_status: ClassVar[int] = 500
    fatal: ClassVar[bool] = False


class ClientError(AvatarError):
    """The client sent something we cannot use."""

    http_status = 400


class BadMessage(ClientError):
    """Not JSON, an unknown type, or fields of the wrong type."""

    code = "BAD_MESSAGE"


class BadAudio(ClientError):
    """Audio that cannot be decoded, or is not what was declared."""

    code = "BAD_AUDIO"
    http_status = 422


class BufferLimit(ClientError):
    """More audio than one push-to-talk utterance may hold."""

    code = "BUFFER_LIMIT"
    http_status = 413


class NoSpeech(ClientError):
    """Audio was fine but nobody spoke in it."""

    code = "NO_SPEECH"
    http_status = 422


class NotFound(ClientError):
    """An id that does not exist (or belongs to somebody else)."""

    code = "NOT_FOUND"
    http_status = 404


class VoiceNotReady(ClientError):
    """The voice exists but is still being enrolled."""

    code = "VOICE_NOT_READY"
    http_status = 409


class Conflict(ClientError):
    """What was asked for does not go with what is going on: something is in use, or already under way."""

    code = "CONFLICT"
    http_status = 409


class Unsupported(ClientError):
    """A proper request that nothing on this server can serve."""

    code = "UNSUPPORTED"
    http_status = 501


class EngineError(AvatarError):
    """A model failed; the turn ends, the session goes on."""

    http_status = 502


class EngineFailed(EngineError):
    """The engine raised, or ended without a result."""

    code = "ENGINE_FAILED"


class EngineLost(EngineFailed):
    """The engine died after its first chunk; what was already heard must not be repeated."""


class PromptTooLong(EngineFailed):
    """A language model's prompt is longer than its context; nothing was produced."""


class UnusableSchema(EngineFailed):
    """A JSON schema, of the answer or of a tool, to which the engine can hold no answer; nothing was produced."""


class EngineTimeout(EngineError):
    """The engine gave nothing within its limit."""

    code = "ENGINE_TIMEOUT"
    http_status = 504


class Overloaded(EngineError):
    """The engine refused the work before producing anything."""

    code = "ENGINE_FAILED"
    http_status = 503


class StoreError(AvatarError):
    """The database or the audio folder could not be written or read."""

    code = "NOT_SAVED"
    http_status = 507


class CapacityError(AvatarError):
    """Admission refused the session or the request."""

    http_status = 503


class ServerFull(CapacityError):
    """No slot became free in time."""

    code = "SERVER_FULL"
    fatal = True


class GpuMemory(CapacityError):
    """VRAM use is above the admission threshold."""

    code = "GPU_MEMORY"
    fatal = True


class RateLimited(CapacityError):
    """Too much was asked for in a while."""

    code = "RATE_LIMITED"
    http_status = 429


class Unauthorized(AvatarError):
    """A missing or wrong key."""

    code = "UNAUTHORIZED"
    http_status = 401
    fatal = True


class SetupError(AvatarError):
    """The installation cannot do what was asked: bad settings, missing weights, missing package."""

    code = "SETUP"


@dataclass(frozen=True)
class Problem:
    """An error as clients see it, on any transport."""

    code: str
    message: str
    http_status: int
    fatal: bool


def describe(error: BaseException) -> Problem:
    """Map any exception to what a client may be told.

    Errors outside the tree become `ENGINE_FAILED` with a fixed message: their text may hold paths or
    user data, so it goes to the log and not to the client.
    """
    if isinstance(error, AvatarError):
        return Problem(error.code, str(error), error.http_status, error.fatal)
    return Problem("ENGINE_FAILED", "Something failed inside the server; its log has the details.", 500, False)
