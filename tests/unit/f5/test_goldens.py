"""Our F5-TTS computes what the official one does, on a small model with made weights, on the CPU in float32.

`tests/data/f5/golden.npz` and `texts.json` hold what the packages f5-tts 1.1.22 and vocos 0.1.0 say: their own
classes were built in the sizes of `tests/tiny_f5.py` and given the tensors of `made.py`'s folder through their own
loaders; noise came from NumPy's `RandomState`, as below. torchaudio's `MelSpectrogram` was replaced by `torch.stft` and
the filter bank of transformers' `audio_utils` (HTK, no norm), which is not ours.

| name | what |
|---|---|
| `texts` | `convert_char_to_pinyin` |
| `mel` | `CFM.mel_spec` of `recording()` |
| `step` | `DiT.forward(time=0.3, cfg_infer=True)` |
| `sampled_16`, `sampled_32` | `CFM.sample(duration=150, cfg_strength=2, sway_sampling_coef=-1)` |
| `wave` | `Vocos.decode` |
| `speech`, `short_speech` | `infer_batch_process(nfe_step=16)` |
"""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from avatar.engines.tts.f5 import flow
from avatar.engines.tts.f5.checkpoint import read_network, read_vocoder
from avatar.engines.tts.f5.mel import log_mel
from avatar.engines.tts.f5.model import F5Model, frames_of
from avatar.engines.tts.f5.reference import heard
from avatar.engines.tts.f5.text import TextTokenizer, symbols

Golden = dict[str, npt.NDArray[np.float32]]
NEVER = threading.Event()


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def recording() -> npt.NDArray[np.float32]:
    n = np.arange(24_000) / 24_000
    noise = np.random.RandomState(7).standard_normal(24_000)
    return (0.05 * np.sin(2 * np.pi * 220 * n * (1 + n)) + 0.01 * noise).astype(np.float32)


def test_texts_are_the_same_symbols(texts: dict[str, Any]) -> None:
    assert {text: symbols(text) for text, _ in texts["texts"]} == dict(texts["texts"])


def test_symbols_are_the_same_numbers(texts: dict[str, Any]) -> None:
    assert TextTokenizer(texts["vocabulary"]).encode(texts["texts"][5][0]) == texts["numbers"]


@given(st.text())
def test_every_text_has_symbols(text: str) -> None:
    assert all(symbols(text))


def test_a_recording_has_the_same_mel(golden: Golden) -> None:
    made = log_mel(torch.from_numpy(recording()))
    np.testing.assert_allclose(made, golden["mel"], atol=1e-4)


@torch.inference_mode()
def test_a_step_goes_the_same_way(folder: Path, golden: Golden) -> None:
    network = read_network(folder)
    cond = drawn(2, 1, 60, 100)
    cond[:, 25:] = 0
    text = network.text_embed(torch.arange(20), 60)
    (modulation,) = network.modulations(torch.tensor([0.3]))
    both = network(drawn(1, 1, 60, 100).expand(2, -1, -1), torch.cat([cond, 0 * cond]), text, modulation)
    np.testing.assert_allclose(both, golden["step"], atol=1e-5)


@pytest.mark.parametrize("steps", [16, 32])
def test_the_same_noise_becomes_the_same_mel(folder: Path, golden: Golden, texts: dict[str, Any], steps: int) -> None:
    numbers = torch.tensor(TextTokenizer(texts["vocabulary"]).encode("Hello there.  How are you today, ni hao?"))
    reference = log_mel(torch.from_numpy(recording()))
    made = flow.Flow.of(read_network(folder), steps).sample(drawn(11, 150, 100), reference, numbers, NEVER)
    np.testing.assert_allclose(made, golden[f"sampled_{steps}"], atol=1e-4)


def test_half_precision_says_nearly_the_same(folder: Path, golden: Golden, texts: dict[str, Any]) -> None:
    """As on a GPU; the sampling itself stays in float32."""
    numbers = torch.tensor(TextTokenizer(texts["vocabulary"]).encode("Hello there.  How are you today, ni hao?"))
    reference = log_mel(torch.from_numpy(recording()))
    network = read_network(folder, dtype=torch.float16)
    assert network.proj_out.weight.dtype == torch.float16
    made = flow.Flow.of(network, 16).sample(drawn(11, 150, 100), reference, numbers, NEVER)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made, golden["sampled_16"], atol=0.03)


@torch.inference_mode()
def test_a_mel_has_the_same_sound(folder: Path, golden: Golden) -> None:
    pcm = read_vocoder(folder)((drawn(3, 1, 100, 30) * 2 - 4).transpose(1, 2))[0]
    np.testing.assert_allclose(pcm, golden["wave"], atol=1e-5)


@pytest.mark.parametrize(("text", "name"), [("How are you today?", "speech"), ("Fine.", "short_speech")])
def test_a_clause_is_the_same_speech(folder: Path, golden: Golden, text: str, name: str) -> None:
    model = F5Model.load(folder, device=torch.device("cpu"), dtype=torch.float32, steps=16)
    voice = heard(recording(), "Hello there.")
    numbers = torch.tensor(model.tokenizer.encode(voice.text + text))
    frames = voice.frames + frames_of(text, voice, 1.0)
    pcm = model.render(voice, numbers, drawn(11, frames, 100), NEVER)
    np.testing.assert_allclose(pcm, golden[name], atol=1e-5)
