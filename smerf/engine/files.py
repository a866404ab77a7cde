"""Write small files so that a reader sees the old content or the new one, never half of either."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from smerf.errors import InvalidDataError

__all__ = [
    "TEMPORARY_PREFIX",
    "data_folder",
    "publish",
    "read_json",
    "sync_folder",
    "temporary_name",
    "write_bytes",
    "write_json",
    "write_text",
    "writing",
]

TEMPORARY_PREFIX = ".tmp-"
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
_log = logging.getLogger(__name__)
_warned: set[str | None] = set()


def data_folder() -> Path:
    """Return the folder of the files that come with the package: ``smerf.data``, or the checkout's ``data``."""
    try:
        installed = Path(str(resources.files("smerf.data")))
    except ModuleNotFoundError:
        # A checkout that is not installed keeps it beside the package.
        return Path(__file__).resolve().parents[2] / "data"
    return installed


def temporary_name(path: Path) -> Path:
    """Return the name beside ``path`` under which this process prepares it."""
    return path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; at the end of the block it takes the place of ``path``.

    The folder is made if missing. If the block raises, ``path`` stays as it was and nothing else stays.

    Raises:
        OSError: If it cannot be written; it always names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        publish(temporary, path)
    except OSError as error:
        # A full disk is found while writing, where the system names no file.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync ``temporary`` to the disk and rename it to ``path``, replacing what was there.

    The file gets the mode of any new file, whoever wrote it: safetensors makes its own readable by the owner alone.
    """
    with open(temporary, "rb+") as file:
        _sync(file.fileno(), path)
    _apply_umask(temporary)
    os.replace(temporary, path)
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content`` atomically; the folder is made if missing."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


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
    except (ValueError, RecursionError) as error:
        raise InvalidDataError(f"{path}: is not valid JSON ({error})") from error


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system can: a rename survives a power cut only then."""
    # Windows cannot open folders.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def _sync(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Network shares and some FUSE file systems cannot: the result is as good, a power cut may lose it.
        if error.errno not in _CANNOT_SYNC:
            raise
        if error.strerror not in _warned:
            _warned.add(error.strerror)
            _log.warning(
                "%s: this file system cannot sync (%s); a power cut may lose the last files",
                path,
                error.strerror,
            )


def _apply_umask(path: Path) -> None:
    if os.name == "nt":
        return
    # The only way to read the mask is to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    mode = 0o666 & ~mask
    try:
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except OSError as error:
        _log.debug("%s: keeps its mode (%s)", path, error.strerror)
