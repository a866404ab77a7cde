"""A test that cannot run is seen: continuous integration fails on a skip that nobody expected."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = """
import pytest

def test_runs():
    pass

def test_cannot_run():
    pytest.skip({reason!r})
"""


@pytest.mark.parametrize(
    ("reason", "ci", "code"),
    [
        ("the processor has no AVX-512", "true", 0),
        ("no GPU: PyTorch finds none", "true", 0),
        ("Chromium is not installed", "true", 1),
        ("Chromium is not installed", "", 0),
    ],
)
def test_an_unexpected_skip_fails_under_ci_alone(tmp_path, reason, ci, code):
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_one.py").write_text(TESTS.format(reason=reason))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    assert ("unexpected skips" in done.stdout) == (reason.startswith("Chromium"))
