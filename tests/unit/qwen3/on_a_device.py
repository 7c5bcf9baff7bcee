"""Run all that runs on a GPU on a made-up device whose tensors have no values, in bfloat16: for a process of its own.

What would fail there fails here: a tensor made on the host and mixed with the device's, types that do not go together,
and looking at a value, which would wait for the device and cannot be captured in a CUDA graph. Prints what was run.
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

sys.path.insert(0, str(Path(__file__).parents[3]))

from avatar.engines.tts.qwen3 import matrices
from avatar.engines.tts.qwen3.checkpoint import assemble
from avatar.engines.tts.qwen3.config import Sampling
from avatar.engines.tts.qwen3.matrices import EightBit
from avatar.engines.tts.qwen3.prompt import Prompter
from avatar.engines.tts.qwen3.steps import Steps
from avatar.engines.tts.qwen3.voices import state_after
from tests.unit.qwen3.conftest import load_golden_set

_setup_privateuseone_for_python_backend("elsewhere")
DEVICE = torch.device("elsewhere", 0)


def uploaded(self: Prompter, ids: Sequence[int]) -> torch.Tensor:
    """The one place that copies a list to the device, which cannot be made up."""
    return torch.empty(len(ids), dtype=torch.int64, device=DEVICE)


Prompter._ids = uploaded  # type: ignore[method-assign]


def speak(steps: Steps, size: int) -> None:
    codes = steps.speak(torch.empty(size, 5, dtype=torch.int64, device=DEVICE), 64)
    assert (codes.device, codes.shape, codes.dtype) == (DEVICE, (size, 16), torch.int64)


def run(*, spoil: bool) -> None:
    made, mode = load_golden_set("base"), FakeTensorMode()
    tensors, codec = (
        {n: mode.from_tensor(t) for n, t in some.items()} for some in (made.model_tensors, made.codec_tensors)
    )
    with mode:
        model = assemble(made.folder, tensors, codec, device=DEVICE, dtype=torch.bfloat16, max_positions=512)
        if spoil:  # as if somebody had forgotten the device
            model.talker.transformer.cos = torch.zeros(512, model.config.talker.head_dim)
        steps = Steps(model, 4, 200)
        for size in (1, 4):
            speak(steps, size)
        wav = steps.decode(torch.empty(4, 2, dtype=torch.int64, device=DEVICE), 4)
        assert (wav.device, wav.shape, wav.dtype) == (DEVICE, (4, 4 * 1920), torch.float32)
        assert model.speaker_encoder is not None
        recording = torch.empty(24_000, device=DEVICE)
        heard = model.encoder(recording[None])[0]
        voice = model.prompter.clone(model.speaker_encoder(recording), heard.T, "hello there")
        decoder = state_after(model, heard)
        opening = model.prompter.opening(voice, "english")
        prefix = steps.prefix(opening.rows)
        for prompt in (
            model.prompter.streaming(opening, range(5, 40), ended=True),
            model.prompter.whole(opening, range(5, 40)),
        ):
            steps.begin(1, prefix, prompt.rows[prefix.length :], Sampling(), 3, decoder)
        talker, predictor = model.talker.in_8_bits(matrices.scaled), model.predictor.in_8_bits(matrices.scaled)
        assert isinstance(talker.transformer.layers[0].qkv, EightBit)
        speak(Steps(dataclasses.replace(model, talker=talker, predictor=predictor), 4, 200), 2)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    run(spoil="spoil" in sys.argv)
