"""A mesh under rays: Embree finds the faces, and what is transparent lets the ray through.

Rays are in a space of the scene's own: around the middle of the content, whose radius is 1, with the axes of the
file. Letters: R rays, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smerf.capture.synth.tracer import Caster
from smerf.teacher.mesh.nearness import near_cells
from smerf.teacher.mesh.shading import Shading
from smerf.teacher.mesh.surface import Surface

__all__ = ["MAX_LAYERS", "MeshHits", "MeshScene"]

MAX_LAYERS = 8
"""Surfaces that a ray may cross with some of its light stopped by each."""
_MAX_PASSES = 32
_STEP = 1e-4
_DARK = 1e-3


@dataclass(frozen=True)
class MeshHits:
    """What rays met, nearest first.

    ``distances`` and ``weights`` (R, L), 0 where there is no layer; ``colour`` (R, 3) over black.
    """

    distances: np.ndarray
    weights: np.ndarray
    colour: np.ndarray


class MeshScene:
    """The faces of a surface, moved and scaled so that the content is of radius 1 around the origin."""

    def __init__(
        self, surface: Surface, centre: np.ndarray, radius: float, light: np.ndarray | None = None
    ) -> None:
        """Build the search structure; ``light`` is the direction that a plain light comes from, if one falls on it.

        Raises:
            MissingPartError: If embreex is not installed.
        """
        self.centre, self.radius = centre, radius
        self._vertices = (surface.vertices - centre) / radius
        self._planes = _planes(self._vertices, surface.faces)
        self._caster = Caster(self._vertices.astype(np.float32), surface.faces)
        self.near_cells = near_cells(self._vertices, surface.faces)
        self._shading = Shading(surface, 1.0 / radius, light)

    def first(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the distance (R,) of the first face ahead, infinite where there is none, and whether it is met from
        behind.
        """
        hits = self._caster.cast(origins.astype(np.float32), directions.astype(np.float32))
        is_back = np.zeros(len(origins), bool)
        met = hits.face >= 0
        is_back[met] = np.einsum("ni,ni->n", self._planes[hits.face[met], :3], directions[met]) > 0.0
        return hits.distance.astype(np.float64), is_back

    def look(self, origins: np.ndarray, directions: np.ndarray, pitch: np.ndarray, near: float) -> MeshHits:
        """Follow rays until nothing of their light is left.

        Args:
            origins: (R, 3) float64.
            directions: Unit vectors (R, 3) float64.
            pitch: Width of a pixel at unit distance (R,).
            near: Distance at which the rays begin.
        """
        count = len(origins)
        layers = 1 if self._shading.is_opaque else MAX_LAYERS
        distances, weights = np.zeros((count, layers)), np.zeros((count, layers), np.float32)
        colour, light = np.zeros((count, 3), np.float32), np.ones(count, np.float32)
        used, start, going = np.zeros(count, np.int64), np.full(count, near), np.arange(count)
        for _ in range(1 if self._shading.is_opaque else _MAX_PASSES):
            eyes, towards = origins, directions
            if len(going) < count:
                eyes, towards = origins.take(going, 0), directions.take(going, 0)
            eyes = eyes + start[going, None] * towards
            hits = self._caster.cast(eyes.astype(np.float32), towards.astype(np.float32))
            met = np.flatnonzero(hits.face >= 0)
            going, towards = going[met], towards.take(met, 0)
            if not len(going):
                break
            face, rough = hits.face[met], start[going] + hits.distance[met]
            plane = self._planes.take(face, 0)
            t = _distances(plane, origins.take(going, 0), towards, rough)
            place = np.stack([hits.u[met], hits.v[met]], 1)
            rgba = self._shading.shade(face, place, pitch[going] * t, towards, plane[:, :3])
            weight = light[going] * rgba[:, 3]
            kept = weight > 0.0
            rows = going[kept]
            distances[rows, used[rows]], weights[rows, used[rows]] = t[kept], weight[kept]
            colour[rows] += weight[kept, None] * rgba[kept, :3]
            used[rows] += 1
            light[going] -= weight
            start[going] = np.maximum(t, start[going]) + _STEP
            going = going[(light[going] > _DARK) & (used[going] < layers)]
        return MeshHits(distances, weights, colour)


def _planes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals and distances from the origin (F, 4) of the planes of faces."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    return np.concatenate([normal, np.einsum("ni,ni->n", normal, a)[:, None]], 1)


def _distances(
    planes: np.ndarray, origins: np.ndarray, directions: np.ndarray, rough: np.ndarray
) -> np.ndarray:
    """Return where rays cross planes; Embree's single-precision distance where they graze them."""
    slope = np.einsum("ni,ni->n", planes[:, :3], directions)
    height = planes[:, 3] - np.einsum("ni,ni->n", planes[:, :3], origins)
    exact = height / np.where(np.abs(slope) > 1e-6, slope, 1.0)
    is_good = (np.abs(slope) > 1e-6) & (np.abs(exact - rough) < 1e-3 * (1.0 + rough))
    return np.where(is_good, exact, rough)
