"""Where a model of ours runs. Knows torch and no model."""

from typing import Literal

import torch

Device = Literal["auto", "cuda", "cpu"]


def choose_device(wanted: Device) -> torch.device:
    """`auto`: a GPU if there is one."""
    on_gpu = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")
