"""ONNX Runtime sessions as all our small CPU models want them. Knows no model."""

from pathlib import Path

import onnxruntime

from avatar.core.errors import EngineFailed


def open_session(path: Path, *, threads: int = 1, fold_weights: bool = False) -> onnxruntime.InferenceSession:
    """Open the model at `path` on the CPU. Blocks; raises `EngineFailed` when it is missing or broken.

    Threads never spin while they wait: these models share the machine with a language model. `fold_weights` turns
    quantized constants into float once instead of at every run: more memory and loading time, faster small steps.
    """
    if not path.is_file():
        raise EngineFailed(f"The weights {path.name} are missing in {path.parent}: fetch them, then start again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.disable_quant_qdq", "1" if fold_weights else "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no narrower base
        raise EngineFailed(f"The weights {path.name} cannot be loaded: delete and fetch them again.") from error
