"""The turn-taking machine, event by event."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.completeness import Completeness
from avatar.core.turn_events import (
    AbandonTurn,
    Action,
    AskEnd,
    AskOverlap,
    AudioCleared,
    BeginTurn,
    CommitTurn,
    DropReply,
    EndVerdict,
    Event,
    Frame,
    HoldReply,
    InterruptReply,
    LowerReply,
    OverlapSound,
    OverlapStage,
    OverlapVerdict,
    PrepareReply,
    ReplyBegan,
    ReplyEnded,
    ReplyHeard,
    ResumeReply,
)
from avatar.core.turns import ASK_AHEAD_MS, WAIT_BY_SOUND, WAIT_BY_WORDS, Phase, TurnPolicy, TurnTaking

FRAME_MS = 32.0
POLICY = TurnPolicy()


class Microphone:
    """Feeds frames to a machine and notes what it does."""

    def __init__(
        self,
        policy: TurnPolicy = POLICY,
        verdict: float | None = 0.9,
        words: Completeness = Completeness.UNKNOWN,
        overlap: dict[OverlapStage, OverlapSound] | None = None,
    ) -> None:
        self.machine = TurnTaking(policy)
        self.verdict = EndVerdict(verdict, words)
        self.overlap = overlap or {}
        self.now_ms = 0.0
        self.actions: list[Action] = []

    def hear(self, probability: float, ms: float, lead_ms: float = 0.0) -> "Microphone":
        for _ in range(int(ms / FRAME_MS)):
            led_ms = lead_ms if self.machine.may_begin_overlap(probability) else 0.0
            self.tell(Frame(self.now_ms, self.now_ms + FRAME_MS, probability, led_ms))
            self.now_ms += FRAME_MS
        return self

    def speak(self, ms: float, lead_ms: float = 0.0) -> "Microphone":
        return self.hear(0.95, ms, lead_ms)

    def rest(self, ms: float) -> "Microphone":
        return self.hear(0.02, ms)

    def tell(self, event: Event) -> None:
        for action in self.machine.step(event):
            self.actions.append(action)
            if isinstance(action, AskEnd):
                self.tell(self.verdict)
            elif isinstance(action, AskOverlap):
                self.tell(OverlapVerdict(self.overlap.get(action.stage, OverlapSound.UNKNOWN)))

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
    assert mic.kinds == [BeginTurn, PrepareReply, AskEnd, AskEnd, CommitTurn]
    commit = mic.actions[-1]
    assert isinstance(commit, CommitTurn)
    assert commit.at_ms - commit.speech_end_ms == pytest.approx(POLICY.ceiling_ms, abs=FRAME_MS)


def test_a_detector_that_cannot_say_is_no_verdict() -> None:
    mic = Microphone(verdict=None).speak(960).rest(640)
    assert CommitTurn not in mic.kinds


def test_going_on_drops_what_was_prepared() -> None:
    mic = Microphone(verdict=0.1).speak(640).rest(320).speak(640).rest(2000)
    paused = [PrepareReply, AskEnd, AskEnd]
    assert mic.kinds == [BeginTurn, *paused, DropReply, *paused, CommitTurn]


def test_the_end_is_asked_about_ahead_of_time_and_decided_in_time() -> None:
    mic = Microphone().speak(960).rest(POLICY.silence_ms - ASK_AHEAD_MS)
    assert mic.kinds == [BeginTurn, PrepareReply, AskEnd]
    assert CommitTurn not in mic.rest(32).kinds
    assert mic.rest(32).kinds[-1] is CommitTurn


def test_who_seemed_to_be_done_and_speaks_on_in_time_is_not_cut_off() -> None:
    mic = Microphone().speak(960).rest(POLICY.silence_ms - 32).speak(320)
    assert mic.kinds == [BeginTurn, PrepareReply, AskEnd, DropReply]


def test_who_seemed_not_to_be_done_is_asked_about_once_more() -> None:
    mic = Microphone(verdict=0.1).speak(960).rest(POLICY.silence_ms - ASK_AHEAD_MS)
    mic.verdict = EndVerdict(0.9)
    commit = mic.rest(640).actions[-1]
    assert isinstance(commit, CommitTurn)
    assert commit.at_ms - commit.speech_end_ms == POLICY.silence_ms


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


@pytest.mark.parametrize(
    ("sound", "words", "part"),
    [
        (0.9, Completeness.FINISHED, 0),
        (0.9, Completeness.UNKNOWN, 0),
        (0.1, Completeness.FINISHED, WAIT_BY_WORDS),
        (None, Completeness.FINISHED, WAIT_BY_WORDS),
        (0.9, Completeness.UNCLEAR, WAIT_BY_SOUND),
        (0.9, Completeness.UNFINISHED, 1),
        (0.1, Completeness.UNCLEAR, 1),
        (0.1, Completeness.UNKNOWN, 1),
    ],
)
def test_the_surer_the_sooner(sound: float | None, words: Completeness, part: float) -> None:
    mic = Microphone(verdict=sound, words=words).speak(960).rest(2000)
    commit = mic.actions[-1]
    assert isinstance(commit, CommitTurn)
    wait_ms = max(POLICY.silence_ms, part * POLICY.ceiling_ms)
    assert wait_ms <= commit.at_ms - commit.speech_end_ms < wait_ms + FRAME_MS


def test_what_was_waited_for_in_one_pause_is_not_for_the_next() -> None:
    mic = Microphone(verdict=0.1, words=Completeness.FINISHED).speak(960).rest(320)
    mic.verdict = EndVerdict(0.1, Completeness.UNCLEAR)
    assert CommitTurn not in mic.speak(320).rest(1000).kinds


def test_speech_over_a_reply_nobody_has_heard_yet_interrupts_it_at_once() -> None:
    mic = Microphone()
    mic.tell(ReplyBegan())
    mic.rest(320).speak(64)
    assert mic.actions == []
    mic.speak(32)
    assert mic.actions == [InterruptReply(), BeginTurn(320)]


def over_a_reply(**overlap: OverlapSound) -> Microphone:
    """A microphone while a reply is heard; what each stage of a voice over it will be judged to be."""
    mic = Microphone(overlap={OverlapStage[stage.upper()]: sound for stage, sound in overlap.items()})
    mic.tell(ReplyBegan())
    mic.tell(ReplyHeard())
    return mic


SOUND = AskOverlap(OverlapStage.SOUND)
WORDS = AskOverlap(OverlapStage.WORDS)
OVER = AskOverlap(OverlapStage.OVER)


def test_a_voice_over_a_reply_lowers_it_then_holds_it_and_then_stops_it() -> None:
    mic = over_a_reply().rest(320).speak(64)
    assert mic.actions == [LowerReply()]
    mic.speak(32)
    assert mic.actions[1:] == [SOUND, HoldReply(), BeginTurn(320)]
    mic.speak(POLICY.barge_in_sure_ms)
    assert mic.actions[4:] == [WORDS, InterruptReply()]


def test_a_consonant_before_the_voice_holds_the_reply_sooner_and_stops_it_no_sooner() -> None:
    mic = over_a_reply().rest(320).speak(32, lead_ms=32)
    assert mic.actions == [LowerReply()]
    mic.speak(32)
    assert mic.actions[1:] == [SOUND, HoldReply(), BeginTurn(320)]
    mic.speak(POLICY.barge_in_sure_ms - 64 - FRAME_MS)
    assert mic.actions[4:] == [WORDS]
    mic.speak(FRAME_MS)
    assert mic.actions[5:] == [InterruptReply()]


def test_a_consonant_before_our_own_voice_does_not_count() -> None:
    mic = over_a_reply(sound=OverlapSound.ECHO).speak(96).rest(320)
    assert mic.speak(64, lead_ms=64).kinds[-1] is ResumeReply


def test_words_that_want_the_floor_stop_it_sooner() -> None:
    mic = over_a_reply(words=OverlapSound.SPEECH).speak(384)
    assert mic.actions[-2:] == [WORDS, InterruptReply()]
    mic.tell(ReplyEnded())
    assert mic.speak(320).rest(640).kinds[-3:] == [PrepareReply, AskEnd, CommitTurn]


def test_a_short_word_that_wants_the_floor_is_prepared_for_as_soon_as_it_is_understood() -> None:
    mic = over_a_reply(over=OverlapSound.SPEECH).speak(256).rest(160)
    assert mic.actions[-3:] == [OVER, InterruptReply(), PrepareReply()]


@pytest.mark.parametrize("sound", [OverlapSound.BACKCHANNEL, OverlapSound.NOISE, OverlapSound.ECHO])
def test_what_does_not_want_the_floor_lets_the_reply_go_on(sound: OverlapSound) -> None:
    mic = over_a_reply(over=sound).speak(256).rest(192)
    assert mic.actions[-3:] == [OVER, AbandonTurn(256), ResumeReply()]
    assert mic.machine.phase is Phase.QUIET
    mic.rest(3000)
    assert CommitTurn not in mic.kinds


def test_when_nobody_can_tell_the_user_has_the_floor() -> None:
    mic = over_a_reply().speak(256).rest(160)
    assert mic.actions[-3:] == [OVER, InterruptReply(), PrepareReply()]


def test_a_cough_only_lowers_the_reply() -> None:
    mic = over_a_reply().speak(64).rest(320)
    assert mic.actions == [LowerReply(), ResumeReply()]


def test_our_own_voice_holds_nothing_and_lowers_it_no_more_for_a_while() -> None:
    mic = over_a_reply(sound=OverlapSound.ECHO).speak(960)
    assert mic.actions[:3] == [LowerReply(), SOUND, ResumeReply()]
    assert set(mic.kinds[3:]) == {AskOverlap}
    assert mic.rest(2000).speak(64).kinds[-1] is LowerReply


def test_a_reply_that_ends_while_it_is_held_leaves_the_turn_to_the_user() -> None:
    mic = over_a_reply().speak(256)
    mic.tell(ReplyEnded())
    assert mic.rest(640).kinds[-3:] == [PrepareReply, AskEnd, CommitTurn]


def test_clearing_the_microphone_lets_a_held_reply_go_on() -> None:
    mic = over_a_reply().speak(256)
    mic.tell(AudioCleared())
    assert mic.actions[-1] == ResumeReply()


def test_a_client_that_cannot_hold_a_reply_is_told_to_stop_it_at_once() -> None:
    mic = Microphone(TurnPolicy(holds_replies=False))
    mic.tell(ReplyBegan())
    mic.tell(ReplyHeard())
    assert mic.speak(160).actions == [InterruptReply(), BeginTurn(0)]


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
            case AbandonTurn():
                assert in_turn
                assert not prepared
                in_turn = False
            case CommitTurn(speech_end_ms, at_ms):
                assert in_turn
                assert speech_end_ms <= at_ms
                in_turn = False


def check_reply(actions: Sequence[Action]) -> None:
    """A reply is touched only while it is there; what was lowered or held is resumed or stopped in the end."""
    loudness, there = 1.0, True
    for action in actions:
        match action:
            case LowerReply():
                assert there
                assert loudness == 1
                loudness = 0.25
            case HoldReply():
                assert there
                assert loudness > 0
                loudness = 0
            case ResumeReply():
                assert there
                assert loudness < 1
                loudness = 1
            case InterruptReply():
                assert there
                there = False
            case PrepareReply() | CommitTurn():
                assert not there
    assert loudness == 1 or not there


sounds = st.sampled_from(OverlapSound)


@given(
    probabilities,
    st.floats(0, 1),
    st.booleans(),
    st.dictionaries(st.sampled_from(OverlapStage), sounds),
    st.sampled_from((0.0, 32.0, 64.0)),
)
def test_any_sound_keeps_the_grammar_and_ends(
    frames: list[float], verdict: float, reply_live: bool, overlap: dict[OverlapStage, OverlapSound], lead_ms: float
) -> None:
    mic = Microphone(verdict=verdict, overlap=overlap)
    if reply_live:
        mic.tell(ReplyBegan())
        mic.tell(ReplyHeard())
    for probability in frames:
        mic.hear(probability, FRAME_MS, lead_ms)
        if InterruptReply in mic.kinds:
            mic.tell(ReplyEnded())
    mic.rest(POLICY.ceiling_most_ms + 500)
    check_grammar(mic.actions)
    if reply_live:
        check_reply(mic.actions)
    assert mic.machine.phase is Phase.QUIET
    assert mic.kinds.count(BeginTurn) == mic.kinds.count(CommitTurn) + mic.kinds.count(AbandonTurn)


def test_eagerness_moves_every_wait() -> None:
    low, high = POLICY.with_eagerness("low"), POLICY.with_eagerness("high")
    assert POLICY.with_eagerness("medium") == POLICY
    assert low.silence_ms > POLICY.silence_ms > high.silence_ms >= 192
    assert low.ceiling_ms > POLICY.ceiling_ms > high.ceiling_ms
    assert 1 > low.end_threshold > POLICY.end_threshold > high.end_threshold > 0
