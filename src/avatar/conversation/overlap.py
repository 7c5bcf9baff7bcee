"""What a voice over a live reply is: the user taking the turn, a listener's "mm-hm", or the reply's own echo.

Judges by what the reply has just said and by its sound; knows neither turns nor engines.
"""

from collections.abc import Callable
from typing import Protocol

from avatar.core.audio import Pcm
from avatar.core.backchannel import is_backchannel
from avatar.core.echo import ECHO_LIKENESS, EchoReference, said_by_us
from avatar.core.turn_events import OverlapSound


class Overheard(Protocol):
    """A reply as far as it may come back through the room."""

    def echo_reference(self) -> EchoReference:
        """The last seconds of what was sent."""
        ...

    @property
    def text(self) -> str:
        """What there is of it so far."""
        ...

    @property
    def awaits_answer(self) -> bool:
        """Whether it has come to its end, and that is a question."""
        ...


class Overlap:
    """Judges for one session; `reply` gives the live reply, if there is one; `backchannels` are a house's own."""

    def __init__(self, reply: Callable[[], Overheard | None], backchannels: tuple[str, ...] = ()) -> None:
        self._reply = reply
        self._backchannels = backchannels

    def is_echo(self, pcm: Pcm) -> bool:
        """Is this sound (float32[n], mono, 16 kHz) what the reply has just said? Takes about 1 ms."""
        reply = self._reply()
        return reply is not None and reply.echo_reference().likeness(pcm) >= ECHO_LIKENESS

    def judge(self, words: str, *, over: bool) -> OverlapSound:
        """By what was made out of it; `over`: nothing more will come."""
        reply = self._reply()
        if reply is not None and said_by_us(words, reply.text):
            return OverlapSound.ECHO
        if not words:
            return OverlapSound.NOISE if over else OverlapSound.UNKNOWN
        if not is_backchannel(words, self._backchannels) or (over and reply is not None and reply.awaits_answer):
            return OverlapSound.SPEECH
        return OverlapSound.BACKCHANNEL if over else OverlapSound.UNKNOWN
