"""When the engine is offered, and the adapter's guesses at how long a text takes."""

from pathlib import Path

import pytest

from avatar.core.audio import silence
from avatar.core.errors import SetupError
from avatar.engines.base import Mark
from avatar.engines.builtin import BUILTIN, QWEN3_TTS_MIN_VRAM_BYTES
from avatar.engines.registry import Choice, Facts, Wish, choose
from avatar.engines.tts.qwen3.adapter import _Lead, _Marks, _usual_s
from avatar.engines.tts.qwen3.codec.config import SAMPLE_RATE_HZ

ALL = frozenset(package for spec in BUILTIN for package in spec.packages)
WEIGHTS = {f"qwen3-tts-0.6b-{kind}": Path(kind) for kind in ("base", "custom")}


def pick(wish: Wish, facts: Facts) -> Choice:
    return choose("tts", wish, facts, BUILTIN)


def test_it_serves_where_there_are_weights_and_a_gpu_with_room() -> None:
    choice = pick(Wish(), Facts(ALL, WEIGHTS, free_vram_bytes=QWEN3_TTS_MIN_VRAM_BYTES))
    assert (choice.spec.name, choice.weights) == ("qwen3-tts", Path("custom"))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts(ALL, WEIGHTS), "there is no GPU"),
        (Facts(ALL, WEIGHTS, free_vram_bytes=QWEN3_TTS_MIN_VRAM_BYTES - 1), "it wants 6 GiB"),
        (Facts(ALL, free_vram_bytes=80 << 30), "no weights; `avatar models fetch qwen3-tts-0.6b-custom`"),
        (Facts(ALL - {"torch"}, WEIGHTS, free_vram_bytes=80 << 30), "the package torch is not installed"),
    ],
)
def test_elsewhere_another_one_does_and_it_is_said_why(facts: Facts, why: str) -> None:
    choice = pick(Wish(), facts)
    assert choice.spec.name == "espeak-ng"
    assert dict(choice.rejected)["qwen3-tts"].startswith(why)


def test_by_name_it_runs_on_a_cpu() -> None:
    assert pick(Wish("qwen3-tts"), Facts(ALL, WEIGHTS)).spec.name == "qwen3-tts"
    with pytest.raises(SetupError, match="no weights"):
        pick(Wish("qwen3-tts"), Facts(ALL))


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
    lead, sound = _Lead(), silence(4_800)
    assert not lead.strip(silence(1_920)).size
    sound[1_000:] = 0.5
    assert lead.strip(sound).size == 3_800 + 48
    assert lead.strip(silence(10)).size == 10
