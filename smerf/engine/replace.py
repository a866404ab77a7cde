"""Replace a whole folder at once: a reader sees the old one or the new one, never half of either.

The new folder is filled in ``.smerf-XXXXXXXX/new`` beside its target, on the same file system, synced to the disk
and renamed. The hidden folder holds a marker, which names the target, and a lock, which the system frees when the
writer dies: the next writer of that target removes what a killed one left, and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smerf.engine.files import sync_folder
from smerf.engine.lock import FolderLock
from smerf.errors import SmerfError

__all__ = ["replace_folder"]

_PREFIX = ".smerf-"
_MARKER = "replace.json"
_FORMAT = "smerf-replace"


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``target`` at the end of the block.

    If the block raises, ``target`` stays as it was and the new folder is removed. Whether ``target`` may be
    replaced at all is for the caller to check. Folders above it are made.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(target)
    work = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=target.parent))
    lock = FolderLock(work / "lock")
    try:
        # The marker comes last: who finds it finds the lock taken.
        lock.acquire()
        (work / _MARKER).write_text(json.dumps({"format": _FORMAT, "target": target.name}), encoding="utf-8")
        new = work / "new"
        new.mkdir()
        yield new
        _sync(new)
        _swap(new, target, work / "old")
    finally:
        for part in ("new", "old"):
            shutil.rmtree(work / part, ignore_errors=True)
        lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _swap(new: Path, target: Path, old: Path) -> None:
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    sync_folder(target.parent)


def _sync(folder: Path) -> None:
    """Bring a folder's files and their names to the disk."""
    for path, _, names in os.walk(folder):
        for name in names:
            with open(Path(path) / name, "rb+") as file:
                os.fsync(file.fileno())
        sync_folder(Path(path))


def _clear_leftovers(target: Path) -> None:
    """Remove what killed writers of ``target`` left, and bring back a folder that one had just moved away."""
    for work in target.parent.glob(f"{_PREFIX}*"):
        if work.is_symlink() or not _is_ours(work / _MARKER, target.name):
            continue
        lock = FolderLock(work / "lock")
        try:
            lock.acquire()
        except SmerfError:
            continue
        try:
            if (work / "old").is_dir() and not target.exists():
                (work / "old").rename(target)
        finally:
            lock.release()
        shutil.rmtree(work, ignore_errors=True)


def _is_ours(marker: Path, name: str) -> bool:
    try:
        return json.loads(marker.read_text(encoding="utf-8")) == {"format": _FORMAT, "target": name}
    except (OSError, ValueError):
        return False
