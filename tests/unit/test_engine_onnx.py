"""Opening ONNX models."""

from pathlib import Path

import pytest

from avatar.core.errors import EngineFailed
from avatar.engines.onnx import open_session
from avatar.engines.vad.silero import shipped_weights


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"encoder\.onnx are missing"):
        open_session(tmp_path / "encoder.onnx")


def test_broken_weights_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "encoder.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(EngineFailed, match=r"encoder\.onnx cannot be loaded"):
        open_session(broken)


@pytest.mark.parametrize("fold_weights", [False, True])
def test_the_threads_are_as_asked_and_do_not_spin(fold_weights: bool) -> None:
    options = open_session(shipped_weights(), threads=3, fold_weights=fold_weights).get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
