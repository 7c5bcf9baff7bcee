"""The turn-taking machine, event by event."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.turns import (
    Action,
    AskEnd,
    BeginTurn,
    CommitTurn,
    DropReply,
    EndVerdict,
    Event,
    Frame,
    InterruptReply,
    Phase,
    PrepareReply,
    ReplyBegan,
    ReplyEnded,
    TurnPolicy,
    TurnTaking,
)

FRAME_MS = 32.0
POLICY = TurnPolicy()


class Microphone:
    """Feeds frames to a machine and notes what it does."""

    def __init__(self, policy: TurnPolicy = POLICY, verdict: float | None = 0.9) -> None:
        self.machine = TurnTaking(policy)
        self.verdict = verdict
        self.now_ms = 0.0
        self.actions: list[Action] = []

    def hear(self, probability: float, ms: float) -> "Microphone":
        for _ in range(int(ms / FRAME_MS)):
            self.tell(Frame(self.now_ms, self.now_ms + FRAME_MS, probability))
            self.now_ms += FRAME_MS
        return self

    def speak(self, ms: float) -> "Microphone":
        return self.hear(0.95, ms)

    def rest(self, ms: float) -> "Microphone":
        return self.hear(0.02, ms)

    def tell(self, event: Event) -> None:
        for action in self.machine.step(event):
            self.actions.append(action)
            if isinstance(action, AskEnd):
                self.tell(EndVerdict(self.verdict))

    @property
    def kinds(self) -> list[type[Action]]:
        return [type(action) for action in self.actions]


def test_a_finished_sentence_is_prepared_at_the_pause_and_committed_by_the_verdict() -> None:
    mic = Microphone().rest(320).speak(960).rest(640)
    assert mic.kinds == [BeginTurn, PrepareReply, AskEnd, CommitTurn]
    assert mic.actions[0] == BeginTurn(320)
    assert mic.actions[-1] == CommitTurn(speech_end_ms=1280, at_ms=1280 + 224)


def test_an_unfinished_sentence_waits_for_the_ceiling() -> None:
    mic = Microphone(verdict=0.1).speak(960).rest(2000)
    assert mic.kinds == [BeginTurn, PrepareReply, AskEnd, CommitTurn]
    commit = mic.actions[-1]
    assert isinstance(commit, CommitTurn)
    assert commit.at_ms - commit.speech_end_ms == pytest.approx(POLICY.ceiling_ms, abs=FRAME_MS)


def test_a_detector_that_cannot_say_is_no_verdict() -> None:
    mic = Microphone(verdict=None).speak(960).rest(640)
    assert CommitTurn not in mic.kinds


def test_going_on_drops_what_was_prepared() -> None:
    mic = Microphone(verdict=0.1).speak(640).rest(320).speak(640).rest(2000)
    assert mic.kinds == [BeginTurn, PrepareReply, AskEnd, DropReply, PrepareReply, AskEnd, CommitTurn]


def test_preparing_is_tried_only_so_often_in_a_turn() -> None:
    mic = Microphone(verdict=0.1)
    for _ in range(6):
        mic.speak(320).rest(320)
    assert mic.kinds.count(PrepareReply) == POLICY.eager_tries


def test_a_click_is_not_speech() -> None:
    mic = Microphone().rest(320).speak(32).rest(320).speak(64).rest(640)
    assert mic.actions == []


def test_a_yes_of_100_ms_is_a_turn() -> None:
    assert CommitTurn in Microphone().rest(320).speak(96).rest(640).kinds


def test_a_stop_consonant_in_the_first_syllable_does_not_start_the_count_anew() -> None:
    mic = Microphone().speak(64).rest(64).speak(64)
    assert mic.actions == [BeginTurn(0)]


def test_a_breath_in_a_pause_is_not_going_on() -> None:
    mic = Microphone(verdict=0.1).speak(640).rest(320).speak(32).rest(320)
    assert DropReply not in mic.kinds


def test_speech_over_a_reply_interrupts_it_after_a_moment() -> None:
    mic = Microphone()
    mic.tell(ReplyBegan())
    mic.rest(320).speak(128)
    assert mic.actions == []
    mic.speak(32)
    assert mic.actions == [InterruptReply(), BeginTurn(320)]


def test_when_the_reply_is_over_speech_interrupts_nothing() -> None:
    mic = Microphone()
    mic.tell(ReplyBegan())
    mic.tell(ReplyEnded())
    assert InterruptReply not in mic.speak(640).kinds


def test_a_turn_without_end_is_committed_at_its_longest() -> None:
    mic = Microphone(TurnPolicy(max_turn_ms=3200)).speak(4000)
    assert mic.kinds[:2] == [BeginTurn, CommitTurn]


def test_a_verdict_that_comes_too_late_changes_nothing() -> None:
    mic = Microphone(verdict=0.1).speak(640).rest(320).speak(320)
    mic.tell(EndVerdict(0.99))
    assert CommitTurn not in mic.kinds
    assert mic.machine.phase is Phase.SPEAKING


def test_who_pauses_long_is_given_longer() -> None:
    mic = Microphone(verdict=0.1).speak(640).rest(1100).speak(640)
    assert mic.machine.ceiling_ms == pytest.approx(1.4 * 1150 + 200, abs=100)
    mic.rest(1600)
    assert CommitTurn not in mic.kinds


def test_who_had_not_finished_is_given_longer_next_time() -> None:
    mic = Microphone(TurnPolicy(ceiling_ms=800), verdict=0.1).speak(640).rest(900)
    assert mic.kinds[-1] is CommitTurn
    mic.tell(ReplyBegan())
    mic.speak(640)
    assert mic.machine.ceiling_ms > 1200


def test_who_never_pauses_is_answered_sooner_and_sooner() -> None:
    mic = Microphone(verdict=0.9)
    for _ in range(20):
        mic.speak(640).rest(640)
    assert mic.machine.ceiling_ms == POLICY.ceiling_least_ms


probabilities = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95]), max_size=400)


def check_grammar(actions: Sequence[Action]) -> None:
    """Turns begin and end in order; at most one reply is prepared; nothing is dropped that was not prepared."""
    in_turn = prepared = False
    for action in actions:
        match action:
            case BeginTurn():
                assert not in_turn
                in_turn, prepared = True, False
            case PrepareReply():
                assert in_turn
                assert not prepared
                prepared = True
            case DropReply():
                assert prepared
                prepared = False
            case AskEnd():
                assert in_turn
            case CommitTurn(speech_end_ms, at_ms):
                assert in_turn
                assert speech_end_ms <= at_ms
                in_turn = False


@given(probabilities, st.floats(0, 1), st.booleans())
def test_any_sound_keeps_the_grammar_and_ends(frames: list[float], verdict: float, reply_live: bool) -> None:
    mic = Microphone(verdict=verdict)
    if reply_live:
        mic.tell(ReplyBegan())
    for probability in frames:
        mic.hear(probability, FRAME_MS)
    mic.rest(POLICY.ceiling_most_ms + 500)
    check_grammar(mic.actions)
    assert mic.machine.phase is Phase.QUIET
    assert mic.kinds.count(BeginTurn) == mic.kinds.count(CommitTurn)
