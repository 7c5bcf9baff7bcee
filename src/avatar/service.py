"""What lives as long as the server: engines, store, decoders, voices, admission; all of it made from the settings.

The server listens at once; engines load behind it, and `house` says when every stage can serve. Knows no route.
"""

import asyncio
import gc
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from avatar import __version__, choosing, voicing
from avatar.conversation import telemetry
from avatar.conversation.admission import SessionManager
from avatar.conversation.lineup import HIGH, Lineup, Pick
from avatar.conversation.opening import House, ResumeTokens
from avatar.conversation.plan import ReplyPolicy
from avatar.conversation.push_to_talk import BufferLimits
from avatar.conversation.quality import HighQuality
from avatar.conversation.terms import SessionPolicy, ToolPolicy
from avatar.conversation.vram import used_vram_fraction
from avatar.core.errors import Overloaded, StoreError
from avatar.core.progress import JobProgress
from avatar.core.turns import TurnPolicy
from avatar.engines.base import Sampling, Stage
from avatar.engines.fitness import misfit
from avatar.hub.downloads import Downloads
from avatar.hub.library import Library
from avatar.media.decoder import DecoderPool
from avatar.server import events, models
from avatar.server.ephemeral import EphemeralKeys
from avatar.server.openai.service import Service as OpenAIService
from avatar.server.provenance import Provenance
from avatar.server.realtime import calls
from avatar.server.realtime.ice import IceServer
from avatar.server.realtime.session import Session
from avatar.server.wire.client import MAX_TEXT_CHARS
from avatar.server.wire.server import Limits
from avatar.settings import Settings
from avatar.store import Store
from avatar.tools.mcp_servers import McpServer, McpServers
from avatar.voices.jobs import JobPolicy
from avatar.voices.library import VoiceLibrary

COLLECT_AFTER = (5_000, 10, 1)
"""Thresholds of Python's garbage collector: fewer, larger rounds than its own (700, 10, 10), full ones as often."""

STARTING = "The server is starting. Try again in a moment."
SECRET_BYTES = 32  # as long as what HMAC-SHA-256 makes of it


class Service:
    """What lives as long as the server: engines, store, decoders, admission.

    Raises `SetupError` when telemetry is asked for and cannot be had.
    """

    def __init__(self, settings: Settings, first: Mapping[Stage, Pick]) -> None:
        """`first`: the engines to begin with."""
        self.settings = settings
        self._first = first
        self.sessions = SessionManager(
            settings.admission.max_sessions,
            settings.admission.wait_s,
            settings.admission.max_vram_fraction,
            used_vram_fraction,
        )
        self.feed = events.Feed()
        self.provenance = Provenance(settings.voices.watermark, settings.voices.watermark_key)
        self.lineup = Lineup(first, self._tell)
        self.shelf = models.Shelf(
            Library(settings.models_dir, misfit),
            Downloads(
                settings.models_dir, settings.models.sources, settings.models.connect_timeout_s, self.feed.publish
            ),
            self.lineup.used_by,
        )
        tools = settings.tools
        self.mcp = McpServers([McpServer(**dict(server)) for server in tools.mcp_servers], tools.mcp_allowed_urls)
        self.ephemeral = EphemeralKeys[Session]()
        ice = [IceServer(**dict(server)) for server in settings.webrtc.ice_servers]
        self.calls = calls.Calls(self.house, self.sessions, ice, settings.server.send_timeout_s)
        admission, media = settings.admission, settings.media
        self.openai = OpenAIService(
            self.house,
            SessionManager(admission.max_requests, admission.wait_s, what="places for requests"),
            settings.server.send_timeout_s,
            media.max_upload_bytes,
            media.max_upload_s,
            self.provenance,
        )
        self._store: Store | None = None
        self._library: VoiceLibrary | None = None
        self._house: House | None = None
        collector = settings.telemetry.otlp_endpoint
        self._end_telemetry = telemetry.export_to(collector, __version__) if collector else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the store, start to load the engines; close all of it in the end, whatever of it fails."""
        settings = self.settings
        async with AsyncExitStack() as closing:
            closing.callback(gc.unfreeze)
            closing.callback(gc.set_threshold, *gc.get_threshold())
            gc.set_threshold(*COLLECT_AFTER)
            if self._end_telemetry is not None:
                closing.push_async_callback(asyncio.to_thread, self._end_telemetry)
            self._store = await Store.open(settings.data_dir)
            closing.push_async_callback(self._store.aclose)
            closing.push_async_callback(self.mcp.aclose)
            decoder = DecoderPool(settings.media.decoders, settings.media.timeout_s, settings.media.memory_bytes)
            closing.push_async_callback(decoder.aclose)
            await decoder.start()
            await asyncio.to_thread(self.shelf.library.clear_left_overs)
            self.shelf.downloads.restore()
            closing.push_async_callback(self.shelf.downloads.aclose)
            closing.push_async_callback(self.lineup.aclose)
            self._library = await VoiceLibrary.open(
                settings.data_dir / "voices",
                self._store.voices,
                voicing.enrolment(partial(voicing.serving, self.lineup), decoder, settings.models_dir),
                self._tell_of_voice,
                JobPolicy(timeout_s=settings.voices.enrolment_timeout_s, attempts=settings.voices.attempts),
            )
            closing.push_async_callback(self._library.aclose)
            high = HighQuality(
                self.lineup,
                partial(choosing.pick, settings, HIGH),
                settings.tts.high_idle_s,
                settings.tts.high_load_s,
            )
            closing.callback(high.close)
            self._house = _furnish(settings, self.lineup, decoder, self._store, self._library, high, self.mcp)
            closing.push_async_callback(self.calls.aclose)
            self.lineup.start()
            try:
                yield
            finally:
                self._house = None

    def _tell(self, progress: JobProgress) -> None:
        """Of engines that load; those that learn voices are told which there are."""
        self.feed.publish(progress)
        if progress.ended and self._library is not None:
            voicing.introduce(self.lineup, self._library)
        has_loaded = any(seat.name == progress.key and seat.state == "ready" for seat in self.lineup.seats.values())
        if has_loaded and not self.sessions.active:
            gc.freeze()  # what is loaded stays: a full collection would walk through it, and all talks wait 0.2 s

    def _tell_of_voice(self, progress: JobProgress) -> None:
        """Of an enrolment; a voice that is ready may call for other weights than those the server began with."""
        self.feed.publish(progress)
        if progress.state == "done" and not self.settings.tts.model:
            voicing.make_way(
                self.lineup, self._first["tts"], lambda engine: choosing.pick(self.settings, "tts", engine, None)
            )

    def store(self) -> Store:
        """The open store."""
        if self._store is None:
            raise StoreError(STARTING)
        return self._store

    def library(self) -> VoiceLibrary:
        """The voices people brought."""
        if self._library is None:
            raise StoreError(STARTING)
        return self._library

    def house(self) -> House:
        """What sessions need; while a stage has no engine, `Overloaded`."""
        if self._house is None:
            raise Overloaded(STARTING)
        self.lineup.require()
        return self._house

    @property
    def limits(self) -> Limits:
        """Bounds that clients are told."""
        conversation, server = self.settings.conversation, self.settings.server
        return Limits(
            max_buffer_bytes=conversation.max_buffer_bytes,
            max_buffer_chunks=conversation.max_buffer_chunks,
            max_utterance_s=conversation.max_utterance_s,
            max_message_bytes=server.max_message_bytes,
            max_text_chars=MAX_TEXT_CHARS,
        )


def _furnish(
    settings: Settings,
    lineup: Lineup,
    decoder: DecoderPool,
    store: Store,
    library: VoiceLibrary,
    high: HighQuality,
    mcp: McpServers,
) -> House:
    conversation, turns = settings.conversation, settings.turn_taking
    sampling = Sampling(max_tokens=conversation.max_reply_tokens, temperature=conversation.temperature)
    policy = SessionPolicy(
        turns=TurnPolicy(
            **turns.model_dump(exclude={"eagerness", "backchannels"}), max_turn_ms=conversation.max_utterance_s * 1000
        ),
        eagerness=turns.eagerness,
        backchannels=turns.backchannels,
        reply=ReplyPolicy(
            conversation.first_token_timeout_s,
            conversation.stall_timeout_s,
            conversation.playout_lead_ms / 1000,
            sampling,
            settings.tools.max_rounds,
        ),
        buffer=BufferLimits(
            conversation.max_buffer_bytes, conversation.max_buffer_chunks, conversation.max_utterance_s
        ),
        stt_timeout_s=conversation.stt_timeout_s,
        tools=ToolPolicy(settings.tools.approval_timeout_s, settings.tools.client_timeout_s),
    )
    return House(
        lineup,
        policy,
        decoder,
        store,
        ResumeTokens(_secret(settings.data_dir / "secret")),
        library,
        conversation.instructions,
        settings.tts.voice or None,
        settings.stt.language,
        high,
        mcp,
    )


def _secret(path: Path) -> bytes:
    """This server's secret, made at its first start, readable by its user alone."""
    if not path.exists() or path.stat().st_size < SECRET_BYTES:  # the disk may have been full
        path.touch(mode=0o600)
        path.write_bytes(secrets.token_bytes(SECRET_BYTES))
    return path.read_bytes()
