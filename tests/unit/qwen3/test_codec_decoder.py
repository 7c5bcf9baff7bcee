"""The decoder says what the official one says, at once or in any steps, alone or among others."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from avatar.engines.tts.qwen3.codec import CodecConfig, CodecDecoder, DecoderState, load_codec
from tests.unit.qwen3.conftest import GoldenSet, load_golden_set

Golden = dict[str, npt.NDArray[Any]]
FRAME = 1920


@cache
def decoder_in(dtype: torch.dtype, kind: str = "base") -> CodecDecoder:
    golden_set = load_golden_set(kind)
    return load_codec(golden_set.codec_tensors, CodecConfig.from_json(golden_set.codec_config), dtype)[1]


def new_state(slots: int, dtype: torch.dtype = torch.float64) -> DecoderState:
    return DecoderState.allocate(decoder_in(dtype).config, slots, dtype=dtype)


def random_codes(batch: int, frames: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 2048, (batch, 16, frames), generator=torch.Generator().manual_seed(seed))


def streamed(decoder: CodecDecoder, codes: Tensor, sizes: list[int], state: DecoderState, slots: list[int]) -> Tensor:
    parts = torch.split(codes, sizes, -1)
    return torch.cat([decoder.step(part, state, torch.tensor(slots)) for part in parts], -1)


def difference(ours: Tensor, theirs: npt.NDArray[Any]) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours.numpy() - theirs).max())


@pytest.mark.parametrize("kind", ["base", "custom"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 2e-6)])
def test_a_whole_pass_is_the_official_one(golden: Golden, kind: str, dtype: torch.dtype, bound: float) -> None:
    codes = torch.from_numpy(golden[f"{kind}.decoder.codes"].astype(np.int64))[None]
    expected = golden[f"{kind}.decoder.every_11th_sample_f64"]
    decoder = decoder_in(dtype, kind)
    state = DecoderState.allocate(decoder.config, 1, dtype=dtype)
    assert difference(decoder.step(codes, state, torch.tensor([0]))[0, ::11], expected) < bound
    assert difference(decoder(codes)[0, ::11], expected) < bound


@settings(max_examples=8)
@given(st.lists(st.integers(1, 90), min_size=2, max_size=12))
def test_any_steps_are_the_official_whole_pass(sizes: list[int]) -> None:
    golden = np.load(load_golden_set("base").folder.parent / "golden.npz")
    sizes = [size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= 200] or [1]
    codes = torch.from_numpy(golden["base.decoder.codes"].astype(np.int64))[None, :, : sum(sizes)]
    wav = streamed(decoder_in(torch.float64), codes, sizes, new_state(1), [0])[0]
    expected = golden["base.decoder.every_11th_sample_f64"][: len(wav[::11])]
    assert difference(wav[::11], expected) < 1e-9


def test_a_frame_at_a_time_beyond_the_window_is_the_official_whole_pass(golden: Golden) -> None:
    codes = torch.from_numpy(golden["base.decoder.codes"].astype(np.int64))[None, :, :100]
    wav = streamed(decoder_in(torch.float64), codes, [1] * 100, new_state(1), [0])[0, ::11]
    assert difference(wav, golden["base.decoder.every_11th_sample_f64"][: len(wav)]) < 1e-9


def test_what_was_said_in_every_case_sounds_as_the_official_audio(golden: Golden, golden_cases: dict[str, Any]) -> None:
    for name, case in golden_cases["cases"].items():
        for i in range(len(case["text"]) if isinstance(case["text"], list) else 1):
            codes = golden[f"{name}.{i}.codes"]
            wav = decoder_for_case(golden, name)(torch.from_numpy(codes.astype(np.int64)).T[None])[0]
            assert len(wav) == golden[f"{name}.{i}.n_samples"]
            assert difference(wav[: 10 * FRAME], golden[f"{name}.{i}.wav_first_10_frames"]) < 2e-6, name


def decoder_for_case(golden: Golden, name: str) -> Callable[[Tensor], Tensor]:
    """In-context cloning goes on from the reference's codes; the other modes start afresh."""
    kind, mode, _ = name.split(".", 2)
    decoder = decoder_in(torch.float32, kind)
    if mode != "icl":
        return decoder
    state = DecoderState.allocate(decoder.config, 1)
    slots = torch.tensor([0])
    decoder.step(torch.from_numpy(golden[f"{kind}.ref.codes"].astype(np.int64)).T[None], state, slots)
    return lambda codes: decoder.step(codes, state, slots)


def test_each_row_of_a_batch_is_what_it_is_alone() -> None:
    decoder = decoder_in(torch.float64)
    codes = random_codes(3, 90)
    state = new_state(5)
    slots = [4, 0, 2]
    for row, frames in enumerate([75, 2, 0]):  # each has come a different way
        if frames:
            decoder.step(codes[row : row + 1, :, :frames], state, torch.tensor([slots[row]]))
    offsets = torch.tensor([75, 2, 0])
    picked = torch.stack([codes[row, :, offset : offset + 15] for row, offset in enumerate(offsets.tolist())])
    together = streamed(decoder, picked, [1, 4, 10], state, slots)
    for row, offset in enumerate(offsets.tolist()):
        alone = decoder(codes[row : row + 1])[0, offset * FRAME : (offset + 15) * FRAME]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-12)


def test_a_step_writes_only_its_own_slots() -> None:
    state = new_state(4)
    streamed(decoder_in(torch.float64), random_codes(4, 3), [3], state, [0, 1, 2, 3])
    before = [state.snapshot(slot) for slot in range(4)]
    decoder_in(torch.float64).step(random_codes(2, 2, seed=1), state, torch.tensor([3, 1]))
    for slot in range(4):
        after = state.snapshot(slot)
        same = [torch.equal(getattr(after, name), getattr(before[slot], name)) for name in vars(after)]
        assert all(same) if slot in (0, 2) else not any(same)


def test_a_snapshot_resumes_anywhere_and_again() -> None:
    decoder, codes = decoder_in(torch.float64), random_codes(1, 100)
    state = new_state(3)
    streamed(decoder, codes[..., :80], [80], state, [1])
    snapshot = state.snapshot(1)
    first = streamed(decoder, codes[..., 80:], [7, 13], state, [1])
    for slot in (0, 1):
        state.restore(slot, snapshot)
        assert torch.equal(streamed(decoder, codes[..., 80:], [7, 13], state, [slot]), first)


@pytest.mark.parametrize("left_behind", [None, float("nan"), float("inf")])
def test_reset_leaves_nothing_of_the_stream_before(left_behind: float | None) -> None:
    decoder, codes = decoder_in(torch.float64), random_codes(1, 12)
    state = new_state(3)
    streamed(decoder, random_codes(3, 80, seed=1), [80], state, [0, 1, 2])
    if left_behind is not None:
        state.inputs[1], state.keys_values[1] = left_behind, left_behind
    other = state.snapshot(2)
    state.reset(torch.tensor([0, 1]))
    assert torch.equal(
        streamed(decoder, codes, [5, 7], state, [1]), streamed(decoder, codes, [5, 7], new_state(1), [0])
    )
    assert torch.equal(state.snapshot(2).keys_values, other.keys_values)
    assert int(state.frames[2]) == 80


@pytest.mark.parametrize("frames", [1, 4, 100])
def test_a_step_asks_for_no_value_and_its_shapes_are_fixed(frames: int) -> None:
    """What a CUDA graph needs: fake tensors have shapes and no values, so looking at one raises."""
    state = new_state(4)
    codes, slots = random_codes(2, frames), torch.tensor([0, 1])
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        held = DecoderState(*(fake.from_tensor(tensor) for tensor in vars(state).values()))
        wav = decoder_in(torch.float64).step(fake.from_tensor(codes), held, fake.from_tensor(slots))
        assert wav.shape == (2, frames * FRAME)


def test_memory_stays_where_it_was() -> None:
    """A captured graph holds on to addresses."""
    state = new_state(2)
    addresses = [tensor.data_ptr() for tensor in vars(state).values()]
    streamed(decoder_in(torch.float64), random_codes(1, 3), [1, 2], state, [1])
    state.restore(0, state.snapshot(1))
    state.reset(torch.tensor([1]))
    assert [tensor.data_ptr() for tensor in vars(state).values()] == addresses


def test_audio_is_clamped(golden_set: Callable[[str], GoldenSet]) -> None:
    tensors = dict(golden_set("base").codec_tensors)
    tensors["decoder.decoder.6.conv.bias"] = torch.tensor([50.0])
    _, decoder = load_codec(tensors, CodecConfig.from_json(golden_set("base").codec_config))
    assert torch.equal(decoder(random_codes(1, 1)), torch.ones(1, FRAME))
