"""Cameras of object scenes as batched tensors, and their rays.

Poses are those of ``smerf.capture.types.Camera``: ``world_from_cam`` (..., 3, 4), OpenGL axes (x right, y up, z
backward), with world up z. ``fov_x`` (...) is the horizontal field of view in radians; pixels are square and the
optical axis meets the middle of the image. Sets of scenes and the published model use x right, y down, z forward:
``to_cv`` and ``from_cv`` are the only places that turn one convention into the other.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from smerf.capture.types import Camera, Intrinsics

__all__ = [
    "from_cv",
    "look_at",
    "make_camera",
    "mean_directions",
    "patch_directions",
    "pixel_directions",
    "pose_and_fov",
    "resize_camera",
    "stack_cameras",
    "to_cv",
    "to_reference_frame",
    "view_rays",
]


def to_cv(world_from_cam: Tensor) -> tuple[Tensor, Tensor]:
    """Return centres (..., 3) and rotations (..., 3, 3) whose rows are the axes x right, y down, z forward."""
    right, up, back = world_from_cam[..., :3].unbind(-1)
    return world_from_cam[..., 3], torch.stack([right, -up, -back], -2)


def from_cv(centre: Tensor, rotation: Tensor) -> Tensor:
    """Return the poses (..., 3, 4) of what ``to_cv`` returns."""
    right, down, forward = rotation.unbind(-2)
    return torch.stack([right, -down, -forward, centre], -1)


def make_camera(world_from_cam: Tensor, fov_x: float | Tensor, size: tuple[int, int]) -> Camera:
    """Return the camera of a pose (3, 4) with images of ``size`` (height, width)."""
    height, width = size
    focal = 0.5 * width / math.tan(0.5 * float(fov_x))
    intrinsics = Intrinsics("PINHOLE", width, height, focal, focal, 0.5 * width, 0.5 * height)
    return Camera(intrinsics, world_from_cam.double().cpu().numpy())


def resize_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """Return the camera with images of ``size`` (height, width) and the same horizontal field of view."""
    pose, fov_x = pose_and_fov(camera)
    return make_camera(pose.double(), fov_x, size)


def pose_and_fov(camera: Camera) -> tuple[Tensor, float]:
    """Return the pose (3, 4) float32 and the horizontal field of view in radians of a camera."""
    intrinsics = camera.intrinsics
    fov_x = 2.0 * math.atan(0.5 * intrinsics.width / intrinsics.fx)
    return torch.from_numpy(camera.world_from_cam).float(), fov_x


def stack_cameras(cameras: tuple[Camera, ...]) -> tuple[Tensor, Tensor]:
    """Return the poses (V, 3, 4) and horizontal fields of view (V,) of cameras, float32."""
    poses, angles = zip(*map(pose_and_fov, cameras))
    return torch.stack(poses), torch.tensor(angles, dtype=torch.float32)


def look_at(centre: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the pose (..., 3, 4) of a level camera at ``centre`` (..., 3) that looks at ``target``.

    World up is z; ``target`` is the origin if not given.

    Raises:
        ValueError: If a camera looks straight up or down.
    """
    forward = torch.nn.functional.normalize((0.0 if target is None else target) - centre, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=centre.dtype, device=centre.device).expand_as(forward)
    right = torch.linalg.cross(forward, up)
    if bool((right.norm(dim=-1) < 1e-6).any()):
        raise ValueError("centre: a level camera cannot look straight up or down")
    right = torch.nn.functional.normalize(right, dim=-1)
    return from_cv(centre, torch.stack([right, torch.linalg.cross(forward, right), forward], -2))


def pixel_directions(
    world_from_cam: Tensor, fov_x: Tensor, column: Tensor, row: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return unit directions (..., 3) through pixel centres.

    Args:
        world_from_cam: Camera poses (..., 3, 4).
        fov_x: Horizontal fields of view in radians (...).
        column: Pixel columns (...), from 0 at the left.
        row: Pixel rows (...), from 0 at the top.
        size: Height and width of the image.
    """
    height, width = size
    tangent = torch.tan(0.5 * fov_x)
    u = ((column + 0.5) * (2.0 / width) - 1.0) * tangent
    v = ((row + 0.5) * (2.0 / height) - 1.0) * tangent * (height / width)
    right, down, forward = to_cv(world_from_cam)[1].unbind(-2)
    return torch.nn.functional.normalize(forward + u[..., None] * right + v[..., None] * down, dim=-1)


def view_rays(world_from_cam: Tensor, fov_x: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return origins and unit directions (..., H, W, 3) of all pixels of cameras (...)."""
    rows, columns = torch.meshgrid(
        torch.arange(size[0], device=world_from_cam.device),
        torch.arange(size[1], device=world_from_cam.device),
        indexing="ij",
    )
    directions = pixel_directions(
        world_from_cam[..., None, None, :, :],
        fov_x[..., None, None],
        columns.to(world_from_cam),
        rows.to(world_from_cam),
        size,
    )
    return world_from_cam[..., None, None, :, 3].expand_as(directions), directions


def mean_directions(directions: Tensor, patch: int) -> Tensor:
    """Return the mean directions (N, H / patch, W / patch, 3) of square patches of those of pixels (N, H, W, 3)."""
    middle = torch.nn.functional.avg_pool2d(directions.permute(0, 3, 1, 2), patch)
    return torch.nn.functional.normalize(middle.permute(0, 2, 3, 1), dim=-1)


def patch_directions(
    world_from_cam: Tensor,
    fov_x: Tensor,
    size: tuple[int, int],
    patch: int,
    kind: Literal["mean", "centre"] = "centre",
) -> Tensor:
    """Return unit directions (N, H / patch, W / patch, 3) of the patches of photos (N).

    Args:
        world_from_cam: Camera poses (N, 3, 4).
        fov_x: Horizontal fields of view in radians (N,).
        size: Height and width in pixels, multiples of ``patch``.
        patch: Side of a patch.
        kind: Through the middle of each patch exactly, or the mean of its pixels' directions.
    """
    if kind == "mean":
        return mean_directions(view_rays(world_from_cam, fov_x, size)[1], patch)
    # The pixel centres of an image of whole patches are the middles of those patches.
    return view_rays(world_from_cam, fov_x, (size[0] // patch, size[1] // patch))[1]


def to_reference_frame(world_from_cam: Tensor) -> Tensor:
    """Express the cameras (B, V, 3, 4) of scenes in the frame of each scene's first one.

    The axes of that frame are those of the published model: x right, y down, z forward.
    """
    centre, rotation = to_cv(world_from_cam)
    first = rotation[:, :1]
    moved = (first @ (centre - centre[:, :1])[..., None])[..., 0]
    return from_cv(moved, rotation @ first.mT)
