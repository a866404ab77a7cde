"""Image metrics, one image at a time, by the protocol of the mip-NeRF family.

Images are float arrays (H, W, 3) in [0, 1], sRGB-encoded, rounded to 8 bits by ``quantise`` before anything
is measured. Means over a set are means of per-image values, never of pooled errors.

Sources: SSIM as in dm_pix (Gaussian window 11x11, sigma 1.5, "valid", clipped variances); the rounding and the
colour correction as in Zip-NeRF's published code (``eval_quantize_metrics``, ``image.color_correct``); FLIP
from the ``flip-evaluator`` package (Andersson et al. 2020), low dynamic range, 67 pixels per degree.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.images import mse_to_psnr

__all__ = [
    "METRIC_PROTOCOL",
    "cc_psnr",
    "colour_correct",
    "flip",
    "flip_map",
    "image_metrics",
    "lpips",
    "masked_psnr",
    "psnr",
    "quantise",
    "ssim",
]

METRIC_PROTOCOL = {
    "quantized": True,
    "psnr": "mean of per-image values, peak 1, sRGB",
    "ssim": "11x11 Gaussian, sigma 1.5, valid, clipped variances",
    "lpips_net": "vgg",
    "lpips_range": "[-1, 1]",
    "flip": "LDR, 67 pixels per degree",
    "masks": "masked_psnr is over used pixels; the others are of the full frame times the mask",
}
"""How the numbers of ``image_metrics`` come about; part of the protocol in metrics.json."""

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_MAX_PSNR = 100.0


def quantise(image: np.ndarray) -> np.ndarray:
    """Clip to [0, 1] and round to 8 bits, staying float64: what a PNG of the image would hold.

    Args:
        image: Floats of any shape, or uint8, which is divided by 255.

    Raises:
        ValueError: If a value is NaN.
    """
    if image.dtype == np.uint8:
        return image / 255.0
    image = np.asarray(image, np.float64)
    if np.isnan(image).any():
        raise ValueError(f"image: {int(np.isnan(image).sum())} values are NaN")
    return np.floor(np.clip(image, 0.0, 1.0) * 255.0 + 0.5) / 255.0


def psnr(pred: np.ndarray, truth: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB: -10 log10 of the mean squared error; infinite if equal."""
    pred, truth = _pair(pred, truth)
    return mse_to_psnr(np.mean((pred - truth) ** 2))


def masked_psnr(pred: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Return the PSNR over the pixels where ``mask`` (H, W) is true.

    Raises:
        ValueError: If no pixel is.
    """
    pred, truth = _pair(pred, truth)
    mask = _checked_mask(mask, truth)
    if not mask.any():
        raise ValueError("mask: no pixel is used")
    return mse_to_psnr(np.mean((pred - truth)[mask] ** 2))


def ssim(pred: np.ndarray, truth: np.ndarray) -> float:
    """Return the structural similarity, at most 1: per channel, then the mean.

    Raises:
        ValueError: If the shapes differ or the image is smaller than the 11x11 window.
    """
    a, b = _pair(pred, truth)
    if min(a.shape[:2]) < _WINDOW:
        raise ValueError(
            f"image: expected at least {_WINDOW}x{_WINDOW} pixels, got {a.shape[1]}x{a.shape[0]}"
        )
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window /= window.sum()
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    # Rounding can push variances below zero and correlations above one.
    tiny = np.finfo(np.float32).eps ** 2
    var_a = np.maximum(tiny, _blur(a * a, window) - mean_a**2)
    var_b = np.maximum(tiny, _blur(b * b, window) - mean_b**2)
    covariance = _blur(a * b, window) - mean_a * mean_b
    covariance = np.sign(covariance) * np.minimum(np.sqrt(var_a * var_b), np.abs(covariance))
    c1, c2 = _K1**2, _K2**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(np.mean(top / bottom))


def flip(pred: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean FLIP error, 0 (no visible difference) to 1."""
    return float(flip_map(pred, truth).mean(dtype=np.float64))


def flip_map(pred: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the FLIP error of each pixel, float32 (H, W)."""
    import flip_evaluator  # a native library that only this needs

    pred, truth = _pair(pred, truth)
    reference, test = (np.ascontiguousarray(image, np.float32) for image in (truth, pred))
    error, _, _ = flip_evaluator.evaluate(reference, test, "LDR", applyMagma=False, computeMeanError=False)
    return np.asarray(error, np.float32).reshape(truth.shape[:2])


def lpips(pred: np.ndarray, truth: np.ndarray) -> float | None:
    """Return LPIPS (version 0.1, VGG), or ``None`` where its weights are not at hand.

    ``smerf.evaluation.perceptual.find_weights`` says where they are looked for.
    """
    from smerf.evaluation import perceptual as network  # needs torch

    if network.find_weights() is None:
        return None
    return network.distance(*_pair(pred, truth))


def colour_correct(pred: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Return ``pred`` with its colours warped to ``truth`` by a quadratic fit, clipped to [0, 1].

    Each output channel is a quadratic polynomial of the three input channels, fitted by least squares over
    the pixels that are not clipped in either image (and that ``mask`` uses), five times over.
    """
    pred, truth = _pair(pred, truth)
    shape, pred, truth = pred.shape, pred.reshape(-1, 3), truth.reshape(-1, 3)
    used = np.ones(len(pred), bool) if mask is None else _checked_mask(mask, np.empty(shape)).ravel()
    margin = 0.5 / 255.0

    def unclipped(values: np.ndarray) -> np.ndarray:
        return (values >= margin) & (values <= 1.0 - margin)

    fit = unclipped(pred) & used[:, None]
    for _ in range(5):
        products = [pred[:, channel : channel + 1] * pred[:, channel:] for channel in range(3)]
        terms = np.concatenate([*products, pred, np.ones_like(pred[:, :1])], axis=1)
        warped = []
        for channel in range(3):
            rows = fit[:, channel] & unclipped(pred[:, channel]) & unclipped(truth[:, channel])
            chosen = terms[rows]
            if not len(chosen):
                warped.append(pred[:, channel])
                continue
            # The 10x10 normal equations: float64 keeps six digits, and photos have many pixels.
            weights = np.linalg.lstsq(chosen.T @ chosen, chosen.T @ truth[rows, channel], rcond=None)[0]
            warped.append(terms @ weights)
        pred = np.clip(np.stack(warped, axis=1), 0.0, 1.0)
    return pred.reshape(shape)


def cc_psnr(pred: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Return the PSNR after ``colour_correct``, for captures of varying exposure; over ``mask`` if given."""
    corrected = quantise(colour_correct(pred, truth, mask))
    return psnr(corrected, truth) if mask is None else masked_psnr(corrected, truth, mask)


def image_metrics(
    pred: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None, *, colour_corrected: bool = False
) -> dict[str, float]:
    """Measure one image with everything that is at hand.

    Args:
        pred: Shape (H, W, 3), floats in [0, 1] or uint8; rounded to 8 bits here.
        truth: The same shape.
        mask: Which pixels count, bool (H, W). ``masked_psnr`` is over them alone. For the other figures both images
            are multiplied by it and the full frame is measured, as NerfBaselines does, which flatters.
        colour_corrected: Add ``cc_psnr``, for captures of varying exposure; takes longer than all the rest.

    Returns:
        ``psnr``, ``ssim``, ``flip``, with a mask ``masked_psnr``, ``cc_psnr`` if asked for, and ``lpips_vgg``
        where weights are at hand. Decibels are capped at 100, so that one perfect image does not make a mean
        infinite. Nothing where the mask uses no pixel.
    """
    pred, truth = quantise(pred), quantise(truth)
    results = {}
    if mask is not None:
        mask = _checked_mask(mask, truth)
        if not mask.any():
            return {}
        results["masked_psnr"] = masked_psnr(pred, truth, mask)
        if colour_corrected:
            results["cc_psnr"] = cc_psnr(pred, truth, mask)
        pred, truth = pred * mask[..., None], truth * mask[..., None]
    elif colour_corrected:
        results["cc_psnr"] = cc_psnr(pred, truth)
    results |= {"psnr": psnr(pred, truth), "ssim": ssim(pred, truth), "flip": flip(pred, truth)}
    perceptual = lpips(pred, truth)
    if perceptual is not None:
        results["lpips_vgg"] = perceptual
    return {name: min(value, _MAX_PSNR) if "psnr" in name else value for name, value in results.items()}


def _pair(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if pred.shape != truth.shape or pred.ndim != 3 or pred.shape[2] != 3:
        raise ValueError(f"pred, truth: expected one shape (H, W, 3), got {pred.shape} and {truth.shape}")
    return np.asarray(pred, np.float64), np.asarray(truth, np.float64)


def _checked_mask(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    if mask.shape != truth.shape[:2] or mask.dtype != bool:
        raise ValueError(f"mask: expected bool of shape {truth.shape[:2]}, got {mask.dtype} {mask.shape}")
    return mask


def _blur(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Convolve along both axes, keeping only where the window fits."""
    for axis in (0, 1):
        length = image.shape[axis] - len(window) + 1
        parts = (
            image[start : start + length] if axis == 0 else image[:, start : start + length]
            for start in range(len(window))
        )
        image = sum(weight * part for weight, part in zip(window, parts))
    return image
