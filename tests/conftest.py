"""What all tests share: their markers, and the skips that continuous integration accepts."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Files run side by side, one a processor: threads on top of that only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

EXPECTED_SKIPS = {
    r"AVX-512|avx512": "the machine's processor has no AVX-512",
    r"AVX2|avx2": "the machine's processor has no AVX2",
    r"no (CUDA )?GPU|no CUDA device|needs a GPU|CUDA kernels? (is|are) not (built|there)": "no GPU on the machine",
    r"nvcc": "no CUDA toolkit on the machine",
    r"tinycudann|tiny-cuda-nn|nerfacc": "optional accelerators of the teacher on a GPU",
    r"(timm|vit_pytorch) is not installed": "second opinions on models that transformers checks too",
    r"gives no WebGPU adapter|no WebGPU": "the page draws with WebGL2 there",
    r"no node": "the page itself needs no node",
    r"no npm registry in reach": "the page itself needs no package",
}
"""Patterns of reasons for which a test may be skipped under ``CI``, and why that is no loss."""

_ROOT = Path(__file__).parent
_unexpected: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they use: ``browser`` and ``gl`` by folder and fixture, ``slow`` whole runs."""
    for item in items:
        folder = Path(item.path).relative_to(_ROOT).as_posix()
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"browser", "visit", "web"}:
            item.add_marker(pytest.mark.browser)
        if folder.startswith("viewer/desktop/"):
            item.add_marker(pytest.mark.gl)
        if folder.startswith("end_to_end/"):
            item.add_marker(pytest.mark.slow)


def is_expected(reason: str) -> bool:
    """Return whether a test may be skipped for this reason under ``CI``."""
    return any(re.search(pattern, reason) for pattern in EXPECTED_SKIPS)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note every skip that ``EXPECTED_SKIPS`` does not name."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not is_expected(reason):
            _unexpected.append(f"{report.nodeid}: {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session under ``CI`` if a test was skipped for another reason."""
    if _unexpected and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which skips were not expected."""
    if _unexpected:
        end = "the run fails" if os.environ.get("CI") else "with CI=true the run would fail"
        terminalreporter.section(f"unexpected skips: {end} (tests/conftest.py)")
        for line in _unexpected:
            terminalreporter.line(line)
