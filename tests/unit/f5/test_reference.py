"""What F5-TTS is shown of a recording: loud enough, without silence around it, no longer than what is said of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from avatar.core.audio import Pcm, silence
from avatar.engines.tts.f5.reference import BEST_S, TARGET_RMS, Voice, from_bytes, hear, to_bytes, with_end

RATE = 24_000


def tone(length_s: float, size: float = 0.3) -> Pcm:
    return (size * np.sin(np.arange(int(length_s * RATE)) / 20)).astype(np.float32)


def speech(*lengths_s: float, pause_s: float = 0.4) -> Pcm:
    """Sounds of these lengths with pauses between them."""
    return np.concatenate([part for length_s in lengths_s for part in (tone(length_s), silence(int(pause_s * RATE)))])


def test_silence_around_it_is_left_out_but_for_a_little_at_the_end() -> None:
    bare, wide = [hear(np.concatenate([edge, tone(2.0), edge]), "Hello.") for edge in (silence(0), silence(RATE))]
    assert torch.equal(bare.mel, wide.mel)
    assert bare.frames == int(2.05 * RATE) // 256


def test_a_quiet_recording_is_made_louder_and_its_speech_quieter_again() -> None:
    loud, quiet = hear(tone(2.0), "Hello."), hear(tone(2.0, 0.02), "Hello.")
    assert loud.gain == 1
    assert quiet.gain == pytest.approx(0.02 / 2**0.5 / TARGET_RMS, rel=0.05)
    assert float(quiet.mel.max() - loud.mel.max()) == pytest.approx(np.log(TARGET_RMS / (0.3 / 2**0.5)), abs=0.1)


@pytest.mark.parametrize(
    ("text", "ended"), [("Hi", "Hi.  "), ("Hi.", "Hi.  "), ("Hi!", "Hi!.  "), ("你好。", "你好。"), ("你好", "你好.  ")]
)
def test_text_ends_as_in_the_official_package(text: str, ended: str) -> None:
    assert with_end(text) == ended


def test_a_long_recording_is_cut_where_a_pause_and_a_comma_meet() -> None:
    text = "abcdefghij abcdefghij, abcdefghij abcdefghij. abcdefghij abcdefghij, abcdefghij abcdefghij."
    voice = hear(speech(5.0, 5.0, 5.0, 5.0), text)
    assert voice.text == "abcdefghij abcdefghij, abcdefghij abcdefghij.  "
    assert voice.frames * 256 / RATE == pytest.approx(10.65, abs=0.1)


def test_one_that_cannot_be_cut_is_taken_whole_or_refused() -> None:
    text = "abcdefghij, abcdefghij abcdefghij abcdefghij abcdefghij."
    assert hear(speech(8.0, 8.0), text).text == text + "  "
    with pytest.raises(ValueError, match="up to 20 s"):
        hear(speech(11.0, 11.0), text)


@given(st.lists(st.floats(0.5, 6.0), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_whatever_is_cut_text_and_sound_keep_their_pace(lengths_s: list[float]) -> None:
    """Each sound is a clause whose letters last as long as it."""
    text = " ".join("a" * max(round(10 * length_s), 1) + "," for length_s in lengths_s)
    if sum(lengths_s) < 1.2:
        return
    voice = hear(speech(*lengths_s), text)
    spoken_s = voice.text.count("a") / 10
    sound_s = voice.frames * 256 / RATE - 0.4 * (voice.text.count(",") - 1)
    assert spoken_s == pytest.approx(sound_s, abs=0.5)
    assert voice.frames * 256 / RATE <= BEST_S + 0.1 or voice.text.startswith(text)


def test_a_voice_is_kept_and_taken_up_again() -> None:
    voice = hear(tone(2.0, 0.02), "Grüße, 你好。")
    again = from_bytes(to_bytes(voice))
    assert torch.equal(again.mel, voice.mel)
    assert again.text == voice.text
    assert again.gain == pytest.approx(voice.gain)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        to_bytes(Voice(torch.zeros(9, 80), "a")),
        to_bytes(Voice(torch.zeros(1, 100), "a")),
        to_bytes(Voice(torch.zeros(9, 100), "")),
        to_bytes(Voice(torch.zeros(9, 100).half(), "a")),
        save({"mel": torch.zeros(9, 100), "text": torch.zeros(2), "gain": torch.tensor(1.0)}),
        save({"mel": torch.zeros(9, 100), "text": torch.tensor([255], dtype=torch.uint8), "gain": torch.tensor(1.0)}),
    ],
)
def test_anything_else_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="This is no voice"):
        from_bytes(wrong)
