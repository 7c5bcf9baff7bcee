"""What is kept of the sound of items: all of it, up to a bound, and what was not cut off."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from avatar.server.realtime.formats import AudioFormat, PcmFormat, UlawFormat
from avatar.server.realtime.sounds import Sounds

PCM, ULAW = PcmFormat(type="audio/pcm"), UlawFormat(type="audio/pcmu")
MOST_BYTES = 4800

steps = st.lists(
    st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(0, 2 * MOST_BYTES))
    | st.tuples(st.just("cut"), st.sampled_from("abc"), st.integers(0, 200))
    | st.tuples(st.just("forget"), st.sampled_from("abc"), st.just(0))
)


@given(steps, st.sampled_from([PCM, ULAW]))
def test_the_latest_sound_is_kept_and_nothing_but_all_of_an_item(
    taken: list[tuple[str, str, int]], form: AudioFormat
) -> None:
    bytes_a_ms = 48 if form is PCM else 8
    sounds, kept, crowded_out = Sounds(MOST_BYTES), dict[str, bytes](), set[str]()
    for what, item_id, size in taken:
        if what == "add":
            more = bytes([len(kept)]) * size
            sounds.add(item_id, form, more)
            if item_id not in crowded_out:
                kept[item_id] = kept.get(item_id, b"") + more
            while sum(map(len, kept.values())) > MOST_BYTES:
                crowded_out.add(oldest := next(iter(kept)))
                del kept[oldest]
        elif what == "cut" and item_id in kept:
            kept[item_id] = kept[item_id][: size * bytes_a_ms]
            sounds.cut(item_id, size)
        elif what == "forget":
            kept.pop(item_id, None)
            crowded_out.discard(item_id)
            sounds.forget(item_id)
        for one in "abc":
            told = sounds.of(one)
            assert (None if told is None else base64.b64decode(told)) == kept.get(one)
