"""From official tensors to a module. Some are folded on the way into what a step needs: a table instead of a sum and
its weights, one matrix instead of three.

Knows names and shapes; knows neither files nor what the tensors are for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Fold = Callable[[list[Tensor]], Tensor]


def fold_at_load(module: nn.Module, target: str, sources: Mapping[str, Sequence[int]], fold: Fold) -> None:
    """Let `load_exactly` make the parameter `target` of `module` as `fold` of the official `sources` (name -> shape).

    The fold sees float64, whatever is stored: a quotient or an exponential in bfloat16 is not the one that was trained.
    """

    def hook(
        module: nn.Module,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: object,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        current: Tensor = module.get_parameter(target)
        found = {name: state_dict.pop(prefix + name) for name in sources if prefix + name in state_dict}
        missing = [prefix + name for name in sources if name not in found]
        wrong = [
            f"size mismatch for {prefix}{name}: {list(tensor.shape)}, expected {list(sources[name])}"
            for name, tensor in found.items()
            if list(tensor.shape) != list(sources[name])
        ]
        missing_keys += missing
        error_msgs += wrong
        if missing or wrong:
            state_dict[prefix + target] = current  # said already, by the names that the file knows
            return
        state_dict[prefix + target] = fold([found[name].double() for name in sources])

    module.register_load_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Give `module`, made on the meta device, the official `tensors` in `dtype`, ready to run.

    Raises ValueError that names each tensor that is missing, unknown or of another shape. Tensors that need no folding
    and are in `dtype` already are shared with the caller, not copied.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True, assign=True)
    except RuntimeError as error:  # how torch says that keys or shapes do not fit
        raise ValueError(str(error)) from error
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    device = next(module.parameters()).device  # where the tensors are; constants were made on the CPU
    for part in module.modules():
        for name, constant in list(part.named_buffers(recurse=False)):
            setattr(part, name, constant.to(device))
    module.requires_grad_(False).eval()
