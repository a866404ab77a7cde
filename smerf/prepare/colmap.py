"""Jobs for COLMAP in a child process, and what its database says."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import smerf
from smerf.errors import MissingPartError, SmerfError

__all__ = [
    "Pair",
    "call",
    "count_rows",
    "database_folder",
    "read_descriptors",
    "read_keypoint_counts",
    "read_pairs",
    "require_pycolmap",
]

_log = logging.getLogger("smerf")
_POLL_SECONDS = 0.25
_PAIR_BASE = 2147483647  # COLMAP: pair_id = smaller image id * base + larger image id
_LOG_LINES = 3
_OUT_OF_MEMORY = ("bad_alloc", "MemoryError", "Cannot allocate memory", "failed to map segment")


@dataclass(frozen=True)
class Pair:
    """Two photos after verification: their common matches and COLMAP's kind of two-view geometry.

    ``parallax`` is how far their homography is from that of a rotation, ``None`` without one: a rotation between any
    intrinsics K is K R K^-1, whose eigenvalues have modulus 1; this is the largest log of their moduli.
    """

    first: str
    second: str
    inliers: int
    config: int
    parallax: float | None = None

    @property
    def is_flat(self) -> bool:
        """Return whether one homography explains the pair (planar, panoramic, or either)."""
        return self.config in (4, 5, 6)


def require_pycolmap() -> None:
    """Raise ``MissingPartError`` where pycolmap is not installed."""
    if importlib.util.find_spec("pycolmap") is None:
        raise MissingPartError(
            "finding the poses of photos needs pycolmap, which is not installed: pip install 'smerf[prepare]'"
        )


def call(
    name: str, arguments: dict[str, Any], log: Path, threads: int, poll: Callable[[], None] = lambda: None
) -> None:
    """Do a job of ``smerf.prepare.worker`` and wait for it.

    ``poll`` is called four times a second; if it raises, the job is killed. Native output goes to ``log``.

    Raises:
        MemoryError, OSError, SmerfError: If memory or the disk ends, or the job fails otherwise.
    """
    root = str(Path(smerf.__file__).resolve().parent.parent)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    }
    if threads > 0:
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    began = log.stat().st_size if log.is_file() else 0
    with log.open("ab") as output:
        # In a session of its own it does not see the terminal's Ctrl-C, which is for this process to handle.
        process = subprocess.Popen(
            [sys.executable, "-m", "smerf.prepare.worker"],
            stdin=subprocess.PIPE, stdout=output, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it ended at once, and the log says why
                process.stdin.write(json.dumps({"call": name} | arguments).encode() + b"\n")
                process.stdin.flush()
            while True:
                try:
                    process.wait(_POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    poll()
        finally:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
    if process.returncode:
        raise _failure(name, process.returncode, log, began)


def _failure(name: str, code: int, log: Path, began: int) -> Exception:
    """Return what went wrong in a job, from its part of the log."""
    said = log.read_bytes()[began:].decode("utf-8", errors="replace")
    if "disk is full" in said or "No space left" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log.parent))
    if code == -signal.SIGKILL or any(word in said for word in _OUT_OF_MEMORY):
        return MemoryError(f"COLMAP ({name})")
    lines = [line for line in said.strip().splitlines() if not line.lstrip().startswith(("@", "***"))]
    return SmerfError(f"COLMAP failed ({name}, exit {code}): {' | '.join(lines[-_LOG_LINES:])}; see {log}")


def database_folder(folder: Path) -> Path:
    """Return where databases can be: ``work`` in a folder, or a place on the local disk where files cannot be locked.

    Network disks without locks hold no SQLite database; the same folder always gets the same place.
    """
    probe = folder / "probe.db"
    try:
        with closing(sqlite3.connect(probe)) as connection, connection:
            connection.execute("CREATE TABLE probe (value)")
    except sqlite3.Error as error:
        if "full" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(probe)) from error
        digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        local = Path(tempfile.gettempdir()) / f"smerf-prepare-{digest}"
        _log.warning("%s: this file system cannot hold a database (%s); unfinished work is kept in %s",
                     folder, error, local)  # fmt: skip
        return local
    finally:
        probe.unlink(missing_ok=True)
    return folder / "work"


def count_rows(database: Path, table: str) -> int:
    """Return how many rows a table of a COLMAP database has; 0 while there is none."""
    if not database.is_file():
        return 0
    try:
        with closing(_connect(database)) as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    except sqlite3.Error:  # being made, or locked for a moment
        return 0


def read_keypoint_counts(database: Path) -> dict[str, int]:
    """Return the number of keypoints by photo."""
    with closing(_connect(database)) as connection:
        query = "SELECT name, rows FROM images JOIN keypoints USING (image_id)"
        return {name: int(rows) for name, rows in connection.execute(query)}


def read_descriptors(database: Path, largest: int) -> dict[str, np.ndarray]:
    """Return for each photo its descriptors of largest scale, unit length, float32 (at most ``largest``, 128)."""
    query = (
        "SELECT name, k.rows, k.cols, k.data, d.cols, d.data FROM images JOIN keypoints k USING (image_id) "
        "JOIN descriptors d USING (image_id)"
    )
    found = {}
    with closing(_connect(database)) as connection:
        for name, rows, columns, points, width, data in connection.execute(query):
            if not rows:
                found[name] = np.zeros((0, 128), np.float32)
                continue
            keypoints = np.frombuffer(points, np.float32).reshape(rows, columns)
            scale = np.hypot(keypoints[:, 2], keypoints[:, 4])
            order = np.argsort(-scale, kind="stable")[:largest]
            chosen = np.frombuffer(data, np.uint8).reshape(rows, width)[order].astype(np.float32)
            found[name] = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-9)
    return found


def read_pairs(database: Path) -> list[Pair]:
    """Return all pairs that were matched, in order of their ids; unverified ones have 0 inliers."""
    with closing(_connect(database)) as connection:
        names = dict(connection.execute("SELECT image_id, name FROM images"))
        rows = connection.execute(
            "SELECT pair_id, rows, config, H FROM two_view_geometries ORDER BY pair_id"
        ).fetchall()
    return [
        Pair(names[key // _PAIR_BASE], names[key % _PAIR_BASE], int(count), int(config), _parallax(matrix))
        for key, count, config, matrix in rows
    ]


def _parallax(stored: bytes | None) -> float | None:
    if stored is None or len(stored) != 72:
        return None
    matrix = np.frombuffer(stored, np.float64).reshape(3, 3)
    size = abs(np.linalg.det(matrix))
    if size < 1e-12:
        return None
    moduli = np.abs(np.linalg.eigvals(matrix)) / np.cbrt(size)
    return float(np.abs(np.log(np.maximum(moduli, 1e-12))).max())


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)
