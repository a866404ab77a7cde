"""Small photos for a site: what each camera saw, to be laid over the rendered image.

``cameras.json`` of a site::

    {"format": "smerf-cameras", "version": 1,
     "cameras": [{"name": str, "split": str, "world_from_cam": [[4] * 3], "photo": "photos/000.jpg" or null,
                  "intrinsics": {"model": "PINHOLE", "width", "height", "fx", "fy", "cx", "cy", "distortion": []}}]}

Poses are in training space. Photos are resampled without distortion, so that a photo covers exactly the
image of its pinhole camera, at any number of pixels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from PIL import Image

from smerf.capture.distortion import image_from_camera
from smerf.capture.pixels import read_header, read_pixels
from smerf.capture.types import Capture, Frame, Intrinsics
from smerf.scene.manifest import SceneCamera

__all__ = ["CAMERAS_NAME", "PHOTO_BYTES", "site_cameras", "small_photo"]

CAMERAS_NAME = "cameras.json"
PHOTO_BYTES = 1_500_000
"""What the photos of a site may take together."""
_EDGES = (512, 400, 320, 256, 208, 160, 128)
_QUALITY = 80
_MAX_PHOTOS = 240
_TRIED = 6


def site_cameras(cameras: Sequence[SceneCamera], capture: Capture | None) -> dict[str, bytes]:
    """Return the files that show a site's cameras: ``cameras.json`` and, with a capture, small photos.

    Args:
        cameras: The scene's cameras, from its manifest.
        capture: Where the photos are; cameras are matched by name. ``None`` leaves the photos out.

    Returns:
        Contents by path below the site; empty if there are no cameras.

    Raises:
        InvalidDataError: If a photo is damaged.
    """
    if not cameras:
        return {}
    frames = {frame.name: frame for frame in capture.frames} if capture else {}
    known = [index for index, entry in enumerate(cameras) if entry.name in frames]
    if len(known) > _MAX_PHOTOS:
        known = [known[i] for i in np.linspace(0, len(known) - 1, _MAX_PHOTOS).round().astype(int)]
    photos = _encode([frames[cameras[index].name] for index in known])
    names = {index: f"photos/{index:03d}.jpg" for index in known}
    entries: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "split": entry.split,
            "world_from_cam": np.asarray(entry.camera.world_from_cam, np.float64).tolist(),
            "intrinsics": asdict(_pinhole(entry.camera.intrinsics)),
            "photo": names.get(index),
        }
        for index, entry in enumerate(cameras)
    ]
    document = {"format": "smerf-cameras", "version": 1, "cameras": entries}
    files = {CAMERAS_NAME: json.dumps(document, separators=(",", ":")).encode()}
    return files | {names[index]: photo for index, photo in zip(known, photos)}


def _pinhole(intrinsics: Intrinsics) -> Intrinsics:
    return replace(intrinsics, model="PINHOLE", distortion=())


def _encode(frames: list[Frame]) -> list[bytes]:
    """Encode all photos at the largest size that keeps them within ``PHOTO_BYTES``."""
    if not frames:
        return []
    tried = [frames[i] for i in np.linspace(0, len(frames) - 1, min(_TRIED, len(frames))).round().astype(int)]
    for edge in _EDGES:
        is_last = edge == _EDGES[-1]
        expected = sum(len(_photo(frame, edge)) for frame in tried) / len(tried) * len(frames)
        if expected > PHOTO_BYTES and not is_last:
            continue
        photos = [_photo(frame, edge) for frame in frames]
        if sum(map(len, photos)) <= PHOTO_BYTES or is_last:
            return photos
    raise AssertionError


def _photo(frame: Frame, edge: int) -> bytes:
    """Return one photo as a JPEG of at most ``edge`` pixels."""
    out = io.BytesIO()
    small_photo(frame, edge).save(out, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return out.getvalue()


def small_photo(frame: Frame, edge: int) -> Image.Image:
    """Return a photo of at most ``edge`` pixels, without distortion and composited over white.

    Raises:
        InvalidDataError: If the file is damaged.
    """
    intrinsics = frame.camera.intrinsics
    scale = min(1.0, edge / max(intrinsics.width, intrinsics.height))
    width, height = max(1, round(intrinsics.width * scale)), max(1, round(intrinsics.height * scale))
    full, at_least = read_header(frame.image_path).size, (2 * width, 2 * height)
    if frame.orientation >= 5:
        full, at_least = full[::-1], at_least[::-1]
    photo = Image.fromarray(read_pixels(frame.image_path, frame.orientation, at_least))
    # The camera may be smaller than the file: whole blocks of pixels make one of its pixels.
    used = (intrinsics.width * frame.downscale / full[0], intrinsics.height * frame.downscale / full[1])
    right, lower = (min(1.0, part) * size for part, size in zip(used, photo.size))
    if photo.mode == "RGBA":
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("RGB")
    small = photo.resize((width, height), Image.Resampling.BOX, box=(0.0, 0.0, right, lower))
    if intrinsics.distortion or intrinsics.model == "OPENCV_FISHEYE":
        small = Image.fromarray(_straighten(np.asarray(small), intrinsics))
    return small


def _straighten(pixels: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """Resample a reduced photo (H, W, 3) to what a pinhole camera of the same focal length sees; the border
    goes on where the photo saw nothing.
    """
    from scipy.ndimage import map_coordinates

    height, width = pixels.shape[:2]
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    plane = [
        (x * intrinsics.width - intrinsics.cx) / intrinsics.fx,
        (y * intrinsics.height - intrinsics.cy) / intrinsics.fy,
        np.ones_like(x),
    ]
    seen = image_from_camera(intrinsics, np.stack(plane, -1).reshape(-1, 3)).reshape(height, width, 2)
    places = seen[..., ::-1] * (height / intrinsics.height, width / intrinsics.width) - 0.5
    places = np.moveaxis(np.nan_to_num(places, nan=0.0), -1, 0)
    channels = [
        map_coordinates(pixels[..., c].astype(np.float32), places, order=1, mode="nearest") for c in range(3)
    ]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)
