"""The made weights of golden models: every tensor follows from its name, so a set stores names and shapes alone.

Knows nothing of what the tensors are for, nor how a golden set is laid out on disk.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# A smaller gain keeps the speech tokenizer's audio inside -1..1, where a difference is seen and not clamped away.
MODEL_GAIN = 1.2
TOKENIZER_GAIN = 0.7


def made_weights(tensors: Mapping[str, Sequence[object]], salt: int) -> dict[str, Floats]:
    """The weights that a golden set was made with.

    `tensors` is a `tensors.json`: name -> [shape, dtype]; all come back as float32. Names that start with `encoder.` or
    `decoder.` are the speech tokenizer's. `salt` is the set's own, from its `golden.json`.
    """
    return {name: _made(name, _shape(spec[0]), salt) for name, spec in tensors.items()}


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(isinstance(size, int) for size in value):
        raise ValueError(f"A shape must be a list of integers, not {value!r}.")
    return tuple(value)


def _made(name: str, shape: tuple[int, ...], salt: int) -> Floats:
    seed = (zlib.crc32(name.encode()) + salt) % 2**32
    normal = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    for applies, transform in _RULES:
        if applies(name):
            return transform(normal).astype(np.float32)
    gain = TOKENIZER_GAIN if name.startswith(("encoder.", "decoder.")) else MODEL_GAIN
    return (normal * (gain / math.sqrt(_fan(name, shape)))).astype(np.float32)


def _fan(name: str, shape: tuple[int, ...]) -> float:
    transposed = len(shape) == 3 and (".upsample." in f".{name}" or "block.1.conv" in name)
    return shape[0] * shape[2] / 2 if transposed else math.prod(shape[1:])


# The first rule that fits a name makes its tensor.
_RULES: tuple[tuple[Callable[[str], bool], Callable[[Floats], Floats]], ...] = (
    (lambda name: name.endswith("cluster_usage"), lambda r: 3 * np.abs(r) + np.float32(0.5)),
    (lambda name: name.endswith("initialized"), np.ones_like),
    (lambda name: "norm" in name and name.endswith("weight"), lambda r: 1 + np.float32(0.1) * r),
    (lambda name: name.endswith(("gamma", "scale")), lambda r: np.float32(0.3) + np.float32(0.05) * r),
    (lambda name: name.endswith(("alpha", "beta")), lambda r: np.float32(0.3) * r),
    (lambda name: "embed_sum" in name or "embedding_sum" in name, lambda r: r),
    (lambda name: "embedding" in name, lambda r: np.float32(0.5) * r),
    (lambda name: name.endswith("bias"), lambda r: np.float32(0.05) * r),
)
