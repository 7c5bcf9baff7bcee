"""How full GPU memory is, by NVML. Knows nothing of sessions."""

from collections.abc import Callable

import pynvml


def open_vram_gauge() -> Callable[[], float | None]:
    """A function that gives the used share (0…1) of the fullest GPU, or None where NVML finds no GPU.

    Call it off the event loop: NVML talks to the driver.
    """
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return lambda: None
    if not handles:
        return lambda: None

    def fraction() -> float | None:
        try:
            infos = [pynvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        except pynvml.NVMLError:  # a driver that is being replaced: do not shut everybody out for it
            return None
        return max(float(info.used) / float(info.total) for info in infos)

    return fraction
