"""Named tensors on their way into a model: each is taken once, by name and shape, onto the right device and type.

What is missing, misshapen or left over is an error by name. Knows no model.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from avatar.engines.tts.checkpoints import CheckpointError


class Weights:
    """The tensors of one file (or of its shards) under a prefix.

    `source` names the file in errors. All views made by `under` share what has been taken.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        source: str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._tensors = tensors
        self._source = source
        self._device = torch.device(device)
        self._dtype = dtype
        self._prefix = ""
        self._taken: set[str] = set()

    def under(self, prefix: str) -> "Weights":
        """The tensors whose names start with `prefix` too, which is then left out."""
        view = Weights(self._tensors, self._source, device=self._device, dtype=self._dtype)
        view._prefix, view._taken = self._prefix + prefix, self._taken
        return view

    def take(self, name: str, *shape: int) -> Tensor:
        """One tensor. Raises `CheckpointError` if it is missing or of another shape."""
        full = self._prefix + name
        if full not in self._tensors:
            raise CheckpointError(f"{self._source} has no tensor {full}.")
        tensor = self._tensors[full]
        if tuple(tensor.shape) != shape:
            raise CheckpointError(f"{self._source}: {full} has shape {list(tensor.shape)}, not {list(shape)}.")
        self._taken.add(full)
        return tensor.to(self._device, self._dtype)

    def take_all(self, prefix: str) -> dict[str, Tensor]:
        """All tensors whose names start with `prefix`, as they are, for a reader with checks of its own."""
        names = [name for name in self._tensors if name.startswith(prefix)]
        self._taken.update(names)
        return {name: self._tensors[name] for name in names}

    def finish(self) -> None:
        """Raise `CheckpointError` if a tensor was never taken: this is not the model that was expected."""
        if extra := sorted(self._tensors.keys() - self._taken):
            more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
            raise CheckpointError(f"{self._source} has unexpected tensors: {', '.join(extra[:3])}{more}.")
