"""Vertex positions of a PLY file: all that a capture needs of its sparse points."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smerf.errors import InvalidDataError

__all__ = ["read_ply_points", "write_ply_points"]

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_ply_points(path: Path) -> np.ndarray:
    """Return the vertex positions of a PLY file (text or binary), shape (N, 3), float64.

    Raises:
        InvalidDataError: If the file is not a PLY, ends early, or does not begin with vertices that have x,
            y, z.
    """

    def fault(what: str) -> InvalidDataError:
        return InvalidDataError(f"{path}: {what}; export the points again or remove ply_file_path")

    data = path.read_bytes()
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise fault("not a PLY file")
    body = data.find(b"\n", end) + 1
    form, count, fields, element = "", 0, [], 0
    try:
        for words in (line.split() for line in data[:end].decode("ascii", errors="replace").splitlines()):
            if words[:1] == ["format"]:
                form = words[1]
            elif words[:1] == ["element"]:
                element += 1
                if element == 1:
                    if words[1] != "vertex":
                        raise fault("its first element is not vertex")
                    count = int(words[2])
            elif words[:1] == ["property"] and element == 1:
                if words[1] not in _TYPES:
                    raise fault(f"its vertex property type {words[1]} is not supported")
                fields.append((words[2], _TYPES[words[1]]))
    except (ValueError, IndexError) as error:
        raise fault("its header is damaged") from error
    if count < 0:
        raise fault(f"it promises {count} vertices")
    names = [name for name, _ in fields]
    if not {"x", "y", "z"} <= set(names):
        raise fault("its vertices have no x, y, z")
    try:
        if form == "ascii":
            rows = data[body:].decode("ascii").splitlines()[:count]
            table = np.array([row.split()[: len(names)] for row in rows], np.float64).reshape(-1, len(names))
            points = table[:, [names.index(axis) for axis in "xyz"]]
        else:
            order = "<" if form == "binary_little_endian" else ">"
            layout = np.dtype([(name, order + kind) for name, kind in fields])
            vertices = np.frombuffer(data, layout, count=count, offset=body)
            points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    except (ValueError, OverflowError) as error:
        raise fault("its vertex data is cut short or damaged") from error
    if len(points) != count:
        raise fault(f"it promises {count} vertices and holds {len(points)}")
    return points[np.all(np.isfinite(points), axis=1)]


def write_ply_points(path: Path, points: np.ndarray) -> None:
    """Write positions (N, 3) as a binary PLY of doubles."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    path.write_bytes(header.encode("ascii") + np.ascontiguousarray(points, "<f8").tobytes())
