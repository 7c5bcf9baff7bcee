"""Running a step for batches of a few fixed shapes: as CUDA graphs where there is a GPU, eagerly elsewhere.

A step is a function of one int64 tensor of rows (the batch) that works on tensors of its own; so a graph needs one
input. Copies to the host do not wait. Knows not what a step does.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor], Tensor]

WARM_RUNS = 2
"""Before a capture: libraries choose their kernels and workspaces in the first run."""


@dataclass(frozen=True)
class _Graph:
    graph: "torch.cuda.CUDAGraph"
    rows: Tensor
    result: Tensor


class Runner:
    """Runs steps on one device. `captures` is False on a CPU, or when asked to be.

    `asynchronous`: results are not there yet when `run` returns.
    """

    def __init__(self, device: torch.device, *, graphs: bool = True) -> None:
        self.device = device
        self.asynchronous = device.type == "cuda"
        self.captures = graphs and device.type == "cuda"
        self.capture_s = 0.0
        self._graphs: dict[Hashable, _Graph] = {}
        self._pool: Any = None
        self._beside: torch.cuda.Stream | None = None  # one for all captures: libraries keep workspaces for each
        if self.captures:
            self._pool = torch.cuda.graph_pool_handle()
            self._beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self._graphs)

    def prepare(self, key: Hashable, step: Step, rows: Tensor) -> None:
        """Capture `step` on rows of this shape (any that do no harm), to be run as `key`. Large shapes first."""
        if self._beside is None:
            return
        began_s, beside = time.perf_counter(), self._beside
        static = rows.to(self.device)
        beside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_RUNS):
                step(static)
        torch.cuda.current_stream(self.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool, beside, "thread_local"):  # other models may load meanwhile
            result = step(static)
        self._graphs[key] = _Graph(graph, static, result)
        self.capture_s += time.perf_counter() - began_s

    def run(self, key: Hashable, step: Step, rows: Sequence[Sequence[int]]) -> Tensor:
        """The step's result on the device; overwritten by the next run of `key`, so copy it first."""
        batch = torch.tensor(rows, dtype=torch.int64)
        if key not in self._graphs:
            return step(batch if self.device.type == "cpu" else batch.to(self.device))
        graph = self._graphs[key]
        graph.rows.copy_(batch.pin_memory(), non_blocking=True)
        graph.graph.replay()
        return graph.result

    def fetch(self, result: Tensor) -> Tensor:
        """A copy on the host, complete once `Landing.wait` of a later `landing` has returned."""
        return result.to("cpu", non_blocking=True)

    def landing(self) -> "Landing":
        """A point in the device's work up to now."""
        return Landing(self.device)


class Landing:
    """Something to wait for: all that was launched before it was made."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        if self._event is not None:
            self._event.synchronize()
