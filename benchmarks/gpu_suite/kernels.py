"""Part ``kernels``: every kernel against the PyTorch reference, with gradients, and against the copy bandwidth."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu_suite.cases import Case
from benchmarks.gpu_suite.common import Suite, bandwidth, median_seconds, reference_kernels
from benchmarks.gpu_suite.field_cases import FIELD_CASES
from benchmarks.gpu_suite.splat_cases import SPLAT_CASES
from benchmarks.gpu_suite.student_cases import STUDENT_CASES
from smerf.kernels import native

__all__ = ["CASES", "Case", "run"]

CASES = (*FIELD_CASES, *STUDENT_CASES, *SPLAT_CASES)


def difference(got: list[Tensor], wanted: list[Tensor]) -> tuple[float, float]:
    """Return the greatest and the mean difference, as shares of the largest wanted value of each tensor.

    The mean is over the worst tensor.
    """
    worst, mean = 0.0, 0.0
    for one, other in zip(got, wanted, strict=True):
        if not torch.isfinite(one).all():
            return float("inf"), float("inf")
        if not other.numel():
            continue
        scale = max(float(other.abs().max()), 1e-12)
        gap = (one.double() - other.double()).abs()
        worst, mean = max(worst, float(gap.max()) / scale), max(mean, float(gap.mean()) / scale)
    return worst, mean


def check(case: Case, suite: Suite) -> dict:
    """Compare a kernel with the reference on the suite's device."""
    size = 2**12 if suite.small or not suite.has_gpu else 2**16
    got = [one.detach().clone() for one in case.make(suite.device, size)[0]()]
    with reference_kernels():
        wanted = [one.detach().clone() for one in case.make(suite.device, size)[0]()]
    worst, mean = difference(got, wanted)
    tolerance = case.loose if case.loose is not None and suite.has_gpu else case.tolerance
    return {"worst": worst, "mean": mean, "tolerance": tolerance, "agrees": worst <= tolerance}


def measure(case: Case, suite: Suite, copy: float) -> dict:
    """Time a kernel and the reference at full size."""
    run, moved = case.make(suite.device, case.size)
    seconds, spread = median_seconds(run, suite.device, suite.repeats)
    values = {
        "median_ms": 1e3 * seconds,
        "spread_ms": 1e3 * spread,
        "gb_per_second": 1e-9 * moved / seconds,
        "share_of_copy": moved / seconds / copy,
    }
    del run
    try:
        with reference_kernels():
            run, _ = case.make(suite.device, case.size)
            slow, _ = median_seconds(run, suite.device, max(3, suite.repeats // 4))
        values |= {"peer": "PyTorch reference", "peer_ms": 1e3 * slow, "speedup": slow / seconds}
    except torch.cuda.OutOfMemoryError:
        values["peer"] = "PyTorch reference: not enough memory"
    return values


def run(suite: Suite) -> None:
    """Check and measure each kernel; one that fails does not keep the others back.

    Raises:
        RuntimeError: After the last kernel, if one of them failed or differs.
    """
    copy = bandwidth(suite)
    suite.add("copy", gb_per_second=1e-9 * copy)
    suite.add("kernel table", table=native.kernel_table())
    bad = []
    for case in CASES:
        try:
            values = check(case, suite)
            if suite.has_gpu:
                values |= measure(case, suite, copy)
            suite.add(f"kernels/{case.name}", **values)
            if not values["agrees"]:
                bad.append(case.name)
        except Exception as error:
            suite.add(f"kernels/{case.name}", error=f"{type(error).__name__}: {error}")
            bad.append(case.name)
    if bad:
        raise RuntimeError(f"kernels that failed or differ from the reference: {', '.join(bad)}")
