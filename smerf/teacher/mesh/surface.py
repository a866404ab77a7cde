"""A textured mesh in one form, whatever file it came from, and the checks that every file has to pass.

Letters: V vertices, F faces, M materials.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from smerf.errors import InvalidDataError
from smerf.teacher.mesh.texture import Texture

__all__ = ["MAX_FACES", "Material", "Surface", "checked_surface", "joined", "points_on"]

MAX_FACES = 30_000_000
_MAX_COORDINATE = 1e9
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What colours a surface: a texture times a factor times the vertices' colours, and what it emits."""

    texture: Texture | None = None
    factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    emissive_texture: Texture | None = None
    alpha: str = "opaque"
    """``opaque``, ``mask`` (cut out where alpha is below ``cutoff``) or ``blend``."""
    cutoff: float = 0.5
    is_linear: bool = False
    """Whether factors and vertices' colours are linear light, as glTF has them, not sRGB-encoded."""


@dataclass(frozen=True)
class Surface:
    """Triangles in the axes and units of their file.

    ``vertices`` (V, 3) float64, ``faces`` (F, 3) int32, ``face_materials`` (F,) int32, ``uv`` (V, 2) float32 with v
    downwards, ``colours`` (V, 4) float32.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_materials: np.ndarray
    uv: np.ndarray
    colours: np.ndarray
    materials: tuple[Material, ...]
    kind: str
    up: tuple[float, float, float]
    """The direction that its format calls up."""
    has_colour: bool = True
    """Whether the file says anything about colours."""
    comments: tuple[str, ...] = ()
    """What the file says of itself: program, author, licence."""
    removed: int = 0
    """Faces that were left out: without area, or not numbers."""

    def corners(self, faces: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the three corners (F, 3) of faces."""
        first, second, third = (self.vertices[self.faces[faces, k]] for k in range(3))
        return first, second, third


def joined(parts: list[Surface]) -> Surface:
    """Return one surface of several; kind, up and comments are those of the first."""
    vertices = np.cumsum([0, *(len(part.vertices) for part in parts)])
    materials = np.cumsum([0, *(len(part.materials) for part in parts)])
    return replace(
        parts[0],
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + first for part, first in zip(parts, vertices)]).astype(np.int32),
        face_materials=np.concatenate(
            [part.face_materials + first for part, first in zip(parts, materials)]
        ).astype(np.int32),
        uv=np.concatenate([part.uv for part in parts]),
        colours=np.concatenate([part.colours for part in parts]),
        materials=tuple(material for part in parts for material in part.materials),
        has_colour=any(part.has_colour for part in parts),
    )


def checked_surface(name: str, surface: Surface) -> Surface:
    """Return a surface without damaged faces, which one warning counts, and without those that have no area.

    Raises:
        InvalidDataError: If no face is left, more than half are damaged, or values are out of range.
    """
    count = len(surface.faces)
    if not count:
        raise InvalidDataError(f"{name}: holds no triangles")
    if count > MAX_FACES:
        raise InvalidDataError(
            f"{name}: has {count} triangles, at most {MAX_FACES} are possible; simplify it"
        )
    inside = ((surface.faces >= 0) & (surface.faces < len(surface.vertices))).all(1)
    if not inside.all():
        raise InvalidDataError(
            f"{name}: {int((~inside).sum())} of {count} triangles have corners that are not there; export it again"
        )
    is_finite = np.isfinite(surface.vertices).all(1)
    if (np.abs(surface.vertices[is_finite]) > _MAX_COORDINATE).any():
        raise InvalidDataError(f"{name}: has a coordinate beyond {_MAX_COORDINATE:g}; export it again")
    good = is_finite[surface.faces].all(1)
    if good.sum() < 0.5 * count:
        raise InvalidDataError(
            f"{name}: {int((~good).sum())} of {count} triangles are not numbers; export it again"
        )
    if not good.all():
        _log.warning("%s: left out %d of %d triangles that are not numbers", name, int((~good).sum()), count)
    used = surface.faces[good]
    a, b, c = (surface.vertices[used[:, k]] for k in range(3))
    good[good] = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0.0
    if not good.any():
        raise InvalidDataError(f"{name}: its triangles have no area")
    # Damaged colours and places in a texture cost a wrong texel, not the scene.
    uv, colours = (
        np.nan_to_num(each, nan=0.0, posinf=0.0, neginf=0.0) for each in (surface.uv, surface.colours)
    )
    return replace(
        surface,
        faces=np.ascontiguousarray(surface.faces[good]),
        face_materials=surface.face_materials[good],
        uv=uv,
        colours=np.clip(colours, 0.0, 1.0),
        removed=int((~good).sum()),
    )


def points_on(surface: Surface, count: int, seed: int = 0) -> np.ndarray:
    """Return random points (count, 3) spread evenly over the area."""
    a, b, c = surface.corners()
    total = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    random = np.random.default_rng(seed)
    chosen = np.searchsorted(total, random.random(count) * total[-1]).clip(0, len(total) - 1)
    u, v = random.random((2, count, 1))
    is_outside = u + v > 1.0
    u, v = np.where(is_outside, 1.0 - u, u), np.where(is_outside, 1.0 - v, v)
    return np.asarray(a[chosen] + u * (b[chosen] - a[chosen]) + v * (c[chosen] - a[chosen]))
