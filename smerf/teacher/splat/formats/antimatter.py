"""Splats as ``.splat`` (antimatter15): 32 bytes each, without a header."""

from __future__ import annotations

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.splat.cloud import SH_ZERO, SplatCloud, checked_cloud

__all__ = ["looks_like_splat", "read_antimatter"]

_ROW = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)])
_MAX_COORDINATE = 1e6
_MAX_SCALE = 1e4


def looks_like_splat(head: bytes) -> bool:
    """Return whether the first rows hold values that splats have."""
    rows = np.frombuffer(head[: len(head) // _ROW.itemsize * _ROW.itemsize], _ROW)[:256]
    if not len(rows):
        return False
    with np.errstate(invalid="ignore"):
        fine = (np.abs(rows["mean"]) < _MAX_COORDINATE).all(1)
        fine &= ((rows["scale"] > 0.0) & (rows["scale"] < _MAX_SCALE)).all(1)
    return bool(fine.mean() > 0.5)


def read_antimatter(name: str, data: bytes) -> SplatCloud:
    """Read a ``.splat`` file.

    Raises:
        InvalidDataError: If its size or its values are not those of one.
    """
    if len(data) % _ROW.itemsize:
        raise InvalidDataError(
            f"{name}: has {len(data)} bytes, which is no multiple of {_ROW.itemsize}: is this a .splat file?"
        )
    rows = np.frombuffer(data, _ROW)
    if len(rows) and not looks_like_splat(data):
        raise InvalidDataError(f"{name}: holds places or scales out of range: is this a .splat file?")
    colour = rows["colour"].astype(np.float32) / 255.0
    cloud = SplatCloud(
        rows["mean"].astype(np.float32),
        rows["scale"].astype(np.float32),
        (rows["rotation"].astype(np.float32) - 128.0) / 128.0,
        colour[:, 3],
        ((colour[:, :3] - 0.5) / SH_ZERO)[:, None],
        ".splat",
    )
    return checked_cloud(name, cloud)
