"""Which format a file has, by its content."""

from __future__ import annotations

from pathlib import Path

from smerf.errors import InvalidDataError, UsageError
from smerf.teacher.splat.cloud import SplatCloud
from smerf.teacher.splat.formats.ply import parse_ply, read_ply

__all__ = ["read_splats", "splat_kind"]


def splat_kind(path: Path) -> str | None:
    """Return the format of a splat file or folder, or None if it is none."""
    with open(path, "rb") as file:
        head = file.read(131_072)
    if head[:4] in (b"ply\n", b"ply\r"):
        return "PLY" if parse_ply(str(path), head).is_splat else None
    return None


def read_splats(path: Path) -> SplatCloud:
    """Read a splat file.

    Raises:
        UsageError: If nothing is there.
        InvalidDataError: If it is damaged or of no format that is known.
    """
    if not path.exists():
        raise UsageError(f"{path}: does not exist")
    if splat_kind(path) is None:
        raise InvalidDataError(f"{path}: is no splat file that we know (PLY)")
    return read_ply(str(path), path.read_bytes())
