"""Cutting speech at its quiet places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar.core.audio import Pcm, silence
from avatar.engines.stt.cutting import cut_at_quiet, is_silent, trim

LONGEST = 16_000


def noise(samples: int, seed: int = 0, level: float = 0.1) -> Pcm:
    return (np.random.default_rng(seed).standard_normal(samples, dtype=np.float32) * np.float32(level)).clip(-1, 1)


@given(st.integers(0, 5 * LONGEST), st.integers(0, 100))
def test_the_pieces_are_the_whole_and_none_is_too_long(samples: int, seed: int) -> None:
    pcm = noise(samples, seed)
    pieces = cut_at_quiet(pcm, LONGEST)
    assert np.array_equal(np.concatenate(pieces), pcm)
    assert all(LONGEST // 2 <= piece.size <= LONGEST for piece in pieces[:-1])
    assert pieces[-1].size <= LONGEST


@given(st.integers(LONGEST + 1, 3 * LONGEST), st.integers(0, 2 * LONGEST))
def test_later_audio_moves_no_cut(samples: int, more: int) -> None:
    pcm = noise(samples + more)
    before = [piece.size for piece in cut_at_quiet(pcm[:samples], LONGEST)[:-1]]
    assert [piece.size for piece in cut_at_quiet(pcm, LONGEST)][: len(before)] == before


@pytest.mark.parametrize("pause_at", [8_500, 10_000, 12_300])
def test_the_cut_falls_into_the_pause(pause_at: int) -> None:
    pcm = noise(20_000)
    pcm[pause_at : pause_at + 3200] *= np.float32(0.05)
    cut = cut_at_quiet(pcm, LONGEST)[0].size
    assert pause_at + 1000 < cut < pause_at + 2200


@pytest.mark.parametrize(("level", "silent"), [(0.0, True), (5e-4, True), (5e-3, False), (0.5, False)])
@pytest.mark.parametrize("samples", [1, 159, 161, 16_000])
def test_silence_is_what_is_quieter_than_a_microphone(level: float, silent: bool, samples: int) -> None:
    # a lone sample is judged with the zeros that fill its 10 ms
    scale = np.sqrt(160 / min(samples, 160))
    assert is_silent(np.full(samples, level * scale, dtype=np.float32)) is silent


def test_nothing_is_silent() -> None:
    assert is_silent(silence(0))


@given(st.integers(0, 20_000), st.integers(160, 20_000), st.integers(0, 20_000))
def test_trimming_keeps_what_is_loud_and_the_margins(before: int, loud: int, after: int) -> None:
    pcm = np.concatenate((silence(before), np.full(loud, 0.5, dtype=np.float32), silence(after)))
    kept = trim(pcm, margin_samples=800, floor=0.05)
    assert np.count_nonzero(kept) == loud
    assert loud + 1600 <= kept.size <= loud + 1600 + 320


def test_the_margin_is_the_sound_itself_where_there_is_some() -> None:
    quiet, loud = noise(1600, level=0.001), np.full(1600, 0.5, dtype=np.float32)
    kept = trim(np.concatenate((quiet, loud, quiet)), margin_samples=800, floor=0.05)
    assert np.array_equal(kept, np.concatenate((quiet[800:], loud, quiet[:800])))


@given(st.integers(0, 5_000))
def test_trimming_leaves_silence_alone(samples: int) -> None:
    assert trim(silence(samples), margin_samples=1, floor=0.05).size == samples
