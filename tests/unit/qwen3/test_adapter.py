"""The adapter's guesses at how long a text takes, and the silence before it speaks."""

from avatar.core.audio import silence
from avatar.engines.base import Mark
from avatar.engines.tts.parts import LeadingSilence
from avatar.engines.tts.qwen3.adapter import _Marks, _usual_s
from avatar.engines.tts.qwen3.codec.config import SAMPLE_RATE_HZ


def test_marks_follow_the_letters_and_end_with_the_audio() -> None:
    marks, second = _Marks(), silence(SAMPLE_RATE_HZ)
    marks.begin("abcdefg hijklmn ")  # 14 letters: a second
    marks.add("opqrstu vwxyz")
    spoken = [marks.chunk(second).marks, marks.chunk(second).marks, marks.end().marks]
    assert spoken == [(Mark(7, 12_000), Mark(15, 24_000), Mark(16, 24_000)), (Mark(23, 36_000), Mark(29, 44_571)), ()]


def test_a_mark_is_never_in_the_past() -> None:
    marks, second = _Marks(), silence(SAMPLE_RATE_HZ)
    marks.begin("ab cd")
    assert len(marks.chunk(second).marks) == 2
    marks.add("ef gh")  # estimated long ago
    assert [mark.sample for mark in marks.chunk(second).marks] == [24_000, 24_000]
    marks.begin("a very long text indeed")
    assert marks.end().marks[-1] == Mark(33, 48_000)


def test_some_texts_take_longer_than_they_look() -> None:
    assert _usual_s("1234") > _usual_s("今天") > _usual_s("abcd") > _usual_s("...") == 0


def test_silence_before_the_first_sound_is_dropped() -> None:
    leading, sound = LeadingSilence(SAMPLE_RATE_HZ), silence(4_800)
    assert not leading.strip(silence(1_920)).size
    sound[1_000:] = 0.5
    assert leading.strip(sound).size == 3_800 + 48
    assert leading.strip(silence(10)).size == 10
