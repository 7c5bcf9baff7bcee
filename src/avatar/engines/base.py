"""What an engine is: the Protocols every adapter fills and all the conversation knows of models.

An *engine* is one loaded model, shared by all sessions. A *stream* is one utterance on it.
Common duties of every engine:

- `warm_up()` loads what is slow to load and runs once, so that the first turn is as fast as the tenth.
- `aclose()` frees it. It is called once, after every stream is closed.
- Cancelling the awaiting task, or `aclose()`-ing an async generator, stops the work underneath (a decode loop, a
  request, a GPU slot) promptly, not at its natural end. Dropping a generator is not cancelling it: close it.
- Nothing longer than half a millisecond runs on the event loop; what is made ahead of its use is bounded.
- Errors: `EngineFailed` (it raised), `Overloaded` (refused before producing anything), `EngineLost` (died after
  its first chunk), `EngineTimeout`. Anything else an adapter raises is a bug, and is reported as `EngineFailed`.

This file knows no concrete engine, setting or session. `tests/contract/` holds each adapter, and its fake, to it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from avatar.core.audio import Pcm
from avatar.core.voices import Reference

Stage = Literal["vad", "end_of_turn", "stt", "llm", "tts"]
STAGES: tuple[Stage, ...] = ("vad", "end_of_turn", "stt", "llm", "tts")


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do. `languages` holds ISO 639-1 codes; empty means any."""

    languages: frozenset[str] = frozenset()
    streams: bool = False
    """STT: partial results while audio arrives. TTS: audio before the text is complete."""
    clones: bool = False
    """TTS: speaks in an enrolled voice."""
    has_own_voices: bool = True
    """TTS: speaks in voices of its own; if not, it makes one up while no enrolled one is asked for."""
    translates: bool = False
    """STT: is a `SpeechTranslation` as well."""
    writes_json: bool = False
    """LLM: its answer fits `Sampling.schema`."""
    concurrent: int = 1
    """Streams that really make progress at the same time; more are queued."""


class Engine(Protocol):
    """What every engine has, whatever its stage."""

    @property
    def name(self) -> str:
        """Registry name and model, for people: `moonshine (tiny, int8)`."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def warm_up(self) -> None:
        """Load the model and run it once. Idempotent. Raises `EngineFailed` with what to do."""
        ...

    async def aclose(self) -> None:
        """Free the model. Idempotent; safe before `warm_up`."""
        ...


# --- voice activity -----------------------------------------------------------------------------


class VoiceStream(Protocol):
    """Voice activity of one session's microphone, frame by frame; holds recurrent state, nothing else."""

    def probabilities(self, pcm: Pcm) -> list[float]:
        """Speech probability 0…1 of each of the next frames: float32[n * `frame_samples`], mono, 16 kHz.

        The same numbers however many frames come at once. Synchronous: an implementation takes under half a
        millisecond for one frame or is not a voice activity engine. Raises `ValueError` on a part of a frame.
        """
        ...

    def reset(self) -> None:
        """Forget the past: the next frame begins a new recording."""
        ...


@runtime_checkable
class VoiceActivity(Engine, Protocol):
    """Tells speech from everything else."""

    @property
    def frame_samples(self) -> int:
        """Frame length at 16 kHz."""
        ...

    def open(self) -> VoiceStream: ...


# --- end of turn --------------------------------------------------------------------------------


@runtime_checkable
class EndOfTurn(Engine, Protocol):
    """Tells a finished turn from a pause for thought, by its sound."""

    async def probability(self, pcm: Pcm) -> float:
        """Probability 0…1 that the speaker is done, from the turn so far (float32[n], mono, 16 kHz)."""
        ...


# --- speech to text -----------------------------------------------------------------------------


@dataclass(frozen=True)
class TimedWord:
    """A word, and when it was said: seconds from the beginning of the audio it was heard in."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Transcript:
    """What was said. `language` is ISO 639-1 where the engine detects it; `words` only where they were asked for."""

    text: str
    language: str | None = None
    words: tuple[TimedWord, ...] = ()


class TranscriptStream(Protocol):
    """One utterance being transcribed."""

    def accept(self, pcm: Pcm) -> None:
        """Take the next piece of audio (float32[n], mono, 16 kHz). Cheap; never blocks."""
        ...

    async def partial(self) -> Transcript:
        """Best guess at what has been accepted so far; may be unstable at its end.

        It delays nobody: while somebody waits for a `finish` of any utterance, it gives what it knew before.
        """
        ...

    async def finish(self) -> Transcript:
        """Transcribe all that was accepted. More may be accepted afterwards, and `finish` called again:
        that is how a reply is prepared at a pause that turns out not to be the end. Silence gives text ``""``."""
        ...

    async def aclose(self) -> None:
        """Drop the utterance and stop work on it. Idempotent."""
        ...


@runtime_checkable
class SpeechToText(Engine, Protocol):
    """Turns utterances into text."""

    def open(self, language: str | None = None) -> TranscriptStream:
        """Start an utterance. `language` (ISO 639-1) is a hint; None lets the engine detect it."""
        ...


@runtime_checkable
class WordTiming(Protocol):
    """What a speech-to-text engine also has if it can tell when each word was said."""

    async def time_words(self, pcm: Pcm, language: str | None = None) -> Transcript:
        """What is said in half a minute at most (float32[n], mono, 16 kHz), with its `words`.

        Takes about twice as long as the text alone; work that has begun outlives a cancellation.
        """
        ...


@runtime_checkable
class SpeechTranslation(Protocol):
    """What a speech-to-text engine also has if it can write down in English what is said in another language."""

    def open_translation(self, language: str | None = None) -> TranscriptStream:
        """As `SpeechToText.open`; `language` is what is spoken. The transcript's own language is that as well."""
        ...


# --- language model -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ToolCall:
    """A call the model asks for; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolCallPiece:
    """What the model has just written of a call's arguments; nothing yet, as a rule, in a call's first piece."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Tool:
    """A function the model may call; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: dict[str, object]


@dataclass(frozen=True)
class Message:
    """One entry of the prompt."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens. None leaves the engine's own default."""

    max_tokens: int = 300
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    tool_choice: str = "auto"
    """`auto`: the model calls tools as it likes; `required`: it must call one; else the name of the one to call."""
    schema: Mapping[str, Any] | None = None
    """The answer is JSON that fits this JSON schema (empty: any object); only for an engine that `writes_json`."""


@dataclass(frozen=True)
class TokensSpent:
    """What an answer took, as the engine counted it: the whole prompt, cached parts of it too, and what was made."""

    prompt: int
    completion: int


@dataclass(frozen=True)
class Delta:
    """A piece of the answer: text, or pieces of tool calls, or completed ones, or (last) why it ended and, where the
    engine tells, what it took.

    Every call comes completed; who wants no more need not look at `call_pieces`. An engine that can gives them before:
    one call after the other, in the order and with the ids of the completed ones. A call's pieces, joined, are what its
    arguments begin with, and whole JSON once the next call has begun.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None
    spent: TokensSpent | None = None
    call_pieces: tuple[ToolCallPiece, ...] = ()


@runtime_checkable
class LanguageModel(Engine, Protocol):
    """Thinks."""

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together, for one stream."""
        ...

    def count_tokens(self, text: str) -> int:
        """Length of `text` in tokens: exact where the engine has its tokenizer at hand, else an overestimate."""
        ...

    def stream(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> AsyncGenerator[Delta, None]:
        """Answer `messages`, delta by delta as the tokens come. The last delta has a `finish_reason`.

        Closing the generator (or cancelling the task inside it) stops the generation within one token.
        """
        ...


@runtime_checkable
class ReadsAhead(Protocol):
    """What a language model also has if it keeps the prompts it has read, and gains from reading one early."""

    async def read_ahead(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), sampling: Sampling | None = None
    ) -> None:
        """Read this prompt and answer nothing: an answer to one that begins like it then comes sooner, unchanged.

        Cancelling stops it at the next part of the prompt, and is over when the engine has let go. Raises as `stream`.
        """
        ...


# --- text to speech -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Mark:
    """`text[:text_end]` of all text given so far has been spoken once `sample` samples have been played."""

    text_end: int
    sample: int


@dataclass(frozen=True)
class SpeechChunk:
    """Audio (float32[n], mono, -1…1, at the engine's `sample_rate_hz`) with the marks that fall in it.

    Marks count characters and samples from the start of the stream, and never go backwards.
    """

    pcm: Pcm
    marks: tuple[Mark, ...] = field(default=())


@runtime_checkable
class TextToSpeech(Engine, Protocol):
    """Speaks."""

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Names `voice` may take. The first is the default."""
        ...

    def speak(
        self, text: AsyncIterator[str], *, voice: str | None = None, language: str | None = None
    ) -> AsyncGenerator[SpeechChunk, None]:
        """Speak pieces of text in the order they come; a piece is at least a clause, ready to be spoken.

        The first chunk of a piece is given as soon as it exists; the pieces are never glued first. After the last
        chunk of a piece a mark covers its whole text. Text nobody can speak (punctuation only) gives marks and no
        audio. An unknown `voice` falls back to the default. `language` (ISO 639-1) picks the pronunciation where the
        voice allows it. Closing the generator stops the synthesis; it also closes `text`, if it can be closed.
        """
        ...


@runtime_checkable
class ClonesVoices(TextToSpeech, Protocol):
    """Speaks like a recording.

    A voice is learned once under an id; then the id is among `voices`, and `speak` takes it. What an engine makes of a
    recording, its conditioning, is kept by whoever asks for it, and made again when `conditioning_version` changes.
    """

    @property
    def conditioning_version(self) -> str:
        """Names the engine, its model and the form of what `condition` makes."""
        ...

    async def condition(self, reference: Reference) -> bytes:
        """What `learn` needs to know of this recording. Raises `EngineFailed`."""
        ...

    def learn(self, voice: str, conditioning: bytes) -> None:
        """Speak with `voice` from now on; instead of another one of that name. Cheap. Raises `EngineFailed` on what
        `condition` did not make."""
        ...

    def forget(self, voice: str) -> None:
        """Speak with it no more, once what is being spoken has ended. Nothing happens if it is not known."""
        ...
