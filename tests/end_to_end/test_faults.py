"""Kills, full disks and refused files at every operation on the run folder: no result is lost, and a run goes on.

The stages are fakes, so that thousands of operations take seconds; each fault happens in a process of its own, forked
with everything imported. ``SMERF_FAULTS=all`` tries every operation instead of a sample, ``SMERF_FAULTS=100-199`` those
with these numbers; with ``-s`` they print how many there were and how they ended.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.helpers import fakes

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

ASKED = os.environ.get("SMERF_FAULTS", "")
SAMPLES = 9
KILLED = 137
_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Faults:
    """Counts operations that change files below ``folder`` and lets number ``at`` fail as ``fault`` does."""

    def __init__(self, folder: Path, at: int, fault: Callable[[], None]) -> None:
        self.folder, self.at, self.fault, self.count, self.active = str(folder), at, fault, 0, True
        sync = os.fsync

        def counted_sync(descriptor):
            self._step()
            sync(descriptor)

        os.fsync = counted_sync
        sys.addaudithook(self._hook)

    def _hook(self, event, arguments):
        if not self.active or event not in _EVENTS or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITES):
            return
        self._step()

    def _step(self):
        self.count += 1
        if self.count == self.at:
            self.fault()


def kill() -> None:
    os._exit(KILLED)


def refuse(number: int) -> Callable[[], None]:
    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault


def in_child(words, folder=None, at=0, fault=kill) -> tuple[int, int, str]:
    """Run a command on the fakes in a forked process; return its code, its operations and what it wrote to stderr."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code, err, faults = 99, io.StringIO(), None
        try:
            os.close(ours)
            fakes.install()
            from smerf.cli.main import main

            if folder is not None:
                faults = Faults(folder, at, fault)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
                code = main([str(word) for word in words])
        finally:
            if faults is not None:
                faults.active = False
            # Whatever happens here, such as a parent that is gone: a child must not go on with the tests.
            with contextlib.suppress(OSError):
                os.write(theirs, f"{faults.count if faults else 0}\n{err.getvalue()}".encode())
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        text = file.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count, _, err = text.partition("\n")
    return code, int(count or 0), err


def whole(run: Path) -> dict[str, str]:
    """Return a hash of every finished result that a reader finds, by stage."""
    from smerf.engine.folder import STAGES, RunFolder

    found = {}
    for stage in STAGES:
        folder = RunFolder(run).folder(stage)
        if (folder / "done.json").is_file():
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            text = b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)
            found[stage] = hashlib.sha256(text).hexdigest()
    return found


def config_of(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def leftovers(run: Path) -> list[str]:
    return [
        str(path) for path in run.rglob("*") if path.name.startswith(".tmp-") or path.name == "unfinished"
    ]


@pytest.fixture(scope="module", autouse=True)
def everything_imported():
    """Import what the forked processes need, once."""
    import imageio.v2
    import torch
    import tyro

    import smerf.cli.main
    import smerf.evaluation.report
    import smerf.pipeline.run
    import smerf.prepare
    from smerf.engine.environment import describe_environment

    assert describe_environment()
    assert all(
        (imageio.v2, torch, tyro, smerf.cli.main, smerf.evaluation.report, smerf.pipeline.run, smerf.prepare)
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return fakes.make_data(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run, which tests copy."""
    run = tmp_path_factory.mktemp("finished") / "run"
    code, _, err = in_child(("run", data, "-o", run, "-q", "--device", "cpu"))
    assert code == 0, err
    return run


def moments(words, folder: Path) -> list[tuple[int, Callable[[], None]]]:
    """Return operations, by number, each with a fault to try there: all of both, or some evenly spread in turn."""
    code, count, err = in_child(words, folder)
    assert code == 0, err
    assert count > 20
    if ASKED:
        first, _, last = ("1", "", "") if ASKED == "all" else ASKED.partition("-")
        numbers = range(int(first), min(count, int(last or count)) + 1)
        return [(at, fault) for at in numbers for fault in FAULTS]
    return [(1 + k * (count - 1) // (SAMPLES - 1), FAULTS[k % len(FAULTS)]) for k in range(SAMPLES)]


FAULTS = (kill, refuse(errno.ENOSPC), refuse(errno.EACCES))
NAMES = ("killed", "disk full", "refused")


def tell(command, ended):
    """Print how many faults of each kind there were, and how many of them the command itself got over."""
    for fault, name in zip(FAULTS, NAMES):
        codes = [code for each, code in ended if each is fault]
        print(f"\n{command}: {name} {len(codes)} times, {codes.count(0)} without effect, 0 losses", end="")


def test_a_first_run_that_fails_anywhere_is_finished_by_the_same_command(data, tmp_path):
    words, ended = ("run", data, "-o", tmp_path / "counted", "-q", "--device", "cpu"), []
    for at, fault in moments(words, tmp_path / "counted"):
        run = tmp_path / f"run{at}"
        words = ("run", data, "-o", run, "-q", "--device", "cpu")
        code, _, err = in_child(words, run, at, fault)
        assert code in (0, 1, KILLED) and "Traceback" not in err, (at, code, err)
        ended.append((fault, code))
        code, _, err = in_child(words)
        assert code == 0, (at, err)
        assert len(whole(run)) == 4 and not leftovers(run), at
        shutil.rmtree(run)
    tell("first run", ended)


REDONE = {
    "bake": (("bake", "RUN", "--max-mb", "5", "-q"), ("bake", "max_mb"), "baked"),
    "run": (
        ("run", "DATA", "-o", "RUN", "--set", "student.steps=5", "--overwrite", "-q"),
        ("student", "steps"),
        "student",
    ),
}


@pytest.mark.parametrize("command", REDONE)
def test_redoing_a_stage_loses_nothing_wherever_it_fails(data, finished, tmp_path, command):
    pattern, (section, key), stage = REDONE[command]

    def copy(name):
        run = tmp_path / name
        shutil.copytree(finished, run)
        return run, [{"RUN": str(run), "DATA": str(data)}.get(word, word) for word in pattern]

    counted, words = copy("counted")
    before, old, ended = whole(counted), config_of(counted)[section][key], []
    for at, fault in moments(words, counted):
        run, words = copy(f"run{at}")
        code, _, err = in_child(words, run, at, fault)
        assert code in (0, 1, KILLED) and "Traceback" not in err, (at, code, err)
        ended.append((fault, code))
        after = whole(run)
        assert after.keys() == before.keys(), f"a result is gone after a fault at {at}"
        # Whoever takes the run up again finds the config of the results that it has.
        code, _, err = in_child(("eval", run, "-q"))
        assert code == 0, (at, err)
        is_new = whole(run)[stage] != before[stage]
        assert (config_of(run)[section][key] != old) == is_new, at
        assert whole(run)["teacher"] == before["teacher"]
        code, _, err = in_child(words)
        assert code == 0, (at, err)
        assert config_of(run)[section][key] != old and not leftovers(run)
        shutil.rmtree(run)
    tell(f"{command} again", ended)


def test_a_wish_that_cannot_be_met_costs_nothing(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    before, config = whole(run), (run / "config.yaml").read_bytes()
    code, _, err = in_child(("bake", run, "--max-mb", "0.001", "-q"))
    assert code == 2 and "can't be made smaller" in err
    assert whole(run) == before and (run / "config.yaml").read_bytes() == config
    assert "Traceback" not in (run / "log.txt").read_text()
    assert in_child(("export", run, "-o", tmp_path / "site"))[0] == 0
    assert in_child(("bake", run, "-q"))[0] == 0 and whole(run) == before
