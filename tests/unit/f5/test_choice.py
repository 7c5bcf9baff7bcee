"""When the engine is offered."""

from pathlib import Path

import pytest

from avatar.engines.builtin import BUILTIN, F5_TTS_MIN_VRAM_BYTES
from avatar.engines.registry import Choice, Facts, Wish, choose

ALL = frozenset(package for spec in BUILTIN for package in spec.packages)
WEIGHTS = {key: Path(key) for key in ("f5-tts-v1-base", "kokoro-82m")}


def pick(wish: Wish, facts: Facts) -> Choice:
    return choose("tts", wish, facts, BUILTIN)


def test_it_serves_where_there_are_weights_and_a_gpu_with_room() -> None:
    choice = pick(Wish(), Facts(ALL, WEIGHTS, free_vram_bytes=F5_TTS_MIN_VRAM_BYTES))
    assert (choice.spec.name, choice.weights) == ("f5-tts", Path("f5-tts-v1-base"))


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts(ALL, WEIGHTS), "there is no GPU"),
        (Facts(ALL, WEIGHTS, free_vram_bytes=F5_TTS_MIN_VRAM_BYTES - 1), "it wants 3 GiB"),
        (Facts(ALL - {"rjieba"}, WEIGHTS, free_vram_bytes=80 << 30), "the package rjieba is not installed"),
    ],
)
def test_elsewhere_another_one_does_and_it_is_said_why(facts: Facts, why: str) -> None:
    choice = pick(Wish(), facts)
    assert choice.spec.name == "kokoro"
    assert dict(choice.rejected)["f5-tts"].startswith(why)


def test_by_name_it_runs_on_a_cpu() -> None:
    assert pick(Wish("f5-tts"), Facts(ALL, WEIGHTS)).spec.name == "f5-tts"
