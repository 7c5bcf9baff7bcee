"""A small F5-TTS with made weights, and what the official package says of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.tiny_f5 import GOLDEN_DIR, make_weights


@pytest.fixture(autouse=True)
def _one_thread(torch_on_one_thread: None) -> None: ...


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
