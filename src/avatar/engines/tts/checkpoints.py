"""What is told of a model's files before they are loaded: what is wrong with them, and which tensors they hold.

Knows neither torch nor any model.
"""

import json
import struct
from pathlib import Path

_MAX_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit."""


class CheckpointError(ValueError):
    """A model directory that cannot be used; the message names the file and the key or tensor."""


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Name to shape of what a safetensors file holds, from its header. Raises `CheckpointError`."""
    try:
        with file.open("rb") as opened:
            (header_bytes,) = struct.unpack("<Q", opened.read(8))
            if header_bytes > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {header_bytes} bytes")
            header = json.loads(opened.read(header_bytes))
        return {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing.") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
