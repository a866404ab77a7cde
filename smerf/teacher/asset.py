"""A file that is a teacher as it stands: what is known of it, what it shows, and the teacher that it makes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from smerf.capture.types import Camera
from smerf.errors import InvalidDataError, UsageError
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.mesh.asset import MeshAsset
from smerf.teacher.mesh.formats import KNOWN_MESHES, mesh_kind, read_mesh
from smerf.teacher.model import Teacher
from smerf.teacher.placed import Placement
from smerf.teacher.splat.asset import SplatAsset
from smerf.teacher.splat.cameras import Content, Probe
from smerf.teacher.splat.formats import KNOWN_SPLATS, read_splats, splat_kind

__all__ = ["Asset", "file_digest", "is_asset", "open_asset"]

_BLOCK = 1 << 20


class Asset(Protocol):
    """A splat or mesh file, in its own space."""

    path: Path
    kind: str
    focal: float
    has_sides: bool
    """Whether ``probe`` doesn't meet what it comes to from behind."""

    @property
    def up_from(self) -> str:
        """Return what the up direction was decided from."""

    def facts(self) -> dict[str, Any]:
        """Return what is known of it, as JSON values."""

    def content(self) -> Content:
        """Return where something is, and which way is up."""

    def probe(self) -> Probe:
        """Return a function from rays to what they meet."""

    def near(self) -> float:
        """Return the distance in front of an eye within which nothing counts."""

    def render(self, camera: Camera) -> np.ndarray:
        """Render a camera in the file's space: (H, W, 4) float32, colour over black and opacity."""

    def teacher(self, placement: Placement) -> Teacher:
        """Return the teacher in training space."""


def is_asset(path: Path) -> bool:
    """Return whether a path holds splats or a mesh; damaged ones count."""
    if not path.exists():
        return False
    return splat_kind(path) is not None or mesh_kind(path) is not None


def open_asset(path: Path, options: AssetOptions | None = None) -> Asset:
    """Read a file.

    Raises:
        UsageError: If nothing is there.
        InvalidDataError: If it is damaged, or neither splats nor a mesh.
        MissingPartError: If its format needs a package that is not installed.
    """
    if not path.exists():
        raise UsageError(f"{path}: does not exist")
    if splat_kind(path) is not None:
        return SplatAsset(path, read_splats(path), options or AssetOptions())
    if mesh_kind(path) is not None:
        return MeshAsset(path, read_mesh(path), options or AssetOptions())
    raise InvalidDataError(
        f"{path}: is neither splats ({KNOWN_SPLATS}) nor a mesh ({KNOWN_MESHES}) that we know"
    )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files by name."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    for each in files:
        if each != path:
            digest.update(each.relative_to(path).as_posix().encode() + b"\0")
        with open(each, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
