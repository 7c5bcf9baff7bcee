"""Reads the weights of a `torch.save` file of the old format (before 1.6) without torch.

A pickle can call anything; these may name exactly the four things below. Knows no model.
"""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from avatar.core.errors import EngineFailed

_MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, MAGIC_NUMBER
_PROTOCOL = 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

Array = NDArray[Any]


class _Storage:
    """Elements that tensors look at; filled after the pickle has been read."""

    def __init__(self, dtype: "np.dtype[Any]", elements: int) -> None:
        self.dtype = dtype
        self.elements = elements
        self.data: Array = np.zeros(0, dtype)


class _Tensor:
    """What a pickled tensor says of itself."""

    def __init__(
        self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> None:
        self._storage, self._offset, self._shape, self._stride = storage, offset, shape, stride

    def array(self) -> Array:
        """A copy of the elements. Raises `ValueError` if they lie outside their storage."""
        item = self._storage.dtype.itemsize
        last = self._offset + sum((n - 1) * s for n, s in zip(self._shape, self._stride, strict=True))
        if min((*self._shape, 1)) < 1 or min((*self._stride, 0)) < 0 or not 0 <= last < self._storage.data.size:
            raise ValueError("a tensor outside its storage")
        strides = [step * item for step in self._stride]
        return np.lib.stride_tricks.as_strided(self._storage.data[self._offset :], self._shape, strides).copy()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not expected in weights")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, elements, _view = pid
        if kind != "storage":
            raise pickle.UnpicklingError("not a storage")
        return self._storages.setdefault(key, _Storage(dtype, elements))


def read_tensors(path: Path, member: str) -> dict[str, Array]:
    """The tensors of the dictionary `member` in the checkpoint at `path`. Raises `EngineFailed` on anything else."""
    try:
        with path.open("rb") as file:
            return _read(io.BytesIO(file.read()), member)
    except FileNotFoundError:
        raise EngineFailed(
            f"The weights {path.name} are missing in {path.parent}: fetch them, then try again."
        ) from None
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, EOFError, AttributeError, IndexError) as error:
        raise EngineFailed(f"The weights {path.name} cannot be loaded: delete and fetch them again.") from error


def _read(file: BinaryIO, member: str) -> dict[str, Array]:
    storages: dict[str, _Storage] = {}

    def load() -> Any:
        return _Unpickler(file, storages).load()

    if load() != _MAGIC or load() != _PROTOCOL or not load()["little_endian"]:
        raise ValueError("not such a checkpoint")
    tensors: dict[str, _Tensor] = load()[member]
    for key in load():
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise ValueError("a storage of another size")
        storage.data = np.frombuffer(file.read(storage.elements * storage.dtype.itemsize), storage.dtype)
    return {name: tensor.array() for name, tensor in tensors.items()}
