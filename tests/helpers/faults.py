"""Kills, full disks and refused files at one operation on a folder, in processes of their own.

The stages are fakes. Each process is forked with everything imported and nothing for a collection of garbage to look
through, so that it takes as long as the command itself, a third of a second.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from smerf.engine.folder import STAGES, RunFolder
from tests.helpers import fakes

KILLED = 137
_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Fault = Callable[[], None]


def _kill() -> None:
    os._exit(KILLED)


def _refuse(number: int) -> Fault:
    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault


FAULTS: dict[str, Fault] = {
    "killed": _kill,
    "disk full": _refuse(errno.ENOSPC),
    "refused": _refuse(errno.EACCES),
}


class _Operations:
    """Counts operations that change files below ``folder`` and lets number ``at`` fail as ``fault`` does."""

    def __init__(self, folder: Path, at: int, fault: Fault) -> None:
        self.folder, self.at, self.fault, self.count, self.active = str(folder), at, fault, 0, True
        # A process that dies leaves what it wrote to the system, so that no disk need be waited for.
        os.fsync = lambda descriptor: self._step()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.active or event not in _EVENTS or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITES):
            return
        self._step()

    def _step(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.fault()


def in_child(
    words: Sequence[object], folder: Path | None = None, at: int = 0, fault: Fault = _kill
) -> tuple[int, int, str]:
    """Run a command on the fakes in a forked process; return its code, its operations and what it wrote to stderr."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        code, err, operations = 99, io.StringIO(), None
        try:
            os.close(ours)
            from smerf.cli.main import main

            if folder is None:
                os.fsync = lambda descriptor: None
            else:
                operations = _Operations(folder, at, fault)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
                code = main([str(word) for word in words])
        finally:
            if operations is not None:
                operations.active = False
            # Whatever happens here, such as a parent that is gone: a child must not go on with the tests.
            with contextlib.suppress(OSError):
                os.write(theirs, f"{operations.count if operations else 0}\n{err.getvalue()}".encode())
            os._exit(code)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        text = file.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count, _, err_text = text.partition("\n")
    return code, int(count or 0), err_text


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Put the fakes in place and import all that their commands use; give photos and a finished run of them."""
    replaced = fakes.install()
    try:
        data, run = fakes.make_data(folder / "photos"), folder / "finished"
        _import_what_commands_use(folder, data)
        gc.collect()
        gc.freeze()
        code, _, err = in_child(("run", data, "-o", run, "-q", "--device", "cpu"))
        assert code == 0, err
        yield data, run
    finally:
        gc.unfreeze()
        fakes.uninstall(replaced)


def _import_what_commands_use(folder: Path, data: Path) -> None:
    """Run the commands in a process that tells which modules it has then, and import these here."""
    told, run = folder / "modules.txt", folder / "imported"
    child = os.fork()
    if child == 0:
        try:
            from smerf.cli.main import main

            with contextlib.redirect_stdout(io.StringIO()):
                main(["run", str(data), "-o", str(run), "-q", "--device", "cpu"])
                main(["bake", str(run), "--max-mb", "5", "-q"])
                main(["eval", str(run), "-q"])
            told.write_text("\n".join(sys.modules))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for name in told.read_text().split("\n"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def whole(run: Path) -> dict[str, str]:
    """Return a hash of every finished result that a reader finds, by stage."""
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
