"""One writer a run: a lock file that the system frees when its owner dies."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from pathlib import Path
from typing import IO

from smerf.errors import SmerfError

__all__ = ["FolderLock"]

_CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_log = logging.getLogger(__name__)


class FolderLock:
    """An exclusive lock on ``path``, which names its owner.

    The kernel holds the lock, so one left behind by a process that died is free at once, and a recycled
    process number cannot keep it. Where the file system has no locks, a warning says so and nothing is held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            SmerfError: If another process holds it.
        """
        file = open(self.path, "a+", encoding="utf-8")
        try:
            _lock(file)
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                owner = _read_owner(file)
                file.close()
                raise SmerfError(
                    f"{self.path.parent}: process {owner.get('pid', '?')} on {owner.get('host', 'this machine')} "
                    "is writing this run; wait for it, stop it, or give another folder"
                ) from None
            _log.warning(
                "%s: this file system has no locks (%s); let one process at a time write here",
                self.path.parent, error.strerror,
            )  # fmt: skip
        self._file = file
        self._write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")

    def release(self) -> None:
        """Free the lock; without effect if it is not held."""
        if self._file is not None:
            # The file stays, empty: deleting it would let two processes lock two files of one name.
            self._write("")
            self._file.close()
            self._file = None

    def _write(self, text: str) -> None:
        # The name of the owner is a courtesy: a full disk must not cost more than that.
        assert self._file is not None
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), text.encode())


def _lock(file: IO[str]) -> None:
    """Take the kernel's lock on an open file, or raise ``OSError``."""
    if os.name == "nt":
        import msvcrt

        # One byte far past the end, so that others can still read who holds the lock.
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read_owner(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        owner = json.loads(file.read() or "{}")
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}
