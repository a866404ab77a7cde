"""Pixels of a capture at the size of its cameras: photos, masks and depth.

Photos keep their sRGB encoding, and are rotated only where the capture found that its poses belong to upright images.
Reducing averages whole blocks of file pixels (weighted by alpha where there is one); columns and rows that do
not fill a block at the right and lower edge are cut. Shapes: H W image.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from smerf.capture.pixels import read_array, read_pixels, read_used, rotate
from smerf.capture.types import Frame
from smerf.errors import InvalidDataError

__all__ = [
    "is_smaller",
    "load_composited",
    "load_depth",
    "load_image",
    "load_mask",
    "load_npy",
    "mse_to_psnr",
    "pick",
    "reduce_by_average",
]

_SAME_SHAPE = 0.02
"""Fraction of the height by which a depth map's shape may differ from its photo's."""


def load_npy(path: Path) -> np.ndarray:
    """Return the array of an ``.npy`` file.

    Raises:
        InvalidDataError: If it holds anything else, or less than its header says.
    """
    try:
        # A map of the file: a header can't make it reserve memory that the file doesn't fill.
        array = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive, not one array")
        return np.array(array)
    except Exception as error:  # numpy's reader of headers raises errors of many families
        raise InvalidDataError(f"{path}: not a readable array ({error}); restore the file") from error


def load_image(frame: Frame) -> np.ndarray:
    """Return the photo of a frame at its camera's size, uint8, shape (H, W, 3) or (H, W, 4).

    A fourth channel is straight alpha.

    Raises:
        InvalidDataError: If the file is damaged or its size does not fit the camera.
    """
    pixels = read_pixels(frame.image_path, frame.orientation)
    return _fit(reduce_by_average(pixels, frame.downscale), frame, frame.image_path)


def load_composited(frame: Frame, background: str | None) -> np.ndarray:
    """Return the photo of a frame over its capture's background (white, else black): float32 (H, W, 3) in [0, 1].

    Raises:
        InvalidDataError: If the file is damaged or its size does not fit the camera.
    """
    photo = load_image(frame).astype(np.float32) / 255.0
    if photo.shape[-1] == 3:
        return photo
    alpha = photo[..., 3:]
    return photo[..., :3] * alpha + (1.0 - alpha if background == "white" else 0.0)


def mse_to_psnr(mse: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error, peak 1; infinite for 0."""
    return float(-10.0 * np.log10(mse)) if mse > 0 else float("inf")


def load_mask(frame: Frame) -> np.ndarray | None:
    """Return which pixels may be used, bool (H, W), or ``None`` where the frame has no mask.

    Black is ignored and all else used (``smerf.capture.pixels.read_used``); files called ``dynamic_mask_*`` have
    instant-ngp's opposite polarity. A reduced pixel counts only if everything it covers does.

    Raises:
        InvalidDataError: If the file is damaged or its size does not fit the camera.
    """
    if frame.mask_path is None:
        return None
    used = _upright(read_used(frame.mask_path), frame)
    if frame.mask_path.name.startswith("dynamic_mask_"):
        used = ~used
    used, factor = _cover(used, frame, frame.mask_path)
    height, width = frame.camera.intrinsics.height, frame.camera.intrinsics.width
    if factor is not None:
        return np.asarray(used.reshape(height, factor, width, factor).all(axis=(1, 3)))
    fraction = Image.fromarray(np.where(used, 1.0, 0.0).astype(np.float32)).resize(
        (width, height), Image.Resampling.BOX
    )
    return np.asarray(fraction) > 0.999


def load_depth(frame: Frame) -> np.ndarray | None:
    """Return depths along the optical axis in training units, float32 (H, W), or ``None`` without a file.

    0 means unknown. Reducing picks one file pixel a block, as averages across an edge are depths of nothing. A map of
    fewer pixels than its photo, as phones measure, is spread over it.

    Raises:
        InvalidDataError: If the file is damaged or its size does not fit the camera.
    """
    if frame.depth_path is None:
        return None
    path = frame.depth_path
    if path.suffix == ".npy":
        stored = load_npy(path)
        stored = stored[..., 0] if stored.ndim == 3 else stored
    else:
        stored = read_array(path)
    if stored.ndim != 2:
        raise InvalidDataError(
            f"{path}: expected one depth a pixel, got shape {stored.shape}; export it again"
        )
    stored = _upright(stored, frame)
    height, width = frame.camera.intrinsics.height, frame.camera.intrinsics.width
    if not is_smaller((stored.shape[1], stored.shape[0]), (width, height)):
        stored, _ = _cover(stored, frame, path)
    chosen = pick(stored, (height, width)).astype(np.float64)
    chosen = np.where(np.isfinite(chosen) & (chosen > 0), chosen, 0.0)
    return (chosen * frame.depth_scale).astype(np.float32)


def pick(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return values (H, W) at another shape, each one of them as it is: between two depths there is nothing."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, values.shape)
    )
    return values[np.ix_(rows, columns)]


def is_smaller(size: tuple[int, int], photo: tuple[int, int]) -> bool:
    """Tell whether a depth map of (width, height) has fewer pixels than its photo and shows the same."""
    return size[0] < photo[0] and abs(size[1] * photo[0] / size[0] - photo[1]) <= _SAME_SHAPE * photo[1]


def reduce_by_average(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of ``factor`` x ``factor`` pixels.

    Args:
        pixels: uint8, shape (H, W, C); a fourth channel is straight alpha and weights the other three.
        factor: At least 1.

    Returns:
        uint8, shape (H // factor, W // factor, C), rounded to nearest.
    """
    if factor == 1:
        return pixels
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    if pixels.shape[2] != 4:
        return (blocks.mean(axis=(1, 3), dtype=np.float32) + 0.5).astype(np.uint8)
    blocks = blocks.astype(np.float32)
    alpha = blocks[..., 3:].mean(axis=(1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).mean(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    return (np.concatenate([colour, alpha], axis=-1) + 0.5).clip(0, 255).astype(np.uint8)


def _upright(stored: np.ndarray, frame: Frame) -> np.ndarray:
    """Rotate what belongs to a photo as the photo is, where its shape says that it lies as the photo's file does."""
    intrinsics = frame.camera.intrinsics
    is_wide, camera_is_wide = stored.shape[1] > stored.shape[0], intrinsics.width > intrinsics.height
    return (
        rotate(stored, frame.orientation) if frame.orientation >= 5 and is_wide != camera_is_wide else stored
    )


def _fit(pixels: np.ndarray, frame: Frame, path: Path) -> np.ndarray:
    expected = (frame.camera.intrinsics.height, frame.camera.intrinsics.width)
    if pixels.shape[:2] != expected:
        raise InvalidDataError(
            f"{path}: is {pixels.shape[1]}x{pixels.shape[0]} (reduced by {frame.downscale}), but its camera "
            f"is {expected[1]}x{expected[0]}; the file changed since the capture was loaded"
        )
    return np.ascontiguousarray(pixels)


def _cover(stored: np.ndarray, frame: Frame, path: Path) -> tuple[np.ndarray, int | None]:
    """Cut a mask or depth map to what its photo shows; also return the factor between them if it is whole."""
    height, width = frame.camera.intrinsics.height, frame.camera.intrinsics.width
    for factor in (frame.downscale, round(stored.shape[1] / width)):
        if factor >= 1 and (stored.shape[0] // factor, stored.shape[1] // factor) == (height, width):
            return stored[: height * factor, : width * factor], factor
    # Beside a folder of reduced photos it may have full size, of which theirs is a rounded fraction.
    ratio = stored.shape[1] / width
    if ratio >= 1 and abs(stored.shape[0] - ratio * height) <= ratio + 1:
        return stored, None
    raise InvalidDataError(
        f"{path}: is {stored.shape[1]}x{stored.shape[0]}, which is no multiple of its photo's "
        f"{width}x{height}; make it the size of the photo"
    )
