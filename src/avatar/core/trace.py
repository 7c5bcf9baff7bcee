"""Where the time of one turn went: its stages on one clock, and the numbers that come of them.

Pure arithmetic on times that others take; knows no clock, no task and no wire.
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

Stage = Literal["endpoint", "stt", "tools", "llm_first_token", "first_clause", "tts_first_audio", "queue", "wire"]
"""In the order of a turn: until it is found to be over; until the transcript; until all is known for which the model
called tools before it said a word; until its first token; its first clause; the first audio; until that is sent, held
back as long as the turn may go on; until the socket has taken it."""
STAGES: tuple[Stage, ...] = get_args(Stage)
ENGINE_STAGES: tuple[Stage, ...] = ("stt", "tools", "llm_first_token", "first_clause", "tts_first_audio")
"""In which an engine works, or a tool; they follow one another."""


@dataclass(frozen=True)
class Span:
    """One stage, in milliseconds since the user's last sample of speech (push-to-talk: since they ended the recording;
    typed turns: since the message); negative before that."""

    name: Stage
    start_ms: float
    end_ms: float


@dataclass(frozen=True)
class Waste:
    """Replies of one turn that were prepared and dropped: how many, the tokens they had, the work of their engines."""

    eager_tries: int = 0
    wasted_tokens: int = 0
    wasted_ms: float = 0.0

    def plus(self, tokens: int, work_ms: float) -> "Waste":
        """One more of them."""
        return Waste(self.eager_tries + 1, self.wasted_tokens + tokens, round(self.wasted_ms + work_ms, 1))


@dataclass(frozen=True)
class TurnMetrics:
    """Where a turn's time went, in milliseconds; None where a stage did not run."""

    endpoint_ms: float | None = None
    stt_ms: float | None = None
    tools_ms: float | None = None
    llm_ttft_ms: float | None = None
    first_clause_ms: float | None = None
    tts_ttfa_ms: float | None = None
    queue_ms: float | None = None
    wire_ms: float | None = None
    own_ms: float | None = None
    voice_to_voice_ms: float | None = None
    eager_tries: int = 0
    wasted_tokens: int = 0
    wasted_ms: float = 0.0
    underruns: int = 0
    trace: tuple[Span, ...] = ()

    def numbers(self) -> dict[str, float]:
        """All of it that is known, flat: a span is `trace.<stage>.start_ms` and `trace.<stage>.end_ms`."""
        flat = {name: value for name, value in asdict(self).items() if isinstance(value, int | float)}
        for span in self.trace:
            flat[f"trace.{span.name}.start_ms"], flat[f"trace.{span.name}.end_ms"] = span.start_ms, span.end_ms
        return flat


class TurnTrace:
    """Collects the stages, in seconds of any one clock. The first time that a stage is noted counts."""

    def __init__(self) -> None:
        self._times_s: dict[Stage, tuple[float, float]] = {}

    def __contains__(self, stage: Stage) -> bool:
        return stage in self._times_s

    def note(self, stage: Stage, start_s: float, end_s: float) -> None:
        """`stage` ran from `start_s` to `end_s`."""
        self._times_s.setdefault(stage, (start_s, end_s))

    def follow(self, stage: Stage, after: Stage, end_s: float) -> None:
        """`stage` ran from the end of `after`, if that ran, to `end_s`."""
        if after in self._times_s:
            self.note(stage, self._times_s[after][1], end_s)

    def end_s(self, stage: Stage) -> float | None:
        """When `stage` ended."""
        return self._times_s[stage][1] if stage in self._times_s else None

    def metrics(self, origin_s: float, waste: Waste, underruns: int) -> TurnMetrics:
        """The numbers; `origin_s` is the moment of the user's last sample of speech."""
        sent_s = self.end_s("queue")
        return TurnMetrics(
            endpoint_ms=self._ms("endpoint"),
            stt_ms=self._ms("stt"),
            tools_ms=self._ms("tools"),
            llm_ttft_ms=self._ms("llm_first_token"),
            first_clause_ms=self._ms("first_clause"),
            tts_ttfa_ms=self._ms("tts_first_audio"),
            queue_ms=self._ms("queue"),
            wire_ms=self._ms("wire"),
            own_ms=self._own_ms(),
            voice_to_voice_ms=None if sent_s is None else _to_ms(sent_s - origin_s),
            underruns=underruns,
            trace=self._spans(origin_s),
            **asdict(waste),
        )

    def _ms(self, stage: Stage) -> float | None:
        if stage not in self._times_s:
            return None
        start_s, end_s = self._times_s[stage]
        return _to_ms(end_s - start_s)

    def _own_ms(self) -> float | None:
        """Of the time between the decision that the turn is over and its first sound on the wire, what no engine took:
        prompts, queues, clauses, sockets, an event loop that was busy."""
        if "wire" not in self._times_s:
            return None
        decided_s, told_s = self.end_s("endpoint") or -math.inf, self._times_s["wire"][1]
        own_s = told_s - max(decided_s, min(start_s for start_s, _ in self._times_s.values()))
        for stage in ENGINE_STAGES:
            start_s, end_s = self._times_s.get(stage, (0.0, 0.0))
            own_s -= max(0.0, end_s - max(start_s, decided_s))
        return _to_ms(own_s)

    def _spans(self, origin_s: float) -> tuple[Span, ...]:
        times = [(stage, self._times_s[stage]) for stage in STAGES if stage in self._times_s]
        return tuple(
            Span(stage, _to_ms(start_s - origin_s), _to_ms(end_s - origin_s)) for stage, (start_s, end_s) in times
        )


def _to_ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
