"""Opens live sessions: from what a client asks for to a session with its conversation, or a refusal that says why.

What all sessions share lives here: engines, policy, decoder, store. Knows no wire and no socket.
"""

import hmac
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from avatar.conversation.lineup import Hold, Lineup
from avatar.conversation.log import ConversationLog, TurnStore
from avatar.conversation.outbox import Outbox
from avatar.conversation.push_to_talk import AudioKind, Decoder
from avatar.conversation.quality import HighQuality, WithFallback
from avatar.conversation.session import LiveSession
from avatar.conversation.terms import Engines, SessionOptions, SessionPolicy
from avatar.conversation.toolbox import Toolbox
from avatar.conversation.voices import Choice, choose, default_voice
from avatar.core.audio import INPUT_RATE_HZ
from avatar.core.errors import BadMessage, EngineError, NotFound, Problem, describe
from avatar.core.events import ErrorOccurred
from avatar.core.turns import Eagerness
from avatar.engines.base import ClonesVoices, TextToSpeech, Tool
from avatar.store.records import is_id, new_id
from avatar.tools.mcp_servers import McpServers
from avatar.voices.library import VoiceLibrary

VOICE_FALLBACK = "VOICE_FALLBACK"
"""Code of the message that another voice than the chosen one speaks."""
VOICE_DELETED = "The voice of this session was deleted. From the next turn on the default voice speaks."
QUALITY_FALLBACK = "QUALITY_FALLBACK"
"""Code of the message that the fast engine speaks where the better one was asked for."""
_LACK = "The high-quality voice cannot speak now; the fast one does. "


@dataclass(frozen=True)
class Request:
    """What a client asks for; None leaves the choice to the server."""

    mode: Literal["push_to_talk", "live"] = "push_to_talk"
    audio: AudioKind | None = None
    input_rate_hz: int | None = None
    output_rate_hz: int | None = None
    conversation_id: str | None = None
    resume_token: str | None = None
    voice: str | None = None
    language: str | None = None
    instructions: str | None = None
    eagerness: Eagerness | None = None
    quality: Literal["fast", "high"] = "fast"
    tools: tuple[Tool, ...] | None = None
    """The client's own, which are offered besides those of the MCP servers; None: it sees to all tools itself."""


class HoldingSession(LiveSession):
    """A session that lets go of its engines and tools when it is closed."""

    held: AsyncExitStack
    toolbox: Toolbox

    async def aclose(self) -> None:
        async with self.held:
            await super().aclose()


@dataclass(frozen=True)
class Opened:
    """A session and what its client must know of it."""

    session: HoldingSession
    options: SessionOptions
    conversation_id: str
    resume_token: str


class ResumeTokens:
    """Lets a client that lost its connection come back to its conversation, also before that was first saved.

    A token is the conversation's id signed with a secret of this server (HMAC-SHA-256, RFC 2104): nothing to store. It
    keeps nobody out who knows an id; there are no owners yet.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, conversation_id: str) -> str:
        """The token for this conversation."""
        return f"{conversation_id}.{self._sign(conversation_id)}"

    def conversation(self, token: str) -> str:
        """The conversation a token is for. Raises `NotFound` if we did not issue it."""
        conversation_id, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(conversation_id).encode()):
            raise NotFound("That resume token is not valid here. Start without it to begin a new conversation.")
        return conversation_id

    def _sign(self, conversation_id: str) -> str:
        return hmac.new(self._secret, conversation_id.encode(), "sha256").hexdigest()


@dataclass(frozen=True)
class House:
    """What all sessions share."""

    lineup: Lineup
    policy: SessionPolicy
    decoder: Decoder
    store: TurnStore
    tokens: ResumeTokens
    voices: VoiceLibrary
    instructions: str
    voice: str | None = None
    language: str | None = None
    high: HighQuality | None = None
    mcp: McpServers = field(default_factory=lambda: McpServers(()))

    @property
    def engines(self) -> Engines:
        """Those that a session would get now. Raises `Overloaded` while a stage has none."""
        return self.lineup.engines

    async def open(self, request: Request, outbox: Outbox) -> Opened:
        """A session for `request`, which keeps the engines that serve now until it is closed.

        Raises `BadMessage`, `NotFound` for a voice or conversation that is not there, `Overloaded` without engines.
        """
        async with AsyncExitStack() as held:
            hold = self.lineup.hold()
            held.callback(hold.release)
            engines, lack = await self._with_quality(request, hold, outbox, held)
            opened = await self._open(request, outbox, engines, held)
            held.enter_context(self.voices.telling_of_deletions(partial(self._lose_voice, opened.session, outbox)))
            opened.session.held = held.pop_all()
        if lack:  # no `await` follows, so `session.ready` goes out before it
            outbox.put(_notice(QUALITY_FALLBACK, lack))
        return opened

    async def _with_quality(
        self, request: Request, hold: Hold, outbox: Outbox, held: AsyncExitStack
    ) -> tuple[Engines, str]:
        """The engines, with the better voice if it is asked for and can be had; else why not."""
        if request.quality == "fast" or self.high is None:
            return hold.engines, ""

        def tell(why: str) -> None:
            outbox.put(_notice(QUALITY_FALLBACK, _LACK + why))

        try:
            speaker = await held.enter_async_context(self.high.speaker(hold, self.policy.reply.stall_timeout_s, tell))
            await self._teach(speaker.best, request.voice or None)
        except EngineError as error:
            return hold.engines, _LACK + describe(error).message
        return replace(hold.engines, tts=speaker), ""

    async def _teach(self, tts: TextToSpeech, voice: str | None) -> None:
        """An engine that was loaded just now knows no enrolled voices: it learns the one that is wanted."""
        profile = self.voices.find(voice) if voice is not None else default_voice(self.voices, tts)
        if (
            profile
            and profile.id not in tts.voices
            and profile.status == "ready"
            and isinstance(tts, ClonesVoices)
            and tts.capabilities.clones
        ):
            await self.voices.teach(tts, profile.id)

    async def _open(self, request: Request, outbox: Outbox, engines: Engines, held: AsyncExitStack) -> Opened:
        audio = request.audio or ("pcm16" if request.mode == "live" else "webm")
        if request.mode == "live" and audio != "pcm16":
            raise BadMessage("Live mode takes `pcm16` audio; recordings (`webm`) are for push_to_talk.")
        log = await self._log(request, engines)
        # No `await` follows: a voice that is deleted from now on is told to the session.
        choice = self._choose_voice(request.voice or None, engines)
        options = SessionOptions(
            mode=request.mode,
            audio=audio,
            input_rate_hz=request.input_rate_hz or INPUT_RATE_HZ,
            output_rate_hz=request.output_rate_hz or engines.tts.sample_rate_hz,
            instructions=self.instructions if request.instructions is None else request.instructions,
            voice=choice.voice,
            language=request.language or self.language,
            eagerness=request.eagerness or self.policy.eagerness,
        )
        servers = McpServers(()) if request.tools is None else self.mcp
        toolbox = Toolbox(servers, request.tools or (), self.policy.tools, outbox)
        held.push_async_callback(toolbox.aclose)
        session = HoldingSession(options, engines, self.policy, self.decoder, log, outbox, toolbox)
        session.toolbox = toolbox
        if choice.notice:  # no `await` follows, so `session.ready` goes out before it
            outbox.put(_notice(VOICE_FALLBACK, choice.notice))
        return Opened(session, options, log.conversation_id, self.tokens.issue(log.conversation_id))

    @contextmanager
    def speaker(self) -> Iterator[TextToSpeech]:
        """The speech engine that serves now, kept until the end whatever is loaded meanwhile. Raises `Overloaded`."""
        hold = self.lineup.hold()
        try:
            yield hold.engines.tts
        finally:
            hold.release()

    async def change_voice(self, session: LiveSession, voice: str, outbox: Outbox) -> None:
        """Let the turns to come be spoken with `voice` (empty: the default), or else with the default and a notice.

        Raises `NotFound`, `VoiceNotReady`, and `EngineError` where the engine cannot learn it; the session then keeps
        the voice it has.
        """
        tts = session.engines.tts
        if isinstance(tts, WithFallback):
            await self._teach(tts.best, voice or None)
        choice = self._choose_voice(voice or None, session.engines)
        session.change_voice(choice.voice)
        if choice.notice:
            outbox.put(_notice(VOICE_FALLBACK, choice.notice))

    def _lose_voice(self, session: LiveSession, outbox: Outbox, voice_id: str) -> None:
        if session.voice == voice_id:
            session.change_voice(self._choose_voice(None, session.engines).voice)
            outbox.put(_notice(VOICE_FALLBACK, VOICE_DELETED))

    def _choose_voice(self, voice: str | None, engines: Engines) -> Choice:
        choice = choose(voice, self.voices, engines.tts)
        return Choice(self.voice) if choice == Choice(None) else choice

    async def _log(self, request: Request, engines: Engines) -> ConversationLog:
        wanted = request.conversation_id
        if request.resume_token is not None:
            wanted = self.tokens.conversation(request.resume_token)
        if wanted is not None and not is_id(wanted, "conv"):
            raise NotFound("There is no such conversation. Start without `conversation_id` to begin a new one.")
        log = ConversationLog(self.store, wanted or new_id("conv"), engines.llm.count_tokens, engines.names())
        if wanted is not None:
            try:
                await log.load()
            except NotFound:
                if request.resume_token is None:
                    raise  # with a token it is ours: nothing of it has been saved yet
        return log


def _notice(code: str, message: str) -> ErrorOccurred:
    """Something the client should know; the session goes on."""
    return ErrorOccurred(Problem(code, message, 200, fatal=False))
