"""Depth of a baked scene: where along a ray half of the light is gone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.kernels.reference.contraction import uncontract
from smerf.render.camera import near_rays, to_submodel
from smerf.render.reference import Marcher
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams
from smerf.scene.view import MarchOptions, choose_near

__all__ = ["render_depth"]

_CHUNK = 1 << 16
_HALF = 0.5


class _DepthMarcher(Marcher):
    """A march that ends where the visibility falls through one half."""

    def __init__(
        self, submodel: BakedSubmodel, params: SceneParams, origins: Tensor, directions: Tensor
    ) -> None:
        super().__init__(submodel, params, MarchOptions(), origins, directions, 1.0)
        self.depth = torch.zeros(len(directions))

    def _along(self, rays: Tensor, s: Tensor) -> Tensor:
        """Return the ray parameter t of contracted arc lengths s of rays."""
        z = self.start[rays] + s[:, None] * self.along[rays]
        offset, direction = uncontract(z) - self.origin[rays], self.direction[rays]
        return (offset * direction).sum(-1) / direction.square().sum(-1)

    def _blend(self, rays: Tensor, stride: Tensor) -> None:
        if not len(rays):
            return
        first, before = self.s[rays], self.visibility[rays]
        last = torch.minimum(first + stride[rays], self.leave[rays])
        super()._blend(rays, stride)
        after = self.visibility[rays]
        has_met = (before > _HALF) & (after <= _HALF)
        met = rays[has_met]
        if not len(met):
            return
        # Within a step the density is constant, so the logarithm of the visibility is linear.
        share = torch.log(before[has_met] / _HALF) / torch.log(
            before[has_met] / after[has_met].clamp_min(1e-12)
        )
        near, far = self._along(met, first[has_met]), self._along(met, last[has_met])
        self.depth[self.ray[met]] = torch.lerp(near, far, share)
        self.is_done[met] = True


@torch.no_grad()
def render_depth(scene: BakedScene, camera: Camera, near: float | None = None) -> np.ndarray:
    """Return the depth of every pixel of a camera.

    Args:
        scene: The scene.
        camera: In training axes.
        near: Near plane in world units; the scene's own if not given.

    Returns:
        The t of ``smerf.capture.rays.pixel_rays`` (along the optical axis; for fisheye cameras the distance), float32
        (H, W), 0 where a ray meets nothing.
    """
    near = choose_near(scene, near)
    centre, directions = near_rays(camera, near)
    k = scene.params.choose_submodel(centre[0])
    origin, rays = to_submodel(scene.params, k, centre, directions)
    submodel, size = scene.submodel(k), camera.intrinsics
    parts = []
    for chunk in torch.from_numpy(rays).split(_CHUNK):
        start = torch.from_numpy(origin).expand(len(chunk), 3)
        marcher = _DepthMarcher(submodel, scene.params, start, chunk)
        marcher.run()
        parts.append(marcher.depth)
    depth = torch.cat(parts).numpy() * np.float32(near)
    return depth.reshape(size.height, size.width)
