"""A small F5-TTS with made weights, and what the official package says of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.tiny_f5 import GOLDEN_DIR, make_weights


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tiny models run faster on one thread, and leave the other cores alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: a test must not write to it."""
    return make_weights(tmp_path_factory.mktemp("f5"))


@pytest.fixture(scope="session")
def golden() -> dict[str, npt.NDArray[np.float32]]:
    with np.load(GOLDEN_DIR / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def texts() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN_DIR / "texts.json").read_text("utf-8"))
    return content
