import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import fakes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def smerf(monkeypatch, capsys, tmp_path):
    """Run a command line in this process on the fake stages; return (exit code, stdout, stderr)."""
    replaced = fakes.install()
    from smerf.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = main([str(word) for word in words])
        output = capsys.readouterr()
        return code, output.out, output.err

    yield call
    fakes.uninstall(replaced)


@pytest.fixture
def data(tmp_path):
    return fakes.make_data(tmp_path / "data")


@pytest.fixture
def start():
    """Start a command line on the fake stages in a process of its own."""
    processes = []

    def call(*words):
        given = {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.fakes", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **given},
            # A shell that runs the tests in the background lets them, and what they start, ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        return process

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()
