"""The turn-taking corpus: its scripts are read as written, and the sound of each is what its truth says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import INPUT_RATE_HZ, Pcm, ms_to_samples
from avatar.engines.tts.espeak_library import library
from tests.corpus import Piece, parse, utterances
from tests.corpus.sound import TAIL_MS, Pause, Recording, speak

ALL = utterances()

pieces = st.builds(Piece, st.sampled_from(["I would,", "uh,", "那个，"]), st.integers(1, 9999), st.booleans())
last_pieces = st.builds(Piece, st.sampled_from(["go home.", "好。"]))


@given(st.lists(pieces, max_size=5), last_pieces)
def test_a_script_says_where_its_speaker_pauses_and_where_the_turn_may_end(paused: list[Piece], last: Piece) -> None:
    script = "".join(f"{piece.text} <{piece.pause_ms}{'?' * piece.may_end}> " for piece in paused) + last.text
    assert parse(script) == (*paused, last)


def test_a_script_may_not_end_in_a_pause() -> None:
    with pytest.raises(ValueError, match="ends with words"):
        parse("I would <400>")


def test_the_corpus_has_every_kind_in_both_languages() -> None:
    kinds = [*"question command short hesitation correction number list monologue".split(), "false start"]
    assert {(each.kind, each.language) for each in ALL} == {(kind, lang) for kind in kinds for lang in ("en", "zh")}
    assert len({tuple(each.pieces) for each in ALL}) >= 60


def test_no_turn_is_there_twice() -> None:
    assert len({each.name for each in ALL}) == len(ALL)


def test_its_voices_exist() -> None:
    assert {each.voice.partition("+")[0] for each in ALL} <= set(library().voices())


def test_pauses_are_as_long_as_people_make_them_and_sound_unfinished_unless_the_turn_may_end() -> None:
    """Only a script's own punctuation tells espeak-ng how to intone it."""
    for piece in (piece for each in ALL for piece in each.pieces[:-1]):
        assert 300 <= piece.pause_ms <= 900, piece
        assert piece.may_end or piece.text.endswith((",", "，")), piece
    assert all(each.pieces[-1].text.endswith((".", "?", "。", "？")) for each in ALL)


@pytest.mark.parametrize("number", range(0, len(ALL), 10))
def test_sound_stops_and_begins_where_the_truth_says(number: int) -> None:
    recording = speak(ALL[number])
    assert len(recording.pauses) == len(ALL[number].pieces) - 1
    for pause in recording.pauses:
        assert loudness(recording, pause.start_ms, pause.end_ms) < 0.004
        assert loudness(recording, pause.end_ms, pause.end_ms + 5) > 0.004
    for end_ms in (recording.end_ms, *(pause.start_ms for pause in recording.pauses)):
        assert loudness(recording, end_ms - 5, end_ms) > 0.004
    assert loudness(recording, recording.end_ms, recording.end_ms + TAIL_MS) < 0.004


def loudness(recording: Recording, start_ms: float, end_ms: float) -> float:
    """The loudest sample, less one at each side for rounding."""
    heard = recording.pcm[ms_to_samples(start_ms, INPUT_RATE_HZ) + 2 : ms_to_samples(end_ms, INPUT_RATE_HZ) - 2]
    return float(np.abs(heard).max())


@pytest.mark.parametrize(
    ("at_ms", "right"), [(50, False), (150, False), (250, False), (350, True), (450, False), (500, True), (900, True)]
)
def test_a_turn_may_end_after_its_end_or_in_a_pause_that_allows_it(at_ms: float, right: bool) -> None:
    pauses = (Pause(100, 200, may_end=False), Pause(300, 400, may_end=True))
    nothing: Pcm = np.zeros(0, dtype=np.float32)
    assert Recording("", "", "en", nothing, pauses, end_ms=500).may_end(at_ms) is right
