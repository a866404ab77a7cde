"""Write small files so that a reader sees the old content or the new one, never half of either."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from smerf.errors import InvalidDataError

__all__ = ["publish", "read_json", "sync_folder", "temporary_name", "write_bytes", "write_json", "write_text"]

TEMPORARY_PREFIX = ".tmp-"


def temporary_name(path: Path) -> Path:
    """Return the name beside ``path`` under which this process prepares it."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")


def publish(temporary: Path, path: Path) -> None:
    """Sync ``temporary`` to the disk and rename it to ``path``, replacing what was there."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content`` atomically; the folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(content)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Replace the file ``path`` by UTF-8 text atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    """Replace the file ``path`` by indented JSON atomically.

    Raises:
        ValueError: If ``content`` holds NaN or an infinity, which JSON has no word for.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InvalidDataError: If the file is missing, unreadable or not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InvalidDataError(f"{path}: is not valid JSON ({error})") from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system can: a rename survives a power cut only then."""
    # Windows cannot open folders; SMB and some FUSE file systems refuse to sync them.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
