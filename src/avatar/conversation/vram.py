"""GPU memory, by NVML: how full it is and how much is free. Knows nothing of sessions.

All functions talk to the driver: call them off the event loop once it runs.
"""

import functools

import pynvml


def used_vram_fraction() -> float | None:
    """The used share (0…1) of the fullest GPU; None where NVML finds none."""
    memory = _memory()
    return max(used / total for used, total in memory) if memory else None


def free_vram_bytes() -> int | None:
    """Free bytes of the emptiest GPU; None where NVML finds none."""
    memory = _memory()
    return max(total - used for used, total in memory) if memory else None


def gpu_memory() -> tuple[int, int] | None:
    """(used, total) bytes of all GPUs together; None where NVML finds none."""
    memory = _memory()
    return (sum(used for used, _ in memory), sum(total for _, total in memory)) if memory else None


def used_vram_bytes() -> int | None:
    """Used bytes of all GPUs together; None where NVML finds none."""
    memory = gpu_memory()
    return memory[0] if memory else None


def _memory() -> list[tuple[int, int]]:
    """(used, total) bytes of each GPU. A driver that is being replaced reads as no GPU: nobody is shut out for it."""
    try:
        return [(int(info.used), int(info.total)) for info in map(pynvml.nvmlDeviceGetMemoryInfo, _handles())]
    except pynvml.NVMLError:
        return []


@functools.cache
def _handles() -> tuple[object, ...]:
    try:
        pynvml.nvmlInit()
        return tuple(pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return ()
