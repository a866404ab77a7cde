"""The picture of a page: what a visitor sees first, rendered natively, shown until the scene itself is there."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from smerf.capture.types import Camera, Intrinsics
from smerf.export.about import ICON_NAME, ICON_SIDE, POSTER_NAME, POSTER_SIZE
from smerf.render.march import renderer
from smerf.scene import load_scene
from smerf.scene.region import choose_start
from smerf.scene.types import BakedScene

__all__ = ["encode_poster", "render_poster"]

_QUALITY = 84


def render_poster(scene_dir: Path, device: str = "cpu") -> dict[str, bytes]:
    """Render a scene's start view.

    Returns:
        The files of ``encode_poster``; empty if the scene names no start view.

    Raises:
        InvalidDataError: If ``scene_dir`` is not a baked scene.
    """
    scene = load_scene(scene_dir)
    camera = _start_camera(scene)
    if camera is None:
        return {}
    return encode_poster(np.asarray(renderer(scene, device)(camera)))


def _start_camera(scene: BakedScene) -> Camera | None:
    width, height = POSTER_SIZE
    region, start = scene.manifest.region, scene.manifest.start
    view = choose_start(region, width / height) if region is not None else None
    if view is None and start is not None:
        view = start.world_from_cam, start.fov_degrees
    if view is None:
        return None
    pose, fov = view
    focal = 0.5 * height / np.tan(np.radians(0.5 * fov))
    intrinsics = Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2)
    return Camera(intrinsics, np.asarray(pose, np.float64)[:3])


def encode_poster(pixels: np.ndarray) -> dict[str, bytes]:
    """Return the poster and the icon cut from its middle as files of a site.

    Args:
        pixels: (H, W, 3), uint8 or float in [0, 1].
    """
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
    image = Image.fromarray(pixels)
    poster, icon = io.BytesIO(), io.BytesIO()
    image.save(poster, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, upper, left + side, upper + side))
    square = square.resize((ICON_SIDE, ICON_SIDE), Image.Resampling.LANCZOS)
    square.quantize(128).save(icon, "PNG", optimize=True)
    return {POSTER_NAME: poster.getvalue(), ICON_NAME: icon.getvalue()}
