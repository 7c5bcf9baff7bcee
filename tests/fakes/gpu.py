"""A GPU in NVML's place: as full as a test says."""

from types import SimpleNamespace

import pynvml
import pytest

from avatar.conversation import vram

GIB = 1 << 30


class FakeGpu:
    """The only one there is, once `plug_in` was called."""

    def __init__(self, used_bytes: int = 3 * GIB, total_bytes: int = 24 * GIB) -> None:
        self.used_bytes = used_bytes
        self.total_bytes = total_bytes

    def plug_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the driver find it until the test is over."""
        monkeypatch.setattr(vram, "_handles", lambda: (self,))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", FakeGpu._memory)

    def _memory(self) -> SimpleNamespace:
        return SimpleNamespace(used=self.used_bytes, total=self.total_bytes)
