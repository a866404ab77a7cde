"""Real photos as input views: a posed capture, cut to squares and moved into the space that models know.

Models expect cameras that look at the origin of a floor at z = 0 from about 7.5 units away. A capture has its own
origin and scale: the point that all optical axes pass closest to becomes the origin, and the cameras' mean distance
from it 7.5. The capture's vertical must be z, which its reader sees to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from smerf.capture import load_capture
from smerf.capture.distortion import image_from_camera
from smerf.capture.images import load_image
from smerf.capture.types import Capture, Frame
from smerf.errors import InvalidDataError
from smerf.objects.data.scenes import SceneSet

__all__ = ["DISTANCE", "photos_as_shot", "scenes_of_capture", "views_of_capture"]

DISTANCE = 7.5
"""Mean distance of the cameras from the origin, in world units."""


def views_of_capture(path: Path, count: int, size: tuple[int, int], *, every: bool = False) -> SceneSet:
    """Read photos of a posed capture as the views of one scene, without masks.

    Args:
        path: Capture in any layout that ``smerf.capture`` reads.
        count: How many photos, spread evenly over the capture.
        every: Take all photos, of which there must be ``count`` or more.
        size: Height and width to bring them to. The largest middle part of that shape is kept, without distortion.

    Raises:
        InvalidDataError: If there are fewer photos, or no point that the cameras look at.
    """
    frames, poses = _posed(path, count, size, every=every)
    images, angles = zip(*(_crop(frame, size) for frame in frames))
    return _scene(path, images, poses, angles)


def photos_as_shot(path: Path, count: int, size: tuple[int, int], patch: int) -> tuple[SceneSet, ...]:
    """Read photos of a posed capture in their own shapes, each as the one view of a scene of its own.

    Args:
        path: Capture.
        count: How many photos, spread evenly over the capture.
        size: Height and width whose number of pixels each photo is brought to, about.
        patch: Sides become multiples of it; less than a patch is cut away, nothing is distorted.

    Raises:
        InvalidDataError: As ``views_of_capture``.
    """
    result = []
    frames, poses = _posed(path, count, size)
    for frame, pose in zip(frames, poses):
        intrinsics = frame.camera.intrinsics
        scale = math.sqrt(size[0] * size[1] / (intrinsics.height * intrinsics.width)) / patch
        sides = (max(1, round(side * scale)) * patch for side in (intrinsics.height, intrinsics.width))
        image, angle = _crop(frame, tuple(sides))
        result.append(_scene(path, (image,), pose[None], (angle,)))
    return tuple(result)


def _scene(path: Path, images: Sequence[np.ndarray], poses: np.ndarray, angles: Sequence[float]) -> SceneSet:
    rgb = torch.from_numpy(np.stack(images))[None]
    return SceneSet(
        rgb,
        torch.zeros(rgb.shape[:4], dtype=torch.uint8),
        torch.from_numpy(poses.astype(np.float32))[None],
        torch.tensor([angles], dtype=torch.float32),
        source={"kind": "photos", "folder": path.resolve().name},
    )


def _posed(
    path: Path, count: int, size: tuple[int, int], *, every: bool = False
) -> tuple[list[Frame], np.ndarray]:
    """Return photos of a capture and their poses (N, 3, 4) in the space of the models."""
    capture = load_capture(path, max_side=8 * max(size))
    if len(capture.frames) < count:
        raise InvalidDataError(f"{path}: has {len(capture.frames)} photos, {count} are needed")
    count = len(capture.frames) if every else count
    chosen = np.unique(np.linspace(0, len(capture.frames) - 1, count).round().astype(int))
    frames = [capture.frames[i] for i in chosen]
    focus, scale = _focus(capture, path)
    poses = np.stack([frame.camera.world_from_cam for frame in frames])
    poses[:, :, 3] = scale * (poses[:, :, 3] - focus)
    return frames, poses


def scenes_of_capture(path: Path, size: tuple[int, int], held_out: int, views: int = 5) -> SceneSet:
    """Make a set of scenes of a posed capture's photos: each a photo with those whose cameras are nearest.

    Every fifth photo is held out: the last ``held_out`` scenes are of those photos alone, and no other scene has one
    of them. All show one place, so they say how well new views of it are seen, not other places.

    Args:
        path: Capture.
        size: As for ``views_of_capture``.
        held_out: Scenes of held-out photos, with repetition where they are few.
        views: Photos of a scene.

    Raises:
        InvalidDataError: If there are fewer than ``5 * views`` photos, or as ``views_of_capture``.
    """
    photos = views_of_capture(path, 5 * views, size, every=True)
    number = torch.arange(photos.views)
    centres = photos.world_from_cam[0, :, :, 3]
    near = torch.cdist(centres, centres)
    groups = []
    for own in (number[number % 5 != 4], number[number % 5 == 4]):
        order = near[own][:, own].argsort(dim=1, stable=True)[:, :views]
        groups.append(own[order])
    again = torch.arange(held_out) % len(groups[1])
    which = torch.cat([groups[0], groups[1][again]])
    return SceneSet(
        photos.rgb[0, which],
        photos.seg[0, which],
        photos.world_from_cam[0, which],
        photos.fov_x[0, which],
        source=photos.source | {"scenes": len(which)},
    )


def _focus(capture: Capture, path: Path) -> tuple[np.ndarray, float]:
    """Return the point nearest to all optical axes, and the factor that brings cameras to ``DISTANCE`` from it."""
    poses = np.stack([frame.camera.world_from_cam for frame in capture.frames])
    axes, centres = -poses[:, :, 2], poses[:, :, 3]
    off_axis = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    system = off_axis.sum(0)
    if len(poses) == 1:
        # One photo says nothing about where its axis ends: the training space has it one unit away at most.
        point = centres[0] + axes[0]
    elif np.linalg.cond(system) > 1e6:
        raise InvalidDataError(
            f"{path}: its cameras look in parallel, so there is no place that they look at"
        )
    else:
        point = np.linalg.solve(system, np.einsum("nij,nj->i", off_axis, centres))
    distance = np.linalg.norm(centres - point, axis=1).mean()
    if not distance > 1e-6:
        raise InvalidDataError(f"{path}: its cameras stand where they look at")
    return point, DISTANCE / distance


def _crop(frame: Frame, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Return the middle of a photo as an undistorted image (H, W, 3) uint8, and its horizontal field of view."""
    intrinsics = frame.camera.intrinsics
    pixels = load_image(frame)
    colour = pixels[..., :3].astype(np.float64)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:] / 255.0
        colour = colour * alpha + 255.0 * (1.0 - alpha)
    height, width = size
    reach = min(intrinsics.width / intrinsics.fx / width, intrinsics.height / intrinsics.fy / height)
    tangent = 0.5 * reach * width
    # Averages over as many samples of the photo as fall into one pixel.
    fine = max(1, math.ceil(min(intrinsics.width / width, intrinsics.height / height)))
    u = ((np.arange(width * fine) + 0.5) / (width * fine) * 2 - 1) * tangent
    v = ((np.arange(height * fine) + 0.5) / (height * fine) * 2 - 1) * tangent * height / width
    rays = np.stack(np.broadcast_arrays(u[None, :], v[:, None], 1.0), -1).reshape(-1, 3)
    place = image_from_camera(intrinsics, rays) - 0.5
    columns = np.clip(np.rint(place[:, 0]), 0, intrinsics.width - 1).astype(int)
    rows = np.clip(np.rint(place[:, 1]), 0, intrinsics.height - 1).astype(int)
    cropped = colour[rows, columns].reshape(height, fine, width, fine, 3).mean((1, 3))
    return np.rint(cropped).astype(np.uint8), 2.0 * math.atan(tangent)
