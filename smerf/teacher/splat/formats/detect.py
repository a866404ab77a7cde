"""Which format a file has, by its content."""

from __future__ import annotations

from pathlib import Path

from smerf.errors import InvalidDataError, UsageError
from smerf.teacher.splat.cloud import SplatCloud
from smerf.teacher.splat.formats.antimatter import looks_like_splat, read_antimatter
from smerf.teacher.splat.formats.gltf import EXTENSION, read_gltf
from smerf.teacher.splat.formats.ply import parse_ply, read_ply
from smerf.teacher.splat.formats.sog import FolderMembers, ZipMembers, read_sog, read_streamed_sog
from smerf.teacher.splat.formats.spz import MAGIC, read_spz

__all__ = ["KNOWN_SPLATS", "read_splats", "splat_kind"]

_HEAD = 131_072
_KSPLAT_BYTES = 4096
KNOWN_SPLATS = "PLY, compressed PLY, SPZ, SOG, .splat, glTF with " + EXTENSION


def splat_kind(path: Path) -> str | None:
    """Return the format of a splat file or folder, or None if it is none; a damaged one has its format still."""
    if path.is_dir():
        names = {name: (path / name).is_file() for name in ("lod-meta.json", "meta.json")}
        if names["lod-meta.json"]:
            return "streamed SOG"
        return (
            "SOG" if names["meta.json"] and b'"means"' in (path / "meta.json").read_bytes()[:_HEAD] else None
        )
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if head[:4] in (b"ply\n", b"ply\r"):
        return "PLY" if _is_splat_ply(path, head) else None
    if head[:4] == MAGIC or head[:2] == b"\x1f\x8b":
        return "SPZ"
    if head[:4] == b"PK\x03\x04":
        return "SOG"
    if head[:4] == b"glTF" or head.lstrip()[:1] == b"{":
        return _json_kind(path, head)
    if path.suffix.lower() == ".splat" or (path.suffix == "" and looks_like_splat(head)):
        return ".splat"
    is_ksplat = head[:1] == b"\0" and len(head) >= _KSPLAT_BYTES and head[1] >= 1
    return "KSPLAT" if path.suffix.lower() == ".ksplat" and is_ksplat else None


def _is_splat_ply(path: Path, head: bytes) -> bool:
    try:
        header = parse_ply(str(path), head)
    except InvalidDataError:
        # Reading says what is wrong with it; faces make it a mesh.
        return b"\nelement face " not in head
    return header.is_splat or "face" not in header.elements


def _json_kind(path: Path, head: bytes) -> str | None:
    data = head if head[:4] == b"glTF" else path.read_bytes()
    if EXTENSION.encode() in data:
        return "glTF"
    if b'"lodLevels"' in data and b'"filenames"' in data:
        return "streamed SOG"
    return "SOG" if b'"means"' in data else None


def read_splats(path: Path) -> SplatCloud:
    """Read a splat file.

    Raises:
        UsageError: If nothing is there.
        InvalidDataError: If it is damaged or of no format that is known.
        MissingPartError: If a format needs a package that is not installed.
    """
    if not path.exists():
        raise UsageError(f"{path}: does not exist")
    kind, name = splat_kind(path), str(path)
    if kind == "KSPLAT":
        raise InvalidDataError(f"{path}: KSPLAT is not read; convert it to PLY or SPZ")
    if kind == "streamed SOG":
        return read_streamed_sog(path if path.is_dir() else path.parent)
    if kind == "SOG" and (path.is_dir() or path.suffix == ".json"):
        return read_sog(FolderMembers(path if path.is_dir() else path.parent))
    if kind is None:
        raise InvalidDataError(f"{path}: is no splat file that we know ({KNOWN_SPLATS})")
    data = path.read_bytes()
    if kind == "SOG":
        return read_sog(ZipMembers(name, data))
    if kind == "glTF":
        return read_gltf(path, data)
    return {"PLY": read_ply, "SPZ": read_spz, ".splat": read_antimatter}[kind](name, data)
