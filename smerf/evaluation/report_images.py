"""Small images for the report: the photo, what was rendered, and where the two differ."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from smerf.engine.files import write_bytes

__all__ = ["ERROR_RANGE", "colour_map", "error_map", "reduce_jpeg", "save_report_images"]

ERROR_RANGE = 0.25
"""The error that gets the last colour of the map, on the scale where white is 1."""

LONGEST_SIDE = 640
_QUALITY, _EMBEDDED_QUALITY = 90, 80

# Anchors of a black, purple, orange, pale yellow scale of even lightness steps, sRGB.
_ANCHORS = np.array(
    [
        (0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99),
        (212, 72, 66), (245, 125, 21), (250, 193, 39), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip


def colour_map(values: np.ndarray) -> np.ndarray:
    """Map values in [0, 1] (clipped), any shape, to uint8 colours, shape (..., 3)."""
    place = np.clip(np.nan_to_num(values, nan=1.0), 0.0, 1.0) * (len(_ANCHORS) - 1)
    low = np.minimum(place.astype(int), len(_ANCHORS) - 2)
    fraction = (place - low)[..., None]
    return np.rint(_ANCHORS[low] * (1.0 - fraction) + _ANCHORS[low + 1] * fraction).astype(np.uint8)


def error_map(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the absolute difference, averaged over the channels, in colours: uint8 (H, W, 3).

    Args:
        prediction: sRGB values in [0, 1], float, shape (H, W, 3).
        truth: The same for the photo.
    """
    return colour_map(np.abs(prediction - truth).mean(axis=-1) / ERROR_RANGE)


def save_report_images(
    folder: Path, stage: str, view: str, prediction: np.ndarray, truth: np.ndarray
) -> None:
    """Write ``photo/VIEW.jpg``, ``STAGE/VIEW.jpg`` and ``STAGE_error/VIEW.jpg`` below ``folder``.

    Args:
        folder: The report's folder, made if missing.
        stage: What rendered the prediction.
        view: File name of the view, without suffix.
        prediction: sRGB values in [0, 1], float, shape (H, W, 3); values outside are clipped.
        truth: The same for the photo.
    """
    prediction = np.clip(prediction, 0.0, 1.0)
    images = {
        "photo": _to_bytes(truth),
        stage: _to_bytes(prediction),
        f"{stage}_error": error_map(prediction, truth),
    }
    for kind, image in images.items():
        write_bytes(folder / kind / f"{view}.jpg", _encode(image))


def reduce_jpeg(path: Path, longest: int) -> bytes:
    """Return an image file as a JPEG with at most ``longest`` pixels along its longer side, at a small size."""
    with Image.open(path) as image:
        return _encode(np.asarray(image.convert("RGB")), longest, _EMBEDDED_QUALITY)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def _encode(pixels: np.ndarray, longest: int = LONGEST_SIDE, quality: int = _QUALITY) -> bytes:
    image = Image.fromarray(pixels)
    scale = longest / max(image.size)
    if scale < 1.0:
        size = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(size, Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
