"""What is heard in a Realtime session: audio comes in, turns and transcripts go out as items and their events.

Knows of responses only that somebody may want to break a silence, or waits for words to be known.
"""

import asyncio
import math
from collections.abc import Callable

from avatar.conversation.push_to_talk import check_is_raw
from avatar.core.audio import ms_to_samples, samples_to_ms
from avatar.core.errors import AvatarError, BufferLimit, Problem, RateLimited, describe
from avatar.core.events import SpeechStopped, TranscriptReady
from avatar.server.realtime import errors, formats
from avatar.server.realtime.errors import BadEvent
from avatar.server.realtime.formats import AudioFormat
from avatar.server.realtime.items import InputAudio, UserMessage
from avatar.server.realtime.planning import turn_policy
from avatar.server.realtime.session import ServerVad
from avatar.server.realtime.sounds import decoded
from avatar.server.realtime.state import TalkState

LEAST_COMMIT_MS = 100
MAX_AT_ONCE = 2
"""Recordings of one session that are transcribed at the same time: others want their turns understood."""
MAX_UNTOLD = 64
"""Recordings of one session whose words are not known yet."""


class Hearing:
    """`speech` is the item that is being spoken; `untold` are those whose words are not known yet."""

    def __init__(self, state: TalkState, break_silence: Callable[[], None], words_known: Callable[[], None]) -> None:
        """`words_known` is called when an item's are, or never will be, that is no turn about to be answered."""
        self.speech: str | None = None
        self.untold: dict[str, asyncio.Event] = {}
        self._state = state
        self._break_silence = break_silence
        self._words_known = words_known
        self._speech_began_ms = self._preroll_ms = 0.0
        self._turns: dict[str, tuple[str, float]] = {}
        self._unanswered: list[str] = []
        self._written: set[str] = set()
        self._buffer = bytearray()
        self._rate_hz = self._uncommitted_bytes = 0
        self._taken_ms = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self._silence: asyncio.TimerHandle | None = None

    async def aclose(self) -> None:
        """Leave no task behind."""
        self.stop_waiting()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- audio ----------------------------------------------------------------------------------

    @property
    def form(self) -> AudioFormat:
        """Of the audio that comes in."""
        return self._state.settings.audio.input.format

    def listen(self) -> None:
        """From now on as the session's settings have it. What is in the buffer stays, unless it is of another rate."""
        rate_hz = formats.rate_hz(self.form)
        if rate_hz != self._rate_hz:
            self._empty()
            self._rate_hz = rate_hz
        turns = turn_policy(self._state.house.policy.turns, self._state.detection)
        self._preroll_ms = turns.preroll_ms if turns is not None else 0.0
        if turns is not None:
            self._uncommitted_bytes = 0
        self._state.live.listen(turns, rate_hz, self._taken_ms)

    def append(self, audio: str) -> None:
        """Audio of the client's, in base64 and the session's format. Raises `BadEvent`, and as `hear` does."""
        data = decoded(audio, "audio")
        if not self._taken_ms:  # before any of it counts
            check_is_raw(data)
        if len(data) % formats.sample_bytes(self.form):
            raise BadEvent("invalid_value", "Invalid 'audio': expected whole samples of 16 bits.", "audio")
        self.hear(formats.to_pcm16(self.form, data))

    def hear(self, pcm16: bytes, *, is_endless: bool = False) -> None:
        """Audio (mono, little-endian int16) at the rate of the session's format. Raises `BadAudio`, and `BufferLimit`
        when it is for the client to commit, and it does not; of what comes by itself (`is_endless`) the latest is kept.
        """
        self._taken_ms += samples_to_ms(len(pcm16) // 2, self._rate_hz)
        self._buffer += pcm16
        most_bytes = 2 * int(self._state.house.policy.buffer.max_s * self._rate_hz)
        if not is_endless and self._state.detection is None:
            self._uncommitted_bytes += len(pcm16)
            if self._uncommitted_bytes > most_bytes:
                self._empty()
                raise BufferLimit("The input audio buffer is full, and was emptied. Commit shorter turns.")
        del self._buffer[: max(len(self._buffer) - most_bytes, 0)]
        if self._state.detection is not None and pcm16:
            self._state.live.audio(pcm16)

    def _empty(self) -> None:
        self._buffer.clear()
        self._uncommitted_bytes = 0

    def commit(self) -> None:
        """What is in the buffer is a turn, which as documented is not answered by itself. Raises `BadEvent` when it is
        too little, `RateLimited` when there are too many."""
        pcm16 = bytes(self._buffer) if self.speech is None else self._since(self._speech_began_ms)
        if (buffered_ms := samples_to_ms(len(pcm16) // 2, self._rate_hz)) < LEAST_COMMIT_MS:
            raise errors.commit_empty(buffered_ms)
        self.check_has_time()
        self._empty()
        self.stop_waiting()
        item_id = self.speech or self._state.mint("item")
        if self.speech is not None:
            self.speech = None
            self._state.tell(self._state.events.speech_stopped(item_id, self._taken_ms))
        self._state.live.clear_audio()
        self._add_spoken(item_id, pcm16)
        self._transcribe(item_id, pcm16, self._rate_hz)

    def clear(self) -> None:
        """Forget what is no turn yet."""
        self._empty()
        self._state.live.clear_audio()
        self._state.tell(self._state.events.cleared())

    def _since(self, at_ms: float) -> bytes:
        """What of the buffer came after that."""
        return bytes(
            self._buffer[max(0, len(self._buffer) - 2 * ms_to_samples(self._taken_ms - at_ms, self._rate_hz)) :]
        )

    # --- turns ----------------------------------------------------------------------------------

    def speech_started(self, at_ms: float) -> None:
        """Somebody speaks. As documented the client is told where the audio of the turn begins: a little before."""
        self.stop_waiting()
        self.speech, self._speech_began_ms = self._state.mint("item"), max(0.0, at_ms - self._preroll_ms)
        self._state.tell(self._state.events.speech_started(self.speech, self._speech_began_ms))

    def speech_stopped(self, event: SpeechStopped) -> None:
        """They are silent; it may have been a turn, which is told, as documented, with the silence that ended it."""
        item_id, self.speech = self.speech, None
        if item_id is None:
            if event.turn_id is not None:
                self._state.live.cancel(event.turn_id)  # the client committed it meanwhile, and answers as it likes
            return
        detection = self._state.detection
        silence_ms = detection.silence_duration_ms if isinstance(detection, ServerVad) else math.inf
        ended_ms = max(event.at_ms, min(event.at_ms + silence_ms, self._taken_ms))
        self._state.tell(self._state.events.speech_stopped(item_id, ended_ms))
        if event.turn_id is None:
            return
        self._turns[event.turn_id] = (item_id, (ended_ms - self._speech_began_ms) / 1000)
        spoken, rest = self._since(self._speech_began_ms), self._since(ended_ms)
        self._buffer[:] = rest
        self._add_spoken(item_id, spoken[: len(spoken) - len(rest)])

    def turn_understood(self, event: TranscriptReady) -> bool:
        """What was said in a turn; False if the turn is none of ours."""
        if event.turn_id not in self._turns:
            return False
        item_id, seconds = self._turns.pop(event.turn_id)
        self._understood(item_id, event.text, seconds)
        return True

    def turn_failed(self, turn_id: str, problem: Problem) -> bool:
        """A turn could not be understood; False if it is none of ours."""
        if turn_id not in self._turns:
            return False
        item_id, _ = self._turns.pop(turn_id)
        self._not_understood(item_id, problem)
        self._words_known()
        return True

    def written(self, item: UserMessage, sound: bytes) -> None:
        """A user's message that the client made, and whose id is known; what is said in its `sound` is found out.

        As documented no transcription event tells of it: those are for what was in the input buffer.
        """
        self._unanswered.append(item.id or "")
        if (pcm16 := self._whole_samples(sound)) and item.id:
            self.untold[item.id] = asyncio.Event()
            self._written.add(item.id)
            self._transcribe(item.id, pcm16, self._rate_hz)

    async def words_in(self, sound: bytes) -> str:
        """What is said in `sound`, in the session's format. Raises the engines' errors."""
        async with self._at_once:
            return (await self._state.live.transcribe(self._whole_samples(sound), self._rate_hz)).text

    def check_has_time(self) -> None:
        """Raise `RateLimited` when too many recordings wait for their words already."""
        if len(self.untold) >= MAX_UNTOLD:
            raise RateLimited(f"{MAX_UNTOLD} recordings wait to be transcribed. Send more when these are done.")

    def _whole_samples(self, sound: bytes) -> bytes:
        sample_bytes = formats.sample_bytes(self.form)
        return formats.to_pcm16(self.form, sound[: len(sound) // sample_bytes * sample_bytes])

    def take_unanswered(self) -> list[str]:
        """The users' messages since this was last asked for: what a response that begins now answers."""
        taken, self._unanswered = self._unanswered, []
        return taken

    def _add_spoken(self, item_id: str, pcm16: bytes) -> None:
        """What was said is an item; its words are known later."""
        events, conversation = self._state.events, self._state.conversation
        self._state.tell(events.committed(item_id, conversation.last_id))
        item, before = conversation.create(
            UserMessage(id=item_id, content=[InputAudio(type="input_audio", transcript=None)])
        )
        self._state.tell(events.item_added(item, before), events.item_done(item, before))
        conversation.note_sound(item_id, self.form, formats.from_pcm16(self.form, pcm16))
        self.untold[item_id] = asyncio.Event()
        self._unanswered.append(item_id)

    # --- transcripts ----------------------------------------------------------------------------

    def _transcribe(self, item_id: str, pcm16: bytes, rate_hz: int) -> None:
        async def transcribe() -> None:
            try:
                async with self._at_once:
                    said = await self._state.live.transcribe(pcm16, rate_hz)
                self._understood(item_id, said.text, samples_to_ms(len(pcm16) // 2, rate_hz) / 1000)
            except AvatarError as error:
                self._not_understood(item_id, describe(error))
            self._words_known()

        task = asyncio.create_task(transcribe(), name="transcription")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _understood(self, item_id: str, text: str, seconds: float) -> None:
        self._state.conversation.note_transcript(item_id, text)
        events = self._state.events
        if self._tells(item_id):
            if text:
                self._state.tell(events.transcription_delta(item_id, text))
            self._state.tell(events.transcription_completed(item_id, text, seconds))
        self._told(item_id)

    def _not_understood(self, item_id: str, problem: Problem) -> None:
        if self._tells(item_id):
            failed = self._state.events.transcription_failed(item_id, problem.code.lower(), problem.message)
            self._state.tell(failed)
        self._told(item_id)

    def _tells(self, item_id: str) -> bool:
        """Whether the client is told what was said."""
        is_awaited = item_id in self.untold and item_id not in self._written
        return self._state.settings.audio.input.transcription is not None and is_awaited

    def _told(self, item_id: str) -> None:
        self._written.discard(item_id)
        if item_id in self.untold:
            self.untold.pop(item_id).set()

    # --- when nobody speaks ---------------------------------------------------------------------

    def stop_waiting(self) -> None:
        """Something happens."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def wait_for_user(self, sound_s: float) -> None:
        """Break the silence that follows what is being played now, which is so long, if it is as long as it may be."""
        self.stop_waiting()
        detection = self._state.detection
        if isinstance(detection, ServerVad) and detection.idle_timeout_ms is not None and self.speech is None:
            wait_s = sound_s + detection.idle_timeout_ms / 1000
            self._silence = asyncio.get_running_loop().call_later(
                wait_s, self._nobody_spoke, self._taken_ms, detection.idle_timeout_ms
            )

    def _nobody_spoke(self, since_ms: float, for_ms: float) -> None:
        self._silence = None
        since_ms = max(since_ms, self._taken_ms - for_ms)  # from when it had been played
        item_id = self._state.mint("item")
        self._state.tell(self._state.events.timeout_triggered(item_id, since_ms, self._taken_ms))
        self._add_spoken(item_id, b"")
        self._understood(item_id, "", 0.0)
        self._break_silence()
