"""One utterance as the worker sees it: its text on the way in, its frames on the way out, and where both stand.

Pure bookkeeping: knows no tensors, no thread and no clock but the times it is told.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from avatar.engines.tts.qwen3.config import Sampling
from avatar.engines.tts.qwen3.prompt import AUTO, Opening
from avatar.engines.tts.qwen3.scheduler import FRAME_S, Standing, due_frames
from avatar.engines.tts.qwen3.steps import NO_TEXT
from avatar.engines.tts.qwen3.text import Committer
from avatar.engines.tts.qwen3.voices import Clone

Mode = Literal["streaming", "whole"]
"""Speak while text comes, or read all of it first (`non_streaming_mode` of the official package)."""
End = Literal["after text", "any time", "never"]
"""When the model may end an utterance: not before it was given all text; as the official package does it; or, to
measure speed, only at its limit."""
FinishReason = Literal["end", "limit", "cancelled"]


@dataclass(frozen=True)
class Request:
    """What is asked of an utterance. `voice`: a speaker's name, a clone, or None. `sampling` None: the model's own.

    `paced`: it is played as it comes, from its first packet on, so it need not be made far ahead of that; otherwise it
    is made as fast as it is taken.
    """

    voice: str | Clone | None = None
    language: str = AUTO
    instruction: str | None = None
    mode: Mode = "streaming"
    sampling: Sampling | None = None
    seed: int = 0
    end: End = "after text"
    paced: bool = True


@dataclass(frozen=True)
class Timings:
    """When things happened, in seconds of the engine's clock."""

    opened_s: float
    text_s: float
    """The first text came."""
    admitted_s: float
    """It got its slot."""
    ready_s: float
    """This packet was on the host."""


@dataclass(frozen=True)
class Packet:
    """Audio (float32[frames * 1920], 24 kHz, mono, -1..1) of frames from `first_frame` on, and their codes."""

    pcm: npt.NDArray[np.float32]
    first_frame: int
    codes: npt.NDArray[np.int64]
    """[frames, 16]"""
    timings: Timings

    @property
    def frames(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Hungry:
    """It has spoken all text that came, and all audio of that was given: it waits for more."""


@dataclass(frozen=True)
class Finished:
    """Nothing more will come. `error`: why it failed."""

    reason: FinishReason = "end"
    error: Exception | None = None


Event = Packet | Hungry | Finished
Emit = Callable[[Event], None]


@dataclass(eq=False)
class Speech:
    """An utterance. Its frames are counted as they are launched, decoded and delivered."""

    request: Request
    emit: Emit
    opening: Opening
    committer: Committer
    opened_s: float
    text_s: float | None = None
    admitted_s: float = 0.0
    first_packet_s: float | None = None

    text: deque[int] = field(default_factory=deque)
    """Tokens that came and are not spoken yet."""
    says_something: bool = False
    closed: bool = False
    """No more text will come."""
    slot: int | None = None
    position: int = 0
    """Where the next input goes."""
    limit: int = 0
    """Frames it may have at most."""
    end: int | None = None
    """Frames it has, once that is known."""
    frames: int = 0
    decoded: int = 0
    delivered: int = 0
    packets: int = 0
    taken: int = 0
    """Frames that its caller has taken; written by the caller's thread."""
    reason: FinishReason = "end"
    over: bool = False
    hungry: bool = False
    codes: list[npt.NDArray[np.int64]] = field(default_factory=list)
    """Of frames that are made and not delivered."""

    @property
    def is_ready(self) -> bool:
        """Whether speech can begin."""
        if self.request.mode == "whole":
            return self.closed
        return self.closed or len(self.text) >= self.opening.wanted_tokens

    @property
    def speaks(self) -> bool:
        return self.slot is not None and self.end is None

    @property
    def has_text(self) -> bool:
        return bool(self.text) or self.closed

    @property
    def may_end(self) -> bool:
        """Whether the frame whose text was just taken may be the last."""
        return self.request.end == "any time" or (self.request.end == "after text" and self.closed and not self.text)

    def next_text(self, pad: int) -> int:
        """The token for the next frame. The first one's is in its prompt."""
        if self.frames == 0:
            return NO_TEXT
        return self.text.popleft() if self.text else pad

    def lead_s(self, now_s: float) -> float:
        """How far it is ahead of its listener: of what has been played, or where nobody plays, of what was taken."""
        if self.request.paced and self.first_packet_s is not None:
            return self._unplayed_s(self.frames, now_s)
        return (self.frames - self.taken) * FRAME_S

    def is_late(self, now_s: float) -> bool:
        """Whether all that was delivered has been played, if it is played as it comes."""
        return self.request.paced and self._unplayed_s(self.delivered, now_s) < 0

    def _unplayed_s(self, frames: int, now_s: float) -> float:
        """How much of `frames` would be left if they were played from the first packet on."""
        return frames * FRAME_S - (now_s - (now_s if self.first_packet_s is None else self.first_packet_s))

    def standing(self, now_s: float) -> Standing:
        return Standing(self.lead_s(now_s), self.packets > 0, self.frames == 0 or self.has_text)

    def due(self, now_s: float) -> int:
        """Frames to decode now."""
        made = self.frames if self.end is None else self.end
        stands_still = self.end is not None or not self.has_text
        return due_frames(made - self.decoded, self.packets, self._unplayed_s(self.delivered, now_s), stands_still)

    def timings(self, now_s: float) -> Timings:
        return Timings(self.opened_s, self.text_s or self.opened_s, self.admitted_s, now_s)
