"""The teacher that answers rays from Gaussian splats, and renders their images."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from smerf.capture.types import Camera, Similarity
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays, Spacing
from smerf.kernels import native
from smerf.kernels.splat_tree import SplatCamera, SplatTree, build_splat_tree
from smerf.kernels.splats import splat_image, splat_rays
from smerf.teacher.model import TeacherAnswer
from smerf.teacher.placed import PlacedTeacher, Placement
from smerf.teacher.splat.cloud import SplatCloud, covariances_of, with_halves

__all__ = ["SplatLook", "SplatTeacher", "render_splats", "splat_tree"]

_MIN_HALF = 1.0 / 1024.0
_CHUNK = 16384


@dataclass(frozen=True)
class SplatLook:
    """How splats are seen: the pixel that they were trained with decides how wide they are."""

    focal: float
    """Focal length in pixels of the photos that they were trained on; the low-pass filter is a fraction of a pixel."""
    near: float
    """Distance in front of the eye, in the units of the file, within which centres don't count."""
    mode: str = "default"
    """``default``, ``antialiased``, or ``3d``: without the filter."""

    def dilation(self, cloud: SplatCloud) -> float:
        """Return the variance of the filter at unit distance."""
        return 0.0 if self.mode == "3d" else cloud.dilation / self.focal**2


def splat_tree(
    cloud: SplatCloud, look: SplatLook, training_from_source: Similarity | None = None
) -> SplatTree:
    """Return splats as kernels read them, in training space if a similarity is given."""
    similarity = training_from_source or Similarity()
    rotation, scale = similarity.rotation, similarity.scale
    means = scale * cloud.means.astype(np.float64) @ rotation.T + similarity.translation
    tree = build_splat_tree(
        torch.from_numpy(means.astype(np.float32)),
        torch.from_numpy(covariances_of(cloud, rotation, scale)),
        torch.from_numpy(cloud.opacities),
        torch.from_numpy(with_halves(cloud).sh),
    )
    return replace(
        tree,
        near=look.near * scale,
        dilation=look.dilation(cloud),
        antialiased=look.mode == "antialiased",
        sh_rotation=tuple(float(x) for x in rotation.T.ravel()),
    )


def render_splats(tree: SplatTree, camera: Camera, focal: float) -> Tensor:
    """Render splats from a camera: (H, W, 4), colour over black and the light that passes them.

    Pinhole images are rasterised at about the focal length ``focal`` and averaged, since the filter is as wide as
    the pixels that the splats were trained with. Other cameras are rendered ray by ray.
    """
    intrinsics = camera.intrinsics
    if intrinsics.model != "PINHOLE" and any(intrinsics.distortion):
        return _render_rays(tree, camera)
    factor = max(1, round(focal / max(intrinsics.fx, intrinsics.fy)))
    right, up, back = camera.world_from_cam[:, :3].T
    view = SplatCamera(
        rotation=tuple(float(x) for row in (right, -up, -back) for x in row),
        eye=tuple(float(x) for x in camera.world_from_cam[:, 3]),
        fx=factor * intrinsics.fx,
        fy=factor * intrinsics.fy,
        cx=factor * intrinsics.cx,
        cy=factor * intrinsics.cy,
        width=factor * intrinsics.width,
        height=factor * intrinsics.height,
        dilation=tree.dilation * (factor * intrinsics.fx) * (factor * intrinsics.fy),
    )
    image = splat_image(tree, view)
    return image if factor == 1 else avg_pool2d(image.permute(2, 0, 1)[None], factor)[0].permute(1, 2, 0)


def _render_rays(tree: SplatTree, camera: Camera) -> Tensor:
    rays, parts = camera_rays(camera), []
    for start in range(0, len(rays), _CHUNK):
        some = rays[start : start + _CHUNK]
        spacing = Spacing(tree.near, float("inf"), linear=False)
        _, weights, colour = splat_rays(tree, some.origins, some.directions, spacing, 1, _MIN_HALF)
        parts.append(torch.cat([colour, 1.0 - weights.sum(-1, keepdim=True)], -1))
    return torch.cat(parts).view(camera.intrinsics.height, camera.intrinsics.width, 4)


class SplatTeacher(PlacedTeacher):
    """Splats in training space as a teacher."""

    def __init__(self, cloud: SplatCloud, look: SplatLook, placement: Placement) -> None:
        """Build the tree of a cloud in the space of its file."""
        super().__init__(placement)
        self.look, self.tree = look, splat_tree(cloud, look, self.place)

    def to(self, device: torch.device | str) -> SplatTeacher:
        """Move the splats to a device, if its kernels are built: without them the CPU answers."""
        moved = self.tree.to(device)
        if native.backend(moved.leaves, "smerf_splat_rays") is not None:
            self.tree = moved
        return self

    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays where the splats are; the answer comes back to the rays' device."""
        device, here = rays.origins.device, rays.to(self.tree.leaves.device)
        answer = splat_rays(self.tree, here.origins, here.directions, self.spacing, self.samples, _MIN_HALF)
        return TeacherAnswer(*(part.to(device) for part in answer))

    def render_image(self, camera: Camera) -> np.ndarray:
        """Render a camera before the background: (H, W, 3) float32 in [0, 1]."""
        image = render_splats(self.tree, camera, self.look.focal)
        return (image[..., :3] + image[..., 3:] * self.background).clamp(0.0, 1.0).cpu().numpy()
