"""One writer a run: a lock file that the system frees when its owner dies."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import IO

from smerf.errors import SmerfError

__all__ = ["FolderLock"]


class FolderLock:
    """An exclusive lock on ``path``, which names its owner.

    The kernel holds the lock, so one left behind by a process that died is free at once, and a recycled
    process number cannot keep it.
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
        except OSError:
            owner = _read_owner(file)
            file.close()
            raise SmerfError(
                f"{self.path.parent}: process {owner.get('pid', '?')} on {owner.get('host', 'this machine')} "
                "is writing this run; wait for it, stop it, or give another folder"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Free the lock; without effect if it is not held."""
        if self._file is not None:
            # The file stays, empty: deleting it would let two processes lock two files of one name.
            self._file.truncate(0)
            self._file.close()
            self._file = None


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
