"""A splat file as an asset: cleaned, with its up direction, its probe and its teacher."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smerf.capture.types import Camera
from smerf.fields.rays import Spacing
from smerf.kernels.splat_tree import SplatTree
from smerf.kernels.splats import splat_rays
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.found_cameras import found_focal
from smerf.teacher.placed import Placement
from smerf.teacher.splat.cameras import Content, Probe, content_of
from smerf.teacher.splat.cloud import SplatCloud, rotations_of, with_halves
from smerf.teacher.splat.teacher import SplatLook, SplatTeacher, render_splats, splat_tree
from smerf.teacher.splat.upright import AS_USUAL, Upright, find_up

__all__ = ["SplatAsset", "cleaned"]

_FOCAL = 1200.0
_NEAR = 0.02
_MAX_LOSS = 0.05
_FLAT, _OPAQUE = 0.35, 0.3
_REACH = 2.0
"""Deviations that a splat reaches to either side."""
_VEIL_SIZE, _VEIL_OPACITY = 0.5, 0.2
_FLOATER_OPACITY, _FLOATER_GAP = 0.5, 6.0
_log = logging.getLogger(__name__)


class SplatAsset:
    """Splats of a file, in its own space: a ``smerf.teacher.asset.Asset``."""

    has_sides = False

    def __init__(self, path: Path, cloud: SplatCloud, options: AssetOptions) -> None:
        """Take a cloud as read from ``path``, with what the user says about it."""
        self.path, self.kind, self.options = path, cloud.kind, options
        self._splats, self._damaged = len(cloud), cloud.removed
        self.focal = options.focal or found_focal(path) or _FOCAL
        self.mode = options.mode or ("antialiased" if cloud.antialiased else "default")
        cloud = with_halves(cloud)
        self.cloud, self.left_out = (cloud, {}) if options.keep_all else cleaned(cloud)

    def facts(self) -> dict[str, Any]:
        """Return what is known of it, as JSON values."""
        content = self.content()
        return {
            "kind": self.kind,
            "splats": self._splats,
            "sh_degree": self.cloud.degree,
            "mode": self.mode,
            "focal": self.focal,
            "up": [round(float(x), 4) for x in content.rotation[2]],
            "up_from": f"{self.up_from}; --up overrules it",
            "radius": content.radius,
            "left_out": {"damaged": self._damaged} | self.left_out,
            "comments": list(self.cloud.comments),
        }

    def content(self) -> Content:
        """Return where something is, and which way is up."""
        return self._content

    @cached_property
    def _content(self) -> Content:
        cloud = self.cloud
        normals = None if self.options.up else _flat_normals(cloud)
        sizes = _REACH * np.sqrt(np.sort(cloud.scales, 1)[:, 1:].prod(1))
        return content_of(cloud.means, cloud.opacities, self._upright.direction, normals, sizes)

    @cached_property
    def _upright(self) -> Upright:
        cloud, usual = self.cloud, np.array(self.cloud.up)
        if self.options.up:
            return Upright(np.array(self.options.up), "as asked for")
        if cloud.is_up_stated:
            return Upright(usual, "as the file or its format says")
        flat = _flat_normals(cloud)
        if flat is None:
            return Upright(usual, AS_USUAL)
        return find_up(cloud.means[_are_flat(cloud)], *flat, usual)

    @property
    def up_from(self) -> str:
        """Return what the up direction was decided from."""
        return self._upright.why

    def near(self) -> float:
        """Return the distance in front of an eye within which nothing counts."""
        return _NEAR * self._content.radius

    @property
    def look(self) -> SplatLook:
        """Return how the splats are seen."""
        return SplatLook(self.focal, self.near(), self.mode)

    @cached_property
    def _tree(self) -> SplatTree:
        return splat_tree(self.cloud, self.look)

    def probe(self) -> Probe:
        """Return a function from rays to what they meet."""
        spacing = Spacing(self.near(), 10.0 * self._content.radius, linear=True)

        def look(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            starts, ways = (torch.from_numpy(np.ascontiguousarray(each)) for each in (origins, directions))
            edges, weights, _ = splat_rays(self._tree, starts, ways, spacing, 32, 1.0 / 1024.0)
            opacity = weights.sum(-1)
            middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
            return opacity.numpy(), ((weights * middle).sum(-1) / opacity.clamp_min(1e-6)).numpy()

        return look

    def render(self, camera: Camera) -> np.ndarray:
        """Render a camera in the file's space: (H, W, 4) float32, colour over black and opacity."""
        image = render_splats(self._tree, camera, self.focal)
        image[..., 3] = 1.0 - image[..., 3]
        return image.numpy()

    def teacher(self, placement: Placement) -> SplatTeacher:
        """Return the teacher in training space."""
        return SplatTeacher(self.cloud, self.look, placement)


def _are_flat(cloud: SplatCloud) -> np.ndarray:
    ordered = np.sort(cloud.scales, 1)
    return np.asarray((ordered[:, 0] < _FLAT * ordered[:, 1]) & (cloud.opacities > _OPAQUE))


def _flat_normals(cloud: SplatCloud) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the shortest axes (M, 3) of flat opaque splats, and their opacity times area (M,)."""
    flat = _are_flat(cloud)
    if not flat.any():
        return None
    ordered = np.sort(cloud.scales, 1)
    turned = rotations_of(cloud.quaternions[flat])
    shortest = np.argmin(cloud.scales[flat], 1)
    normals = np.take_along_axis(turned, shortest[:, None, None], 2)[..., 0]
    return normals, cloud.opacities[flat] * ordered[flat, 1] * ordered[flat, 2]


def cleaned(cloud: SplatCloud) -> tuple[SplatCloud, dict[str, int]]:
    """Return a cloud without veils and floaters, and how many there were.

    Veils are large and faint; floaters are alone outside the box of 99 % of the opacity. If both together hold more
    than 5 % of the opacity, they are kept.
    """
    content = content_of(cloud.means, cloud.opacities, np.array(cloud.up))
    size = cloud.scales.max(1)
    veils = (size > _VEIL_SIZE * content.radius) & (cloud.opacities < _VEIL_OPACITY)
    turned = cloud.means @ content.rotation.T
    outside = ((turned < content.low) | (turned > content.high)).any(1)
    floaters = outside & ~veils & (cloud.opacities < _FLOATER_OPACITY)
    index = np.flatnonzero(floaters)
    if len(index):
        from scipy.spatial import KDTree

        distance = KDTree(cloud.means).query(cloud.means[index], k=2)[0][:, 1]
        floaters[index] = distance > _FLOATER_GAP * size[index]
    drop = veils | floaters
    counts = {"veils": int(veils.sum()), "floaters": int(floaters.sum())}
    if cloud.opacities[drop].sum() > _MAX_LOSS * cloud.opacities.sum() or drop.all():
        _log.warning("kept %d veils and %d floaters: they hold much of the scene", *counts.values())
        return cloud, {"veils": 0, "floaters": 0}
    return (cloud[~drop] if drop.any() else cloud), counts
