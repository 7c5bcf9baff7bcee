"""The speed suite and the parity suite run, in small, and say what is so."""

import asyncio

import numpy as np
import pytest
import torch

from avatar.engines.tts.qwen3 import bench, parity
from avatar.engines.tts.qwen3.engine import Engine, Options
from avatar.engines.tts.qwen3.golden_cases import read_golden
from avatar.engines.tts.qwen3.graphs import Runner, process_settings
from avatar.engines.tts.qwen3.ticks import Limits
from tests.unit.qwen3.conftest import GOLDEN_DIR
from tests.unit.qwen3.models import checkpoint

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_suite_measures_what_it_says() -> None:
    """On a real clock: it measures nothing else."""
    engine = Engine(checkpoint("custom"), Options(Limits(slots=4, max_positions=128, contexts=())))
    plan = bench.Plan(
        streams=(2,),
        audio_s=0.4,
        spread_s=0.01,
        probes=2,
        rtf_frames=5,
        arrivals_hz=(50,),
        arrivals_s=0.1,
        arrival_audio_s=0.2,
    )
    said: list[str] = []
    findings = asyncio.run(bench.measure(engine, 1.5, plan, said.append))
    assert len(said) == 3
    (fast,), (streams,), (arrivals,) = findings.throughput, findings.streams, findings.arrivals
    assert float(fast["RTF"]) == pytest.approx(float(fast["ms a frame of all"]) / 80, rel=0.01)
    assert 0 < float(streams["first p50 ms"]) <= float(streams["first p95 ms"])
    assert int(arrivals["most at once"]) >= 1
    page = bench.as_markdown(findings)
    assert "loaded in 1.5 s" in page
    assert page.count("\n| ") == 6


def test_a_frames_weights_are_those_that_are_read_for_it() -> None:
    """64 × 96 and so on: counted by hand for the tiny model."""
    engine = Engine(checkpoint("custom"))
    talker = 3 * (32 * 16 * (2 * 4 + 2 * 2) + 3 * 32 * 96) + 32 * 3072
    predictor = 2 * (32 * 8 * (2 * 4 + 2 * 2) + 3 * 32 * 48) + 32 * 2048
    assert bench.frame_bytes(engine) == 4 * (talker + 15 * predictor)


@pytest.mark.parametrize("kind", ["base", "custom"])
def test_the_tick_loop_speaks_the_official_codes(kind: str) -> None:
    """All cases of the golden set at once, each in its slot, streaming and whole."""
    spoken = parity.speak_cases(GOLDEN_DIR, kind, checkpoint(kind), Runner(torch.device("cpu")))
    assert len(spoken) >= 4
    for name, wrong, off in parity.differences(spoken, read_golden(GOLDEN_DIR)):
        assert wrong == 0, name
        assert off <= 2e-6, name


@ON_GPU
@pytest.mark.parametrize("kind", ["base", "custom"])
def test_graphs_speak_what_runs_eagerly(kind: str) -> None:
    device = torch.device("cuda")
    model = parity.golden_checkpoints(GOLDEN_DIR, device)[kind]
    with process_settings(device, tf32=False):
        eager = parity.speak_cases(GOLDEN_DIR, kind, model, Runner(device, graphs=False))
        graphed = parity.speak_cases(GOLDEN_DIR, kind, model, Runner(device))
    for name, (codes, pcm) in eager.items():
        np.testing.assert_array_equal(graphed[name][0], codes, err_msg=name)
        size = min(len(pcm), len(graphed[name][1]))
        np.testing.assert_allclose(graphed[name][1][:size], pcm[:size], atol=1e-5, err_msg=name)
