"""A baked scene in memory: shared parameters, one submodel's arrays, and the scene that loads them lazily.

Two frames appear. *Training axes* are right-handed with z up and hold every camera centre in [-1, 1]^3;
*viewer axes* are those of all arrays, ``x_v = -x_t, y_v = z_t, z_v = y_t`` (its own inverse). Letters: T
triplane resolution, S sparse grid resolution, B data block size, R edge of the submodel grid, K submodels
that exist, G edge of the network lattice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from smerf.scene.manifest import Manifest

__all__ = [
    "CHANNELS",
    "VIEWER_FROM_TRAINING",
    "BakedScene",
    "BakedSubmodel",
    "SceneParams",
    "lattice_mlp_at",
]

CHANNELS = ("density", "r", "g", "b", "f0", "f1", "f2", "f3")
"""Channel order of the atlas and the planes; f3 of the atlas is the gate."""

VIEWER_FROM_TRAINING = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
"""Rotation from training to viewer axes; symmetric and its own inverse."""


@dataclass(frozen=True)
class SceneParams:
    """What all submodels of a scene share; names follow ``scene_params.json``.

    ``params_to_sm[k]`` is the linear region index ``(i_x R + i_y) R + i_z`` (training axes) of submodel k.
    ``submodel_scale`` takes world units, relative to the region's centre, to the input of the contraction.
    ``background`` is RGB in [0, 1], or ``None`` for the format's default, grey 0.5.
    """

    triplane_resolution: int
    sparse_grid_resolution: int
    data_block_size: int = 8
    range_features: tuple[float, float] = (-7.0, 7.0)
    range_density: tuple[float, float] = (-14.0, 14.0)
    submodel_grid_resolution: int = 1
    submodel_scale: float = 1.0
    params_to_sm: tuple[int, ...] = (0,)
    activation: str = "elu"
    feature_gating: bool = True
    deferred_rendering_mode: str = "snerg"
    merge_features_combine_op: str = "coarse_sum"
    default_exposure: float | None = None
    background: tuple[float, float, float] | None = None

    @property
    def triplane_voxel_size(self) -> float:
        """Edge of a texel in contracted units; also the step of the ray march."""
        return 4.0 / self.triplane_resolution

    @property
    def sparse_grid_voxel_size(self) -> float:
        """Edge of a sparse voxel in contracted units."""
        return 4.0 / self.sparse_grid_resolution

    @property
    def has_coarse(self) -> bool:
        """Whether the sparse grid alone is blended too (14 channels instead of 7)."""
        return self.merge_features_combine_op == "coarse_sum"

    @property
    def num_mlp_inputs(self) -> int:
        """Width of the network's input: 41 with coarse channels, else 34."""
        return 41 if self.has_coarse else 34

    @property
    def sm_to_params(self) -> tuple[int, ...]:
        """For every region its parameter index k, or -1 where no submodel exists."""
        table = [-1] * self.submodel_grid_resolution**3
        for k, region in enumerate(self.params_to_sm):
            table[region] = k
        return tuple(table)

    def submodel_centre(self, k: int) -> np.ndarray:
        """Return the centre (3,) of submodel k's region, float64, training axes."""
        edge = self.submodel_grid_resolution
        cell = np.array(np.unravel_index(self.params_to_sm[k], (edge, edge, edge)), np.float64)
        return (cell + 0.5) * (2.0 / edge) - 1.0

    def region_of(self, position: np.ndarray) -> int:
        """Return the linear index of the region that holds ``position`` (3,), training axes.

        Points outside [-1, 1]^3 belong to the nearest cell.
        """
        edge = self.submodel_grid_resolution
        cell = np.floor((np.asarray(position, np.float64) + 1.0) / 2.0 * edge)
        i, j, k = np.clip(cell, 0, edge - 1).astype(int)
        return int((i * edge + j) * edge + k)

    def choose_submodel(self, position: np.ndarray) -> int:
        """Return the parameter index k of the submodel that renders a camera at ``position`` (3,), training axes.

        Where the camera's own region has no submodel, the one with the nearest centre renders it.
        """
        k = self.sm_to_params[self.region_of(position)]
        if k >= 0:
            return k
        centres = np.stack([self.submodel_centre(i) for i in range(len(self.params_to_sm))])
        return int(np.linalg.norm(centres - np.asarray(position, np.float64), axis=-1).argmin())


@dataclass
class BakedSubmodel:
    """The arrays of one submodel: uint8, viewer axes, C-contiguous, indexed [x, y, z, channel].

    index: linear region index.
    atlas: (W, H, D, 8), channels as in ``CHANNELS``; edges are multiples of B + 1.
    block_indices: (S/B, S/B, S/B, 3), atlas slot of each macroblock, 255 = empty.
    planes: (3, T, T, 8); plane 0 is indexed [y, z], plane 1 [x, z], plane 2 [x, y].
    occupancy: block size F in texels -> (N, N, N), eight children a byte, bit 4dx + 2dy + dz; F = 8 always.
    distance: F -> (N, N, N), cells that may be skipped; F = 8 always.
    known: (C, C, C, 4), the known region (``smerf.scene.region``), or ``None``.
    solid: (N, N, N), what stops a visitor, packed like occupancy[8], or ``None``.
    object_ids: (W, H, D), the object of each voxel of the atlas (``smerf.scene.objects``), or ``None``.
    """

    index: int
    atlas: np.ndarray
    block_indices: np.ndarray
    planes: np.ndarray
    occupancy: dict[int, np.ndarray]
    distance: dict[int, np.ndarray]
    known: np.ndarray | None = None
    solid: np.ndarray | None = None
    object_ids: np.ndarray | None = None


@dataclass
class BakedScene:
    """A scene whose submodels are read when first asked for and dropped least recently used first.

    ``mlp`` holds ``ResampleDense_{0,1,2}/kernel`` (K, G, G, G, in, out) and ``/bias`` (K, G, G, G, out),
    float32; the lattice axes are training z, y, x. ``root`` is ``None`` for a scene that lives in memory
    only.
    """

    params: SceneParams
    mlp: dict[str, np.ndarray]
    manifest: Manifest
    load: Callable[[int], BakedSubmodel]
    root: Path | None = None
    cache_size: int = 3
    _cache: OrderedDict[int, BakedSubmodel] = field(default_factory=OrderedDict, repr=False)

    def submodel(self, k: int) -> BakedSubmodel:
        """Return submodel k (position in ``params.params_to_sm``), reading it if needed.

        Raises InvalidDataError naming the file that is missing or malformed, IndexError for a k that does
        not exist.
        """
        if not 0 <= k < len(self.params.params_to_sm):
            raise IndexError(f"submodel {k}: this scene has {len(self.params.params_to_sm)}")
        if k not in self._cache:
            # Room is made first: no more than the cache holds are in memory at any time.
            while len(self._cache) >= max(1, self.cache_size):
                self._cache.popitem(last=False)
            self._cache[k] = self.load(k)
        self._cache.move_to_end(k)
        return self._cache[k]


def lattice_mlp_at(
    params: SceneParams, mlp: dict[str, np.ndarray], k: int, position: np.ndarray
) -> dict[str, np.ndarray]:
    """Interpolate submodel k's network at a camera centre (3,), training axes.

    Trilinear between lattice vertices, which sit at the centres of G^3 cells of the region; constant outside
    the outermost vertices. Returns the six arrays without their lattice axes, float32 (SMERF, section 4.4).
    """
    grid = mlp["ResampleDense_0/kernel"].shape[1]
    local = (np.asarray(position, np.float64) - params.submodel_centre(k)) * params.submodel_grid_resolution
    where = (local + 1.0) / 2.0 * grid - 0.5
    low = np.floor(where)
    frac = where - low
    result = {name: np.zeros(value.shape[4:], np.float64) for name, value in mlp.items()}
    for corner in np.ndindex(2, 2, 2):
        offset = np.array(corner)
        weight = float(np.prod(np.where(offset == 1, frac, 1.0 - frac)))
        x, y, z = np.clip(low + offset, 0, grid - 1).astype(int)
        for name, value in mlp.items():
            result[name] += weight * value[k, z, y, x]
    return {name: value.astype(np.float32) for name, value in result.items()}
