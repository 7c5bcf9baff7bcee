"""Cloned voices: what goes into one, and that a recording is listened to once."""

import pytest
import torch
from safetensors.torch import load, save

from avatar.engines.tts.qwen3.voices import CloneCache, clone, from_bytes, to_bytes
from tests.unit.qwen3.models import checkpoint

WAV = 0.1 * torch.randn(24_000, generator=torch.Generator().manual_seed(1))


def test_a_vector_is_enough() -> None:
    voice = clone(checkpoint("base"), WAV)
    assert voice.voice.reference is None
    assert voice.decoder is None
    assert voice.voice.speaker is not None
    assert voice.voice.speaker.shape == (64,)


def test_with_its_words_a_recording_is_read_too_and_ends_in_silence() -> None:
    model = checkpoint("base")
    exact, usual = (clone(model, WAV, "hello there", exact=exact) for exact in (True, False))
    assert exact.voice.reference is not None
    assert usual.voice.reference is not None
    assert (len(exact.voice.reference.codes), len(usual.voice.reference.codes)) == (13, 19)
    torch.testing.assert_close(exact.voice.reference.codes.T, model.encoder(WAV[None])[0])
    assert exact.voice.reference.text_ids == tuple(model.prompter.text_ids("hello there"))
    assert exact.decoder is not None
    assert int(exact.decoder.frames) == 13
    assert exact.voice.speaker is not None
    torch.testing.assert_close(usual.voice.speaker, exact.voice.speaker)


def test_the_same_recording_and_words_are_the_same_clone() -> None:
    cache = CloneCache(checkpoint("base"), size=2)
    made = cache.clone(WAV)
    assert cache.clone(WAV.clone()) is made
    others = [cache.clone(WAV, "hello"), cache.clone(WAV, "hello", exact=True)]
    assert len({made.key, *(other.key for other in others)}) == 3
    assert len(cache) == 2
    again = cache.clone(WAV)
    assert again is not made
    assert again.key == made.key


def test_what_cannot_be_a_voice_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot clone voices; a base model can"):
        clone(checkpoint("custom"), WAV)
    for samples in (0, 4_800, 24_000 * 61):
        with pytest.raises(ValueError, match="A voice is made of"):
            clone(checkpoint("base"), torch.zeros(samples))


@pytest.mark.parametrize("words", [None, "hello there"])
def test_a_kept_voice_is_the_voice_that_was_made(words: str | None) -> None:
    model = checkpoint("base")
    made = clone(model, WAV, words)
    kept = from_bytes(model, to_bytes(made))
    torch.testing.assert_close(kept.voice.speaker, made.voice.speaker, rtol=0, atol=0)
    assert (kept.voice.reference is None) == (words is None)
    if made.voice.reference is not None:
        assert kept.voice.reference is not None
        assert kept.voice.reference.text_ids == made.voice.reference.text_ids
        torch.testing.assert_close(kept.voice.reference.codes, made.voice.reference.codes)
    assert from_bytes(model, to_bytes(made)).key == kept.key


def test_what_is_no_kept_voice_is_refused() -> None:
    model = checkpoint("base")
    good = to_bytes(clone(model, WAV, "hello there"))
    kept = load(good)
    for wrong in (
        b"",
        b"nonsense",
        bytes(1000),
        good[:-1],
        save({"speaker": torch.zeros(3)}),
        save({**kept, "codes": kept["codes"] + 2000}),
        save({**kept, "codes": kept["codes"][:0]}),
    ):
        with pytest.raises(ValueError, match="This is no"):
            from_bytes(model, wrong)
