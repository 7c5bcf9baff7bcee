"""The loudspeaker: what went in comes out once, in order, at the pace it is taken; and it is known how much did."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import Pcm
from avatar.server.realtime.loudspeaker import RATE_HZ, Change, Cut, Loudspeaker

FRAME = 960


def ramp(samples: int, first: int = 1) -> Pcm:
    """Every sample another one, none of them zero."""
    return (np.arange(first, first + samples) / 1_000_000).astype(np.float32)


class Room:
    """Notes what is told and played."""

    def __init__(self) -> None:
        self.speaker = Loudspeaker()
        self.told: list[tuple[Change, str]] = []
        self.speaker.on_change = lambda change, response_id: self.told.append((change, response_id))

    def play(self, response_id: str, pcm: Pcm) -> None:
        self.speaker.play(response_id, f"item_{response_id}", pcm, RATE_HZ)

    def hear(self, frames: int) -> Pcm:
        return np.concatenate([self.speaker.take(FRAME) for _ in range(frames)])


def test_silence_where_there_is_nothing() -> None:
    room = Room()
    assert not room.hear(3).any()
    assert room.told == []


def test_it_ends_when_it_was_played_and_no_more_can_come() -> None:
    room = Room()
    room.play("a", ramp(FRAME))
    assert room.hear(1).tolist() == ramp(FRAME).tolist()
    assert not room.hear(2).any()  # slower made than played
    assert room.told == [("started", "a")]
    room.play("a", ramp(10))
    room.speaker.end("a")
    assert room.told == [("started", "a")]
    assert room.hear(1)[:10].tolist() == ramp(10).tolist()
    assert room.told == [("started", "a"), ("stopped", "a")]


def test_the_next_follows_without_a_gap_and_never_earlier() -> None:
    room = Room()
    room.play("a", ramp(FRAME + 5))
    room.play("b", ramp(20, first=5000))
    room.speaker.end("b")
    assert not room.hear(2)[FRAME + 5 :].any()  # there may be more of the first
    room.speaker.end("a")
    assert room.hear(1)[:20].tolist() == ramp(20, first=5000).tolist()
    assert room.told == [("started", "a"), ("stopped", "a"), ("started", "b"), ("stopped", "b")]


def test_clearing_tells_what_was_played_and_nothing_more_is() -> None:
    room = Room()
    room.play("a", ramp(5 * FRAME))
    room.play("b", ramp(FRAME))
    room.hear(2)
    assert room.speaker.clear() == [Cut("a", "item_a", 40.0, True), Cut("b", "item_b", 0.0, False)]
    room.play("a", ramp(FRAME))
    room.speaker.end("a")
    room.play("b", ramp(FRAME))
    assert not room.hear(3).any()
    assert room.speaker.clear() == []
    room.play("a", ramp(FRAME))  # its end was told: another one by the same name is new
    assert room.hear(1).any()


def test_another_rate_is_brought_to_opus() -> None:
    room = Room()
    tone = np.sin(2 * np.pi * 440 / 24_000 * np.arange(24_000)).astype(np.float32)
    for start in range(0, tone.size, 960):
        room.speaker.play("a", "item", tone[start : start + 960], 24_000)
    room.speaker.end("a")
    heard = room.hear(60)
    assert np.flatnonzero(heard)[-1] + 1 <= RATE_HZ
    expected = np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(RATE_HZ))
    assert np.abs(heard[1000:47_000] - expected[1000:47_000]).max() < 0.01


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("play"), st.sampled_from("abc"), st.integers(0, 3000)),
            st.tuples(st.just("end"), st.sampled_from("abc"), st.just(0)),
            st.tuples(st.just("take"), st.just(""), st.integers(1, 4)),
            st.tuples(st.just("clear"), st.just(""), st.just(0)),
        ),
        max_size=40,
    )
)
def test_every_sample_is_played_once_in_order_or_cut(steps: list[tuple[str, str, int]]) -> None:
    room = Room()
    given_ = dict.fromkeys("abc", 0)
    played: list[float] = []
    cut: list[Cut] = []
    first = 1
    ended: set[str] = set()
    for what, who, size in steps:
        if what == "play" and who not in ended:
            room.play(who, ramp(size, first))
            first += size
            given_[who] += size
        elif what == "end":
            room.speaker.end(who)
            ended.add(who)
        elif what == "take":
            played += [sample for sample in room.hear(size).tolist() if sample]
        elif what == "clear":
            cut += room.speaker.clear()
    assert len(played) == len(set(played))
    for change, who in room.told:
        assert room.told.count((change, who)) == 1 or cut
        assert change == "started" or ("started", who) in room.told
    if not cut:
        for who in ended:
            room.speaker.end(who)
        rest = [sample for sample in room.hear(200).tolist() if sample]
        if ended == set("abc"):
            assert len(played) + len(rest) == sum(given_.values())
