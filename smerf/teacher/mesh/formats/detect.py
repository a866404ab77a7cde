"""Which mesh format a file is of."""

from __future__ import annotations

import re
from pathlib import Path

from smerf.errors import InvalidDataError
from smerf.teacher.mesh.formats.general import read_general_mesh
from smerf.teacher.mesh.formats.gltf import read_gltf_mesh
from smerf.teacher.mesh.surface import Surface

__all__ = ["KNOWN_MESHES", "mesh_kind", "read_mesh"]

_HEAD = 131_072
_STL_HEAD, _STL_ROW = 84, 50
KNOWN_MESHES = "glTF, OBJ, PLY, STL, OFF"
_OBJ_LINE = re.compile(rb"^(v|vn|vt|f|o|g|usemtl|mtllib)[ \t]+\S", re.MULTILINE)


def mesh_kind(path: Path) -> str | None:
    """Return the format of a mesh file, or None if it is none; splats are asked for first."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    start = head.lstrip()[:16]
    if head[:4] == b"glTF":
        return "glTF"
    if start[:1] == b"{":
        data = path.read_bytes()
        return "glTF" if b'"asset"' in data and b'"meshes"' in data and b'"accessors"' in data else None
    if head[:4] in (b"ply\n", b"ply\r"):
        return "PLY" if re.search(rb"^element\s+face\s", head, re.MULTILINE) else None
    if re.match(rb"(ST|C|N|4|n)*OFF\s", start):
        return "OFF"
    suffix = path.suffix.lower()
    if suffix == ".stl" or (start[:6] == b"solid " and b"facet" in head) or _is_binary_stl(path, head):
        return "STL"
    is_text = b"\0" not in head and len(_OBJ_LINE.findall(head)) >= 4
    return "OBJ" if suffix == ".obj" or (suffix == "" and is_text) else None


def _is_binary_stl(path: Path, head: bytes) -> bool:
    if len(head) < _STL_HEAD + _STL_ROW:
        return False
    count = int.from_bytes(head[80:84], "little")
    return count > 0 and path.stat().st_size == _STL_HEAD + _STL_ROW * count


def read_mesh(path: Path) -> Surface:
    """Read a mesh file.

    Raises:
        InvalidDataError: If it is damaged or of no format that is known.
    """
    kind = mesh_kind(path)
    if kind is None:
        raise InvalidDataError(f"{path}: is no mesh file that we know ({KNOWN_MESHES})")
    return read_gltf_mesh(path, path.read_bytes()) if kind == "glTF" else read_general_mesh(path, kind)
