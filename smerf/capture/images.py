"""Pixels of a capture: which file serves which size, and reading photos, masks and depth.

Photos keep their sRGB encoding and are never rotated by EXIF tags: poses belong to the pixels as stored.
Reducing averages whole blocks of file pixels (weighted by alpha where there is one); columns and rows that do
not fill a block at the right and lower edge are cut. Shapes: H W image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from smerf.capture.types import Frame
from smerf.errors import InvalidDataError

__all__ = [
    "image_header",
    "load_composited",
    "load_depth",
    "load_image",
    "load_mask",
    "load_npy",
    "mse_to_psnr",
    "open_image",
    "reduce_by_average",
]

_EXIF_IFD, _EXPOSURE_TIME, _ISO = 0x8769, 33434, 34855


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image; whatever goes wrong inside the block raises InvalidDataError with the file's name."""
    try:
        with Image.open(path) as image:
            yield image
    except (Image.DecompressionBombError, MemoryError) as error:
        raise InvalidDataError(f"{path}: too large ({error or 'out of memory'}); reduce the image") from error
    except Exception as error:  # Pillow's readers raise errors of many families
        raise InvalidDataError(f"{path}: not a readable image ({error}); restore the file") from error


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


def image_header(path: Path) -> tuple[tuple[int, int], bool, float | None]:
    """Return (width, height), whether there is alpha, and the exposure where it is tagged.

    Reads the header only. Exposure is shutter seconds x ISO / 1000.

    Raises:
        InvalidDataError: If the file is not an image.
    """
    with open_image(path) as image:
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        # Pillow reads a whole PNG to find its EXIF; photos with exposure tags are JPEG or TIFF.
        exposure = _exposure(image) if image.format in ("JPEG", "MPO", "TIFF") else None
        return image.size, has_alpha, exposure


def load_image(frame: Frame) -> np.ndarray:
    """Return the photo of a frame at its camera's size, uint8, shape (H, W, 3) or (H, W, 4).

    A fourth channel is straight alpha.

    Raises:
        InvalidDataError: If the file is damaged or its size does not fit the camera.
    """
    pixels = _read(frame.image_path)
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

    White is used and black ignored, as in nerfstudio; files called ``dynamic_mask_*`` have instant-ngp's
    opposite polarity. A reduced pixel counts only if everything it covers does.

    Raises:
        InvalidDataError: If the file is damaged or its size does not fit the camera.
    """
    if frame.mask_path is None:
        return None
    stored = _grey(frame.mask_path)
    used = stored == 0 if frame.mask_path.name.startswith("dynamic_mask_") else stored > 127
    used, factor = _cover(used, frame, frame.mask_path)
    height, width = frame.camera.intrinsics.height, frame.camera.intrinsics.width
    if factor is not None:
        return used.reshape(height, factor, width, factor).all(axis=(1, 3))
    fraction = Image.fromarray(np.where(used, 1.0, 0.0).astype(np.float32)).resize(
        (width, height), Image.Resampling.BOX
    )
    return np.asarray(fraction) > 0.999


def load_depth(frame: Frame) -> np.ndarray | None:
    """Return depths along the optical axis in training units, float32 (H, W), or ``None`` without a file.

    0 means unknown. Reducing picks one file pixel a block, as averages across an edge are depths of nothing.

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
        stored = _array(path)
    if stored.ndim != 2:
        raise InvalidDataError(
            f"{path}: expected one depth a pixel, got shape {stored.shape}; export it again"
        )
    stored, _ = _cover(stored, frame, path)
    height, width = frame.camera.intrinsics.height, frame.camera.intrinsics.width
    rows = ((np.arange(height) + 0.5) * stored.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * stored.shape[1] / width).astype(int)
    chosen = stored[np.ix_(rows, columns)].astype(np.float64)
    chosen = np.where(np.isfinite(chosen) & (chosen > 0), chosen, 0.0)
    return (chosen * frame.depth_scale).astype(np.float32)


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


def _read(path: Path) -> np.ndarray:
    array = _array(path, colour=True)
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    return array


def _array(path: Path, colour: bool = False) -> np.ndarray:
    with open_image(path) as image:
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        if image.mode == "I" and colour:
            return np.asarray(image).clip(0, 65535).astype(np.uint16)
        if not colour:
            return np.asarray(image)
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def _grey(path: Path) -> np.ndarray:
    with open_image(path) as image:
        if image.mode.startswith("I"):
            return np.where(np.asarray(image) > 0, 255, 0)
        return np.asarray(image.convert("L"))


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


def _exposure(image: Image.Image) -> float | None:
    try:
        tags = image.getexif().get_ifd(_EXIF_IFD)
        shutter, iso = tags.get(_EXPOSURE_TIME), tags.get(_ISO)
        iso = iso[0] if isinstance(iso, tuple) else iso
        value = float(shutter) * float(iso) / 1000.0
    except Exception:  # damaged tags are common and never a reason to refuse a photo
        return None
    return value if np.isfinite(value) and value > 0 else None
