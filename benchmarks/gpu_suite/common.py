"""What the parts share: time, bandwidth, and the switch between native kernels and the reference."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from smerf.engine.device import cuda_works
from smerf.errors import SmerfError
from smerf.kernels import native

__all__ = ["NotHereError", "Suite", "bandwidth", "median_seconds", "reference_kernels"]


class NotHereError(SmerfError):
    """A part that this machine cannot run; the message says why."""

    exit_code = 3


@dataclass
class Suite:
    """What the parts are given: where things are, how long to train, and where results go."""

    data: Path | None
    work: Path
    scenes: tuple[str, ...]
    preset: str
    minutes: float
    repeats: int
    small: bool
    device: torch.device = field(default_factory=lambda: torch.device("cuda" if cuda_works() else "cpu"))
    records: list[dict] = field(default_factory=list)

    @property
    def has_gpu(self) -> bool:
        """Return whether there is a GPU that works."""
        return self.device.type == "cuda"

    def require_gpu(self) -> None:
        """Raise NotHereError unless there is a GPU."""
        if not self.has_gpu:
            raise NotHereError("no GPU: PyTorch finds none that works here")

    def add(self, name: str, **values: object) -> None:
        """Keep a record, and print it."""
        self.records.append({"name": name, **values})
        shown = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in values.items()
            if not isinstance(value, (list, dict))
        )
        print(f"  {name}: {shown}", flush=True)


@contextlib.contextmanager
def reference_kernels() -> Iterator[None]:
    """Turn the native kernels off for a while."""
    before = os.environ.get("SMERF_KERNELS")

    def switch(value: str | None) -> None:
        os.environ.pop("SMERF_KERNELS", None)
        if value is not None:
            os.environ["SMERF_KERNELS"] = value
        native.load_cpu.cache_clear()
        native.load_cuda.cache_clear()

    switch("reference")
    try:
        yield
    finally:
        switch(before)


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Return the median and the spread (half the range) of the time that ``run`` takes, after a warm-up."""
    for _ in range(2):
        run()
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            start.record()
            run()
            end.record()
            torch.cuda.synchronize(device)
            times.append(1e-3 * start.elapsed_time(end))
        else:
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
    return statistics.median(times), (max(times) - min(times)) / 2


def bandwidth(suite: Suite) -> float:
    """Return the bytes a second, read and written, of a large copy on the device."""
    size = 2**22 if suite.small else 2**28
    source = torch.ones(size, device=suite.device)
    target = torch.empty_like(source)
    seconds, _ = median_seconds(lambda: target.copy_(source), suite.device, suite.repeats)
    return 8.0 * size / seconds
