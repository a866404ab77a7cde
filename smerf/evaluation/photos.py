"""What a photo says of itself, beside photos that look like it and beside what was rendered at its camera.

Images are float arrays (H, W, 3) in [0, 1], sRGB-encoded. Letters: N photos, K neighbours.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from smerf.capture.images import mse_to_psnr

__all__ = [
    "appearance_neighbours",
    "brightness",
    "log_luma",
    "relative_to_neighbours",
    "residual_psnr",
    "sharpness",
    "shrink",
    "shrink_mask",
    "thumbnail",
]

_LUMA = np.array([0.2126, 0.7152, 0.0722])
_THUMBNAIL = (16, 12)
_RANGE = (0.05, 0.95)
"""sRGB values outside are noise or clipped, and say nothing of a gain."""
_MIN_PIXELS = 32


def sharpness(image: np.ndarray) -> float:
    """Return the variance of the Laplacian over the variance of the image, both of the luma.

    A gain of the brightness cancels out; blur does not. 0 for an image without contrast.
    """
    luma = image @ _LUMA
    variance = float(luma.var())
    if min(luma.shape) < 3 or variance < 1e-8:
        return 0.0
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4.0 * inner
    return float(laplacian.var()) / variance


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Return the luma of 16x12 areas, shifted and scaled to mean 0 and variance 1: what is where, at any exposure."""
    luma = Image.fromarray((image @ _LUMA).astype(np.float32)).resize(_THUMBNAIL, Image.Resampling.BOX)
    values = np.asarray(luma, np.float64).ravel()
    return (values - values.mean()) / max(float(values.std()), 1e-6)


def brightness(image: np.ndarray) -> float:
    """Return the mean luma of the linear image in stops: log2, at least -16."""
    return float(np.log2(max(float((_linear(image) @ _LUMA).mean()), 2.0**-16)))


def log_luma(colours: np.ndarray) -> np.ndarray:
    """Return the linear luma of colours (..., 3) in stops: log2, at least -16."""
    luma: np.ndarray = np.log2(np.maximum(_linear(colours) @ _LUMA, 2.0**-16))
    return luma


def appearance_neighbours(thumbnails: np.ndarray, count: int = 6) -> np.ndarray:
    """Return for each thumbnail (N, P) the indices of the most similar others, the most similar first: (N, K)."""
    distance = -(thumbnails @ thumbnails.T)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, axis=1, kind="stable")[:, : min(count, len(thumbnails) - 1)]


def relative_to_neighbours(values: np.ndarray, neighbours: np.ndarray, quantile: float = 0.5) -> np.ndarray:
    """Return each value (N,) over a quantile of its neighbours' (N, K); 1 where that is 0."""
    around = np.quantile(values[neighbours], quantile, axis=1)
    return np.where(around > 0.0, values / np.maximum(around, 1e-12), 1.0)


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the averages of an image over the areas of a smaller one of ``size`` (H, W)."""
    if image.shape[:2] == size:
        return image
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize(
            size[::-1], Image.Resampling.BOX
        )
        for c in range(image.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return which pixels of a smaller image of ``size`` (H, W) cover used pixels alone."""
    used: np.ndarray = shrink(mask[..., None].astype(np.float32), size)[..., 0] > 0.999
    return used


def residual_psnr(photo: np.ndarray, rendered: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the PSNR in dB, at most 60, that is left when each channel has the gain that suits the photo best.

    What a wrong exposure or white balance costs is taken away; what a wrong pose costs stays. 60 for a photo
    whose every pixel is masked.
    """
    used = np.ones(photo.shape[:2], bool) if mask is None else mask
    if not used.any():
        return 60.0
    linear, target = _linear(rendered), _linear(photo)
    usable = _usable(photo, rendered, mask)
    if usable.sum() >= _MIN_PIXELS:
        linear = linear * np.exp(np.median(np.log(target[usable] / linear[usable]), axis=0))
    error = (_encoded(linear) - photo)[used]
    return min(60.0, mse_to_psnr(float(np.mean(error**2))))


def _usable(photo: np.ndarray, rendered: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    low, high = _RANGE
    within = (np.minimum(photo, rendered).min(-1) > low) & (np.maximum(photo, rendered).max(-1) < high)
    return within if mask is None else within & mask


def _linear(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image, np.float64)
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def _encoded(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)
