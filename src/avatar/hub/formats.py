"""Whether a file can be what its name says, for files of which no hash is known. Reads headers, not weights."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

_MAX_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""


def is_damaged(path: Path) -> bool:
    """True for a file that is certainly not whole: JSON that does not parse, safetensors cut short, no GGUF at all."""
    check = _CHECKS.get(path.suffix)
    try:
        return path.stat().st_size == 0 or (check is not None and not check(path))
    except (OSError, ValueError, struct.error, RecursionError):
        return True


def _is_json(path: Path) -> bool:
    json.loads(path.read_bytes())
    return True


def _is_whole_safetensors(path: Path) -> bool:
    """The file is as long as its header says (https://github.com/huggingface/safetensors, "Format")."""
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if header_bytes > _MAX_HEADER_BYTES:
            return False
        tensors = json.loads(file.read(header_bytes))
    ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
    return bool(path.stat().st_size == 8 + header_bytes + max(ends, default=0))


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


_CHECKS: dict[str, Callable[[Path], bool]] = {
    ".json": _is_json,
    ".safetensors": _is_whole_safetensors,
    ".gguf": _is_gguf,
}
