"""What the user says in one turn: its audio, and what the transcriber makes of it, early and in the end.

Knows neither when a turn begins nor when it is over.
"""

import asyncio
import logging
from collections.abc import Callable

import numpy as np

from avatar.conversation.plan import Said
from avatar.conversation.watch import within
from avatar.core.audio import INPUT_RATE_HZ, Pcm, silence
from avatar.core.errors import AvatarError
from avatar.core.partials import StablePrefix
from avatar.engines.base import SpeechToText

logger = logging.getLogger(__name__)

FIRST_ROOM_SAMPLES = 8 * INPUT_RATE_HZ
"""Most utterances are shorter; the room doubles when one is not."""
DRAFT_EVERY_SAMPLES = INPUT_RATE_HZ // 2
"""Half a second of speech holds a word or two: earlier, a draft would say what the one before it said."""

DRAFT_AT_PAUSE_SAMPLES = INPUT_RATE_HZ // 5
"""A short word; stop consonants are pauses too, and would ask again and again."""


class Utterance:
    """The user's speech of one turn, as audio and in the transcriber."""

    def __init__(
        self,
        stt: SpeechToText,
        language: str | None,
        timeout_s: float,
        tell_draft: Callable[[str], None] | None = None,
        guess: Callable[[str], None] | None = None,
    ) -> None:
        """`tell_draft` gets what is known of the words while they are spoken: each time the whole of it, a beginning of
        the next. `guess` gets what they seem to be so far, the doubtful ones too."""
        self._stream = stt.open(language)
        self._timeout_s = timeout_s
        self._tell_draft = tell_draft
        self._guess = guess
        self._stable = StablePrefix()
        self._drafting: asyncio.Task[None] | None = None
        self._drafted_samples = 0
        self._room = silence(FIRST_ROOM_SAMPLES)
        self._samples = 0
        self._listening = 0
        self._asked = False
        self._said = Said("")
        self._heard = asyncio.Event()
        self._heard.set()

    def accept(self, pcm: Pcm) -> None:
        """More of it (16 kHz)."""
        end = self._samples + pcm.size
        if end > self._room.size:
            self._room = np.concatenate([self._room, silence(max(end, self._room.size))])
        self._room[self._samples : end] = pcm
        self._samples = end
        self._stream.accept(pcm)

    @property
    def pcm(self) -> Pcm:
        """All of it so far; no copy, and what comes later leaves it as it is."""
        return self._room[: self._samples]

    async def listen(self) -> Said:
        """What was said so far. May be asked again when there is more."""
        pcm = self.pcm
        self._asked = True
        self._listening += 1
        self._heard.clear()
        try:
            transcript = await within(self._timeout_s, self._stream.finish(), "speech recognition")
            self._said = Said(transcript.text.strip(), transcript.language, pcm)
        finally:
            self._listening -= 1
            if not self._listening:
                self._heard.set()
        return self._said

    async def last_words(self) -> Said:
        """What `listen` found, or is about to find, since `goes_on`."""
        if not self._asked:
            return await self.listen()
        await self._heard.wait()
        return self._said

    def goes_on(self) -> None:
        """Speech went on after a pause: what was found is not its end."""
        self._asked = False

    def draft(self, *, may_be_all: bool = False) -> None:
        """Find out what was said so far, if that is new and nobody waits for the transcriber. `may_be_all`: a pause
        has begun; then a little is news."""
        fresh = self._samples - self._drafted_samples >= (DRAFT_AT_PAUSE_SAMPLES if may_be_all else DRAFT_EVERY_SAMPLES)
        if fresh and self._tell_draft is not None and self._drafting is None:
            self._drafted_samples = self._samples
            self._drafting = asyncio.create_task(self._draft(self._tell_draft), name="draft")

    async def _draft(self, tell: Callable[[str], None]) -> None:
        try:
            found = (await within(self._timeout_s, self._stream.partial(), "speech recognition")).text.strip()
            known = self._stable.text
            is_more = self._stable.push(found) != known
            if self._listening:
                return
            if is_more:
                tell(self._stable.text)
            if self._guess is not None:
                self._guess(found)
        except AvatarError as error:  # the final transcript will tell
            logger.debug("no draft (%s)", type(error).__name__)
        finally:
            self._drafting = None

    def end_drafts(self) -> None:
        """It is over: no draft comes after this."""
        self._tell_draft = None
        if self._drafting is not None:
            self._drafting.cancel()

    async def aclose(self) -> None:
        """Let the transcriber go."""
        self.end_drafts()
        if self._drafting is not None:
            await asyncio.wait([self._drafting])
        await self._stream.aclose()
