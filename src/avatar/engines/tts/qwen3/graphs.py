"""Running a step for batches of a few fixed shapes: as CUDA graphs where there is a GPU, eagerly elsewhere.

A step is a function of one int64 tensor of rows (the batch) that works on tensors of its own; so a graph needs one
input. Copies to the host do not wait. Everything runs on the thread's current stream, so it comes after whatever other
threads put there before. Knows not what a step does.
"""

import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Step = Callable[[Tensor], Tensor]

WARM_RUNS = 2
"""Before a capture: libraries choose their kernels and workspaces in the first run."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Graph:
    graph: "torch.cuda.CUDAGraph"
    rows: Tensor
    result: Tensor


class Runner:
    """Runs steps on one device. `captures` is False on a CPU, or when asked to be, or once a capture has failed.

    `asynchronous`: results are not there yet when `run` returns. `failure`: why a capture failed; then all is eager.
    """

    def __init__(self, device: torch.device, *, graphs: bool = True) -> None:
        self.device = device
        self.asynchronous = device.type == "cuda"
        self.captures = graphs and device.type == "cuda"
        self.capture_s = 0.0
        self.failure = ""
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
        if not self.captures:
            return
        began_s, stream = time.perf_counter(), torch.cuda.current_stream(self.device)
        try:
            self._graphs[key] = self._capture(step, rows.to(self.device, torch.int64))
        except RuntimeError as error:
            _log.exception("a step cannot be captured in a CUDA graph; all steps run eagerly")
            self.captures, self.failure = False, f"{key}: {str(error).strip().splitlines()[0]}"
            self._graphs.clear()
            torch.cuda.set_stream(stream)  # a capture that cannot be ended leaves its own behind
        self.capture_s += time.perf_counter() - began_s

    def _capture(self, step: Step, static: Tensor) -> _Graph:
        beside = self._beside
        assert beside is not None
        beside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_RUNS):
                step(static)
        torch.cuda.current_stream(self.device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self._pool, beside, "thread_local"):  # other models may load meanwhile
            result = step(static)
        return _Graph(graph, static, result)

    def run(self, key: Hashable, step: Step, rows: Sequence[Sequence[int]]) -> Tensor:
        """The step's result on the device. The next run of any key may overwrite it, since graphs share their memory:
        `fetch` it first.
        """
        batch = torch.tensor(rows, dtype=torch.int64)
        if self.device.type == "cpu":
            return step(batch)
        pinned = batch.pin_memory()  # kept by torch until the copy is done
        if key not in self._graphs:
            return step(pinned.to(self.device, non_blocking=True))
        graph = self._graphs[key]
        graph.rows.copy_(pinned, non_blocking=True)
        graph.graph.replay()
        return graph.result

    def time_ms(self, key: Hashable, step: Step, rows: Sequence[Sequence[int]], repeats: int) -> float:
        """How long a run takes, captured where that is wanted and once warm. Raises what fails, a capture too."""
        self.prepare(key, step, torch.tensor(rows))
        if self.failure:
            raise RuntimeError(self.failure)
        self.run(key, step, rows)
        self.landing().wait()
        began_s = time.perf_counter()
        for _ in range(repeats):
            self.run(key, step, rows)
        self.landing().wait()
        return (time.perf_counter() - began_s) * 1000 / repeats

    def fetch(self, result: Tensor) -> Tensor:
        """A copy on the host, complete once `Landing.wait` of a later `landing` has returned."""
        return result.to("cpu", non_blocking=True)  # into pinned memory: torch sees to that

    def landing(self) -> "Landing":
        """A point in the device's work up to now."""
        return Landing(self.device)


@contextmanager
def process_settings(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """How torch computes while we run, on a GPU; these are switches of the whole process, so then what they were.

    `tf32`: of convolutions. cuDNN's attention is off: it plans anew, slowly, for each of the many shapes of a frame.
    """
    if device.type != "cuda":
        yield
        return
    backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32), sdpa_kernel(backends):
        yield


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
