"""The speaker encoder: its front end, its arithmetic, and the reading of weights that may be hostile."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from avatar.core.audio import INPUT_RATE_HZ, silence
from avatar.core.errors import EngineFailed
from avatar.voices.checkpoint import read_tensors
from avatar.voices.embedding import DIMENSIONS, SpeakerEncoder, _lstm, cosine, mean_vector, mel
from tests.speech import beckett

GOLDEN = (0.07492, 0.0, 0.0, 0.0, 0.0, 0.10121, 0.0, 0.0, 0.04492, 0.06272, 0.03033, 0.04324)
"""The first numbers of the first window of `beckett()[:48_000]`, by torch 2.13 with the same weights."""


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/should-not-exist",)


def checkpoint(*pickles: object) -> bytes:
    file = io.BytesIO()
    for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, *pickles):
        pickle.dump(thing, file, protocol=2)
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"\x80", bytes(100), checkpoint({"model": Hostile()}), checkpoint({"model": 3}, []), checkpoint({})]
)
def test_what_is_no_checkpoint_is_refused_and_nothing_of_it_is_run(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "weights.pt").write_bytes(data)
    with pytest.raises(EngineFailed, match="cannot be loaded"):
        read_tensors(tmp_path / "weights.pt", "model")
    assert not Path("/tmp/should-not-exist").exists()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"pretrained.pt are missing"):
        SpeakerEncoder(tmp_path)


def test_a_tone_lights_up_its_own_band_and_no_distant_one() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(INPUT_RATE_HZ) / INPUT_RATE_HZ).astype(np.float32)
    bands = mel(tone)
    assert bands.shape == (101, 40)
    middle = bands[50]
    assert middle.argmax() == 13  # 15 mel of 45.2 in 41 steps: 1 kHz lies between the peaks of bands 12 and 13
    assert middle[30] < 1e-4 * middle.max()
    assert not mel(silence(1600)).any()


def test_a_step_of_the_lstm_is_the_textbook_s() -> None:
    rng = np.random.default_rng(0)
    given, weights = rng.normal(size=(1, 1, 8)).astype(np.float32), rng.normal(size=(2, 8)).astype(np.float32)
    i, f, g, o = np.split(given[0, 0].astype(np.float64), 4)
    cell = 1 / (1 + np.exp(-i)) * np.tanh(g)  # nothing to forget yet
    assert f is not None
    np.testing.assert_allclose(_lstm(given, weights)[0, 0], np.tanh(cell) / (1 + np.exp(-o)), atol=1e-6)


@pytest.mark.weights
def test_it_is_the_encoder_it_says_it_is(models_dir: Path) -> None:
    windows = SpeakerEncoder(models_dir / "ge2e-speaker").windows(beckett()[:48_000])
    assert windows.shape[1] == DIMENSIONS
    np.testing.assert_allclose(windows[0][: len(GOLDEN)], GOLDEN, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(windows, axis=1), 1, atol=1e-5)


@pytest.mark.weights
def test_one_speaker_is_more_like_himself_than_like_a_machine(models_dir: Path) -> None:
    encoder = SpeakerEncoder(models_dir / "ge2e-speaker")
    speech = beckett()
    first, second = encoder.embed(speech[: speech.size // 2]), encoder.embed(speech[speech.size // 2 :])
    lower = encoder.embed(np.interp(np.arange(0, speech.size, 0.7), np.arange(speech.size), speech).astype(np.float32))
    assert cosine(first, second) > 0.8 > cosine(first, lower)


def test_the_mean_of_opposites_is_no_division_by_zero() -> None:
    assert np.isfinite(mean_vector(np.array([[1, 0], [-1, 0]], np.float32))).all()
