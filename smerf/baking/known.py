"""The known region while baking: which cells photos see, by the exact depth of the field from their cameras."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d, maximum_filter

from smerf.capture.downscale import scale_intrinsics
from smerf.capture.rays import pixel_directions
from smerf.capture.types import Camera, Frame
from smerf.render.camera import to_submodel
from smerf.render.march import render_depths
from smerf.scene.region import contract, uncontract
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedScene, SceneParams

__all__ = ["KnownCells", "Sightings", "photo_rays", "region_cells", "standing_reach"]

_CELLS, _ENOUGH = (32, 128), 64
"""Fewest and most cells per axis, and how many are enough where planes are not large: things hide in larger cells."""
_TEXELS = (8, 16)
"""Texels of a cell's edge where there are no more cells than enough, and where there are."""
_MAX_PHOTOS = 200
_BEHIND = 2
"""Half cells behind a surface that its photo still counts for: samples of the surface lie in both."""
_AGREE = ((24, 3), (8, 2))
"""From so many photos on, so many have to look at a place before it is known."""
_MANY = 8
"""From so many photos on, two have to look at a place before anything is kept there."""
_SPENT = 0.05
"""Visibility at which a photo's ray has seen all that it will: soft surfaces and haze let half of it farther."""
_FAR = 1e4


def region_cells(params: SceneParams) -> int:
    """Return the edge of the known region's grid."""
    few, many = (params.triplane_resolution // texels for texels in _TEXELS)
    return min(_CELLS[1], max(_CELLS[0], min(few, _ENOUGH), many))


@dataclass(frozen=True)
class PhotoRays:
    """A photo's rays: ``centre`` (3,), unit ``directions`` (R, 3), world ``depths`` (R,), infinite where nothing is."""

    centre: np.ndarray
    directions: np.ndarray
    depths: np.ndarray


def photo_rays(scene: BakedScene, frames: Sequence[Frame]) -> list[PhotoRays]:
    """Return the rays of (at most 200) photos, rendered with as many rays a row as the region has cells."""
    frames = frames[:: -(-len(frames) // _MAX_PHOTOS)] if frames else []
    # Submodel by submodel: only one of them needs to be in memory.
    order = sorted(frames, key=lambda frame: scene.params.choose_submodel(frame.camera.world_from_cam[:, 3]))
    return [_rays_of(scene, frame.camera) for frame in order]


def _rays_of(scene: BakedScene, camera: Camera) -> PhotoRays:
    size = camera.intrinsics
    factor = max(48, region_cells(scene.params)) / max(size.width, size.height)
    width, height = max(2, round(size.width * factor)), max(2, round(size.height * factor))
    scale = (width / size.width, height / size.height)
    small = Camera(scale_intrinsics(size, width, height, scale), camera.world_from_cam)
    half, whole = render_depths(scene, small, (0.5, _SPENT)).reshape(-1, 2).T
    # A ray that is never spent ends at its surface too, unless it meets none.
    depths = np.where(whole > 0.0, whole, half).astype(np.float64)
    directions = pixel_directions(small).astype(np.float64)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    pose = camera.world_from_cam
    return PhotoRays(pose[:, 3], directions, np.where(depths > 0.0, depths, np.inf))


@dataclass
class Sightings:
    """How photos see the cells of one submodel: (N, N, N) each, on viewer axes.

    ``count`` photos look into a cell, the sum of their unit directions is ``toward`` (N, N, N, 3); ``trained`` counts
    those for which the cell lies behind their near plane.
    """

    count: np.ndarray
    toward: np.ndarray
    trained: np.ndarray


def _steps(cells: int) -> np.ndarray:
    """Return distances from a ray's origin, in submodel units, whose contracted distance is at most half a cell."""
    half, steps = 2.0 / cells, [0.0]
    # Origins lie within two units of the centre; beyond, contracted speed falls with the square of the distance.
    while steps[-1] < 4.0 * cells:
        steps.append(steps[-1] + half * max(1.0, steps[-1] - 2.0) ** 2)
    return np.array([*steps, _FAR])


def count_sightings(params: SceneParams, k: int, photos: Sequence[PhotoRays], near: float) -> Sightings:
    """Count the photos that look into each cell of submodel k."""
    cells = region_cells(params)
    steps = _steps(cells)
    count, trained = np.zeros((2, cells**3), np.int32)
    toward = np.zeros((cells**3, 3))
    centres = _cell_centres(params, k, cells)
    for photo in photos:
        seen, behind_near = _cells_of(params, k, photo, steps, near, cells)
        trained += behind_near
        which = np.flatnonzero(seen)
        count[which] += 1
        away = centres[which] - photo.centre
        toward[which] += away / np.maximum(np.linalg.norm(away, axis=-1), 1e-9)[:, None]
    cube = (cells,) * 3
    return Sightings(
        count.reshape(cube), (toward @ VIEWER_FROM_TRAINING.T).reshape(*cube, 3), trained.reshape(cube)
    )


def _cells_of(
    params: SceneParams, k: int, photo: PhotoRays, steps: np.ndarray, near: float, cells: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which cells a photo's rays pass until they are spent, and which of them behind its near plane."""
    origin, directions = to_submodel(params, k, photo.centre[None], photo.directions)
    scale = params.submodel_scale
    last = np.searchsorted(steps, photo.depths * scale) + _BEHIND
    first = int(np.searchsorted(steps, near * scale))
    rays, index = np.nonzero(np.arange(len(steps)) <= last[:, None])
    points = origin[0] + directions[rays] * (steps[index] / scale)[:, None]
    cell = ((contract(points) + 2.0) * (0.25 * cells)).astype(np.int64).clip(0, cells - 1)
    number = (cell[:, 0] * cells + cell[:, 1]) * cells + cell[:, 2]
    seen, behind_near = np.zeros((2, cells**3), bool)
    seen[number] = True
    behind_near[number[index >= first]] = True
    return seen, behind_near


def _cell_centres(params: SceneParams, k: int, cells: int) -> np.ndarray:
    """Return the cells' centres (N^3, 3) in training space."""
    axis = (np.arange(cells) + 0.5) * (4.0 / cells) - 2.0
    y = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    local = uncontract(y) / params.submodel_scale
    return np.asarray(local @ VIEWER_FROM_TRAINING.T + params.submodel_centre(k))


class KnownCells:
    """The known region of every submodel, made when first asked for and kept packed.

    Args:
        params: The scene's.
        photos: From ``photo_rays``.
        near: Near plane that the photos were trained with, world units.
    """

    def __init__(self, params: SceneParams, photos: Sequence[PhotoRays], near: float) -> None:
        self.params, self.photos, self.near = params, photos, near
        self.needed = next((needed for many, needed in _AGREE if len(photos) >= many), 1)
        """Photos that a place needs to be known."""
        self._confirming = 2 if len(photos) >= _MANY else 1
        self._packed: dict[int, bytes] = {}

    def _grids(self, k: int) -> np.ndarray:
        cells = region_cells(self.params)
        if k not in self._packed:
            sightings = count_sightings(self.params, k, self.photos, self.near)
            grids = np.empty((cells, cells, cells, 6), np.uint8)
            grids[..., :4] = known_grid(sightings, self.needed)
            grids[..., 4] = maximum_filter(sightings.trained, 3, mode="nearest") >= self._confirming
            grids[..., 5] = np.minimum(sightings.count, 255)
            self._packed[k] = zlib.compress(grids.tobytes(), 1)
        return np.frombuffer(zlib.decompress(self._packed[k]), np.uint8).reshape(cells, cells, cells, 6)

    def known(self, k: int) -> np.ndarray:
        """Return submodel k's ``known_grid`` (N, N, N, 4) uint8."""
        return np.ascontiguousarray(self._grids(k)[..., :4])

    def confirmed(self, k: int) -> np.ndarray:
        """Return which cells (N, N, N) bool enough photos see, or one beside them."""
        return self._grids(k)[..., 4].astype(bool)

    def counts(self, k: int) -> np.ndarray:
        """Return how many photos look into each cell (N, N, N) uint8."""
        return np.ascontiguousarray(self._grids(k)[..., 5])


def standing_reach(centres: np.ndarray) -> float:
    """Return how far around a photo's camera (N, 3) a visitor may stand: about the distance to the next one."""
    if len(centres) < 2:
        return 0.1
    gaps = np.linalg.norm(centres[:, None] - centres, axis=-1)
    np.fill_diagonal(gaps, np.inf)
    return float(np.clip(1.5 * np.median(gaps.min(0)), 0.05, 0.25))


def known_grid(sightings: Sightings, needed: int) -> np.ndarray:
    """Turn sightings into the bytes of ``known_grid`` (N, N, N, 4): smooth, and whole up to the seen cells' borders.

    Only the end of space is not: a cell there is many degrees of sky, and what is drawn beside those that photos saw is
    nothing that they support.
    """
    share = np.clip((sightings.count / needed - 0.25) / 0.75, 0.0, 1.0)
    inside = np.zeros(share.shape, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    support = np.where(inside, _smooth(maximum_filter(share, 3, mode="nearest")), _smooth(share))
    weight = _smooth(_smooth(sightings.count.astype(np.float64)))
    toward = _smooth(_smooth(sightings.toward)) / np.maximum(weight, 1e-9)[..., None]
    grid = np.empty((*support.shape, 4), np.uint8)
    grid[..., :3] = np.rint(np.clip(0.5 * (toward + 1.0), 0.0, 1.0) * 255.0)
    grid[..., 3] = np.rint(support * 255.0)
    return grid


def _smooth(values: np.ndarray) -> np.ndarray:
    for axis in range(3):
        values = convolve1d(values, (0.25, 0.5, 0.25), axis, mode="nearest")
    return values
