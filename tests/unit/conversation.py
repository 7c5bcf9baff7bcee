"""A live session on fakes and virtual time, driven by a script: what the user does and when, what the client gets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from avatar.conversation.log import ConversationLog
from avatar.conversation.outbox import Outbox
from avatar.conversation.precedence import Precedence
from avatar.conversation.session import LiveSession
from avatar.conversation.terms import Engines, SessionOptions, SessionPolicy
from avatar.conversation.tool_use import Caller
from avatar.core.audio import INPUT_RATE_HZ, Pcm, float_to_pcm16, ms_to_samples, pcm16_to_float, silence
from avatar.core.errors import NotFound
from avatar.core.events import ReplyAudioFrame, ReplyDone, ReplyTextDone, SessionEvent, TranscriptReady
from avatar.store import Conversation, Turn, TurnRecord, new_id
from tests.fakes.end_of_turn import FakeEndOfTurn
from tests.fakes.llm import FakeLanguageModel
from tests.fakes.stt import FakeSpeechToText
from tests.fakes.tts import FakeTextToSpeech
from tests.fakes.vad import FakeVoiceActivity

CONVERSATION = new_id("conv")


class ListStore:
    """Keeps turns in a list; `broken` refuses them."""

    def __init__(self) -> None:
        self.saved: list[TurnRecord] = []
        self.created: list[str] = []
        self.broken: Exception | None = None

    async def create_conversation(
        self,
        *,
        title: str = "",
        language: str | None = None,
        instructions: str | None = None,
        conversation_id: str | None = None,
    ) -> Conversation:
        self.created.append(conversation_id or "")
        return None  # type: ignore[return-value]  # the log does not look at it

    async def conversation(self, conversation_id: str) -> Conversation:
        raise NotFound("There is no such conversation.")

    async def save_turn(self, record: TurnRecord) -> Turn:
        if self.broken is not None:
            raise self.broken
        await asyncio.sleep(0.01)
        self.saved.append(record)
        return None  # type: ignore[return-value]  # the log does not look at it

    async def recent_turns(self, conversation_id: str, limit: int) -> list[Turn]:
        return []

    async def cut_heard(self, turn_id: str, heard_text: str) -> None:
        self.saved = [replace(turn, heard_text=heard_text) if turn.id == turn_id else turn for turn in self.saved]


class BytesDecoder:
    """Takes PCM16 for a container, so that scripts can say what a recording holds."""

    async def decode(self, data: bytes, *, max_s: float) -> Pcm:
        await asyncio.sleep(0.01)
        return pcm16_to_float(data)


@dataclass
class Client:
    """The client's end: speaks into a session and notes, with the time, what comes out of it."""

    session: LiveSession
    outbox: Outbox
    engines: "Fakes"
    store: ListStore
    chunk_ms: int = 20
    events: list[tuple[float, SessionEvent]] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    async def collect(self) -> None:
        while True:
            await self.reading.wait()
            event = await self.outbox.get()
            self.events.append((asyncio.get_running_loop().time(), event))
            if isinstance(event, ReplyAudioFrame):
                self.session.audio_sent(event.turn_id)

    async def hear(self, amplitude: float, seconds: float) -> None:
        """Send microphone audio in real time."""
        chunk = float_to_pcm16(tone(amplitude, self.chunk_ms))
        for _ in range(int(seconds * 1000 / self.chunk_ms)):
            self.session.audio(chunk)
            await asyncio.sleep(self.chunk_ms / 1000)

    async def speak(self, seconds: float) -> None:
        await self.hear(0.3, seconds)

    async def rest(self, seconds: float) -> None:
        await self.hear(0.0, seconds)

    def of(self, kind: type[SessionEvent]) -> list[SessionEvent]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def times(self, kind: type[SessionEvent]) -> list[float]:
        return [at for at, event in self.events if isinstance(event, kind)]

    @property
    def transcripts(self) -> list[str]:
        return [event.text for _, event in self.events if isinstance(event, TranscriptReady) and event.is_final]

    @property
    def drafts(self) -> list[str]:
        return [event.text for _, event in self.events if isinstance(event, TranscriptReady) and not event.is_final]

    @property
    def replies(self) -> list[str]:
        return [event.text for _, event in self.events if isinstance(event, ReplyTextDone)]

    @property
    def done(self) -> list[ReplyDone]:
        return [event for _, event in self.events if isinstance(event, ReplyDone)]

    @property
    def kinds(self) -> list[str]:
        """Names of the events, runs of the same kind once."""
        names = [type(event).__name__ for _, event in self.events]
        return [name for name, before in zip(names, [None, *names], strict=False) if name != before]

    def audio_s(self, turn_id: str | None = None) -> float:
        frames = [event for _, event in self.events if isinstance(event, ReplyAudioFrame)]
        return sum(frame.pcm.size for frame in frames if turn_id in (None, frame.turn_id)) / 24_000


@dataclass
class Fakes:
    """One fake for each stage; tests change them before or during the talk."""

    vad: FakeVoiceActivity = field(default_factory=FakeVoiceActivity)
    end_of_turn: FakeEndOfTurn = field(default_factory=FakeEndOfTurn)
    stt: FakeSpeechToText = field(default_factory=FakeSpeechToText)
    llm: FakeLanguageModel = field(default_factory=FakeLanguageModel)
    tts: FakeTextToSpeech = field(default_factory=FakeTextToSpeech)

    @property
    def engines(self) -> Engines:
        """As sessions take them."""
        precedence = Precedence(self.llm.capabilities.concurrent)
        return Engines(self.vad, self.end_of_turn, self.stt, self.llm, self.tts, precedence)


@asynccontextmanager
async def talking(
    fakes: Fakes | None = None,
    mode: Literal["live", "push_to_talk"] = "live",
    policy: SessionPolicy | None = None,
    caller: Caller | None = None,
) -> AsyncIterator[Client]:
    """A session and its client; on exit it is closed, and nothing of it may be left."""
    fakes = fakes or Fakes()
    store, outbox = ListStore(), Outbox()
    engines = fakes.engines
    options = SessionOptions(mode, "pcm16" if mode == "live" else "webm", INPUT_RATE_HZ, 24_000, "be kind")
    log = ConversationLog(store, CONVERSATION, fakes.llm.count_tokens, engines.names())
    session = LiveSession(options, engines, policy or SessionPolicy(), BytesDecoder(), log, outbox, caller)
    client = Client(session, outbox, fakes, store)
    client.reading.set()
    collecting = asyncio.create_task(client.collect())
    try:
        yield client
    finally:
        await session.aclose()
        await asyncio.sleep(0)
        collecting.cancel()
        await asyncio.wait([collecting])
        assert fakes.llm.active == 0
        assert fakes.tts.active == 0
        assert fakes.stt.opened == fakes.stt.closed


def tone(amplitude: float, ms: float) -> Pcm:
    """A square wave: loud enough for the fake ear at 0.3, silence at 0."""
    samples = ms_to_samples(ms, INPUT_RATE_HZ)
    if amplitude == 0.0:
        return silence(samples)
    wave: Pcm = (amplitude * np.sign(np.sin(np.arange(samples) * 0.2) + 0.01)).astype(np.float32)
    return wave


def recording(seconds: float, amplitude: float = 0.3) -> bytes:
    """What `BytesDecoder` takes for a recording."""
    return float_to_pcm16(tone(amplitude, seconds * 1000))
