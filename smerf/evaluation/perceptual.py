"""LPIPS, version 0.1, on VGG-16 features, from a file of weights that the user provides.

The distance is the sum over five layers of the spatial mean of weighted squared differences between features
of unit length. Source: Zhang et al. 2018 (arXiv 1801.03924) and the ``lpips`` package, whose saved state is
read: ``torch.save(lpips.LPIPS(net="vgg").state_dict(), "lpips_vgg.pt")``. Nothing is downloaded.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from smerf.errors import InvalidDataError, MissingPartError

__all__ = ["distance", "find_weights", "missing_reason"]

_VARIABLE = "SMERF_LPIPS_WEIGHTS"
_NAMES = ("lpips_vgg.safetensors", "lpips_vgg.pt")
# Convolutions of VGG-16 by their index in torchvision's ``features``; a layer's last one is compared.
_LAYERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


def find_weights() -> Path | None:
    """Return the file that ``SMERF_LPIPS_WEIGHTS`` names, else ``lpips_vgg.*`` in the user's cache, if any.

    Raises:
        MissingPartError: If the variable names a file that does not exist.
    """
    stated = os.environ.get(_VARIABLE)
    if stated:
        if not Path(stated).is_file():
            raise MissingPartError(f"{_VARIABLE}: {stated} does not exist; correct or unset the variable")
        return Path(stated)
    return next((path for name in _NAMES if (path := _cache() / name).is_file()), None)


def missing_reason() -> str | None:
    """Return why LPIPS cannot be measured and what would fix it, or ``None`` if it can."""
    if find_weights() is not None:
        return None
    return f"no LPIPS weights: save the lpips package's state as {_cache() / _NAMES[1]} or set {_VARIABLE}"


def distance(pred: np.ndarray, truth: np.ndarray) -> float:
    """Return the LPIPS distance of two images (H, W, 3) in [0, 1].

    Raises:
        MissingPartError: If there are no weights.
        InvalidDataError: If the file does not hold them.
    """
    path = find_weights()
    if path is None:
        raise MissingPartError(str(missing_reason()))
    weights = _load(path, path.stat().st_mtime_ns)
    images = torch.from_numpy(np.stack([pred, truth])).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        return _distance(weights, images)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smerf"


def _distance(weights: dict[str, torch.Tensor], images: torch.Tensor) -> float:
    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (_SHIFT, _SCALE))
    x = (2 * images - 1 - shift) / scale
    total = 0.0
    for layer, convolutions in enumerate(_LAYERS):
        if layer:
            x = functional.max_pool2d(x, 2)
        for index in convolutions:
            x = functional.relu(
                functional.conv2d(x, weights[f"{index}.weight"], weights[f"{index}.bias"], padding=1)
            )
        unit = x / (x.norm(dim=1, keepdim=True) + 1e-10)
        difference = (unit[0] - unit[1]) ** 2
        total += float((difference * weights[f"lin{layer}"].view(-1, 1, 1)).sum(dim=0).mean())
    return total


@functools.lru_cache(maxsize=1)
def _load(path: Path, _modified: int) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own family of errors
        raise InvalidDataError(
            f"{path}: cannot be read as LPIPS weights ({error}); save them again"
        ) from error
    weights = {}
    for key, value in state.items():
        if match := re.search(r"(?:features|slice\d)\.(\d+)\.(weight|bias)$", key):
            weights[f"{match[1]}.{match[2]}"] = value.float()
        elif match := re.search(r"lin(\d)\.(?:model\.)?\d*\.?weight$", key):
            weights[f"lin{match[1]}"] = value.float().flatten()
    needed = {f"{index}.{part}" for layer in _LAYERS for index in layer for part in ("weight", "bias")}
    absent = sorted((needed | {f"lin{layer}" for layer in range(5)}) - set(weights))
    if absent:
        raise InvalidDataError(f"{path}: lacks {', '.join(absent[:3])}; save all of lpips.LPIPS(net='vgg')")
    return weights
