"""The golden set: tiny models with made weights, and what the official package says of them."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from avatar.engines.tts.qwen3.goldens import made_weights

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported; there is no GPU to compile for

GOLDEN_DIR = Path(__file__).parents[2] / "data" / "qwen3"


@dataclass(frozen=True)
class GoldenSet:
    """One golden model: its JSON files, and its tensors as float32."""

    folder: Path
    config: dict[str, Any]
    codec_config: dict[str, Any]
    model_tensors: dict[str, torch.Tensor]
    codec_tensors: dict[str, torch.Tensor]


@cache
def load_golden_set(kind: str) -> GoldenSet:
    folder = GOLDEN_DIR / kind
    codec = folder / "speech_tokenizer"
    return GoldenSet(
        folder=folder,
        config=_read(folder / "config.json"),
        codec_config=_read(codec / "config.json"),
        model_tensors=_tensors(folder / "tensors.json"),
        codec_tensors=_tensors(codec / "tensors.json"),
    )


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    salt: int = _read(GOLDEN_DIR / "golden.json")["set"]["salt"]
    return {name: torch.from_numpy(array) for name, array in made_weights(_read(path), salt).items()}


@pytest.fixture(autouse=True)
def _one_thread(torch_on_one_thread: None) -> None: ...


@pytest.fixture(scope="session")
def golden_set() -> Callable[[str], GoldenSet]:
    """`golden_set("base")` or `golden_set("custom")`; the tensors are shared, so a test must not write to them."""
    return load_golden_set


@pytest.fixture(scope="session")
def golden_cases() -> dict[str, Any]:
    """`golden.json`: the set's parameters and its cases."""
    return _read(GOLDEN_DIR / "golden.json")


@pytest.fixture(scope="session")
def golden() -> dict[str, npt.NDArray[Any]]:
    """`golden.npz`: the official outputs by name."""
    with np.load(GOLDEN_DIR / "golden.npz") as arrays:
        return dict(arrays)
