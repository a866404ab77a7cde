"""Which photo shows which sparse points: a NumPy archive beside ``transforms.json``.

It holds ``names`` (N,), the names of frames, and T sightings: ``photo`` (T,) counts in ``names`` and ``point`` (T,) in
the sparse points, both int32.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.readers.ply import read_ply_points
from smerf.capture.readers.source import Source
from smerf.errors import InvalidDataError

__all__ = ["read_sightings", "with_points", "write_sightings"]

_FAULTS = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    EOFError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise about damaged archives."""


def with_points(source: Source, points: Any, sightings: Any) -> Source:
    """Return a capture with the sparse points of the PLY file that it names, if that is there, and who sees which."""
    path = source.root / str(points or "")
    if not path.is_file():
        return source
    source = replace(source, points=read_ply_points(path))
    path = source.root / str(sightings or "")
    if not path.is_file():
        return source
    shown = read_sightings(path, len(source.points))
    return replace(
        source, frames=tuple(replace(frame, sees=shown.get(frame.name)) for frame in source.frames)
    )


def read_sightings(path: Path, points: int) -> dict[str, np.ndarray]:
    """Return for each photo, by name, which of so many sparse points it shows (S,).

    Raises:
        InvalidDataError: If the file is not such an archive, or of other points.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            names, photo, point = (stored[key] for key in ("names", "photo", "point"))
        names, photo, point = names.astype(str), photo.astype(np.int64), point.astype(np.int64)
        order = np.argsort(photo, kind="stable")
        counts = np.bincount(photo, minlength=len(names))
    except _FAULTS as error:
        raise _fault(path, f"cannot be read ({error})") from error
    if len(photo) != len(point) or len(counts) != len(names):
        raise _fault(path, "contradicts itself")
    if len(point) and not 0 <= point.min() <= point.max() < points:
        raise _fault(path, f"names other points than the {points} beside it")
    shown = np.split(point[order].astype(np.int32), np.cumsum(counts)[:-1])
    return dict(zip(names.tolist(), shown))


def write_sightings(path: Path, shown: dict[str, np.ndarray]) -> None:
    """Write for each photo, by name, which sparse points it shows: aside, then renamed."""
    photo = np.repeat(np.arange(len(shown), dtype=np.int32), [len(each) for each in shown.values()])
    point = np.concatenate([np.zeros(0, np.int32), *shown.values()]).astype(np.int32)
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        np.savez_compressed(file, names=np.array(list(shown), dtype=str), photo=photo, point=point)
    os.replace(aside, path)


def _fault(path: Path, what: str) -> InvalidDataError:
    return InvalidDataError(f"{path}: {what}; prepare the capture again or remove sightings_path")
