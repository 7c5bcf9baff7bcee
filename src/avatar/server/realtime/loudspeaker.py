"""What a client hears whose sound does not travel in events: responses, one after another, at the pace they are played.

Whoever sends the sound takes frame by frame what is due, and so it is known to the sample what has been played. Pure:
time is what was taken. Knows neither codec nor socket.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from avatar.core.audio import Pcm, Resampler, samples_to_ms, silence

RATE_HZ = 48_000
"""Of Opus (RFC 7587)."""

Change = Literal["started", "stopped"]


@dataclass(frozen=True)
class Cut:
    """A response that was stopped: how much of its message had been played, and whether any of it had begun to be."""

    response_id: str
    item_id: str
    played_ms: float
    had_started: bool


@dataclass
class _Sound:
    """One response's."""

    item_id: str
    resampler: Resampler
    waiting: deque[Pcm] = field(default_factory=deque)
    played_samples: int = 0
    has_started: bool = False
    is_whole: bool = False


class Loudspeaker:
    """Plays responses in the order in which they began to sound. `on_change` is told when one starts, and when it has
    been played to its end."""

    def __init__(self) -> None:
        self.on_change: Callable[[Change, str], None] = lambda change, response_id: None
        self._sounds: dict[str, _Sound] = {}
        self._silenced: set[str] = set()

    def play(self, response_id: str, item_id: str, pcm: Pcm, rate_hz: int) -> None:
        """More sound of a response (float32[n], mono, -1…1), as fast as it is made; of one that was stopped: none."""
        if response_id in self._silenced:
            return
        sound = self._sounds.get(response_id)
        if sound is None:
            sound = self._sounds[response_id] = _Sound(item_id, Resampler(rate_hz, RATE_HZ))
        sound.waiting.append(sound.resampler.push(pcm))

    def end(self, response_id: str) -> None:
        """That was all of it; what is there is played to its end."""
        self._silenced.discard(response_id)
        sound = self._sounds.get(response_id)
        if sound is not None:
            sound.waiting.append(sound.resampler.push(silence(0), last=True))
            sound.is_whole = True
            self._retire(response_id)

    def take(self, samples: int) -> Pcm:
        """What is due now (float32[samples], mono, `RATE_HZ`); silence where there is nothing."""
        due = silence(samples)
        filled = 0
        while filled < samples and self._sounds:
            response_id, sound = next(iter(self._sounds.items()))
            taken = _fill(due[filled:], sound.waiting)
            filled += taken
            sound.played_samples += taken
            if taken and not sound.has_started:
                sound.has_started = True
                self.on_change("started", response_id)
            if not self._retire(response_id):
                break
        return due

    def clear(self) -> list[Cut]:
        """Not a sample more of anything there is; what is still made of it is not played either."""
        cuts = [
            Cut(response_id, sound.item_id, samples_to_ms(sound.played_samples, RATE_HZ), sound.has_started)
            for response_id, sound in self._sounds.items()
        ]
        self._silenced |= {response_id for response_id, sound in self._sounds.items() if not sound.is_whole}
        self._sounds.clear()
        return cuts

    def _retire(self, response_id: str) -> bool:
        """Whether it has been played to its end, and is gone."""
        sound = self._sounds[response_id]
        if not sound.is_whole or any(piece.size for piece in sound.waiting):
            return False
        del self._sounds[response_id]
        if sound.has_started:
            self.on_change("stopped", response_id)
        return True


def _fill(due: Pcm, waiting: deque[Pcm]) -> int:
    """Move as much as fits from `waiting` into `due`; returns how much that was."""
    filled = 0
    while waiting and filled < due.size:
        piece = waiting.popleft()
        taken = min(piece.size, due.size - filled)
        np.copyto(due[filled : filled + taken], piece[:taken])
        filled += taken
        if taken < piece.size:
            waiting.appendleft(piece[taken:])
    return filled
