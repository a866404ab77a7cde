"""Which pixels of a photo show a person: MediaPipe's selfie segmentation (landscape, Apache-2.0), in PyTorch.

It finds people from about 40 % of the photo's height, misses small and half hidden ones, and marks things in empty
rooms now and then: it never decides alone what is masked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from smerf.engine.files import data_folder, read_json
from smerf.engine.tensors import read_tensors

__all__ = ["PeopleFinder", "find_people", "shipped_record"]

_FORMAT = "smerf-people-1"
_HEIGHT, _WIDTH = 144, 256
_OVERLAP = 0.6
"""Side of the overlapping parts that are looked at beside the whole, as a fraction of the photo's."""


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad as TensorFlow does: so that the output is the input divided by the stride, more at the far edges."""
    pads: list[int] = []
    for side in (x.shape[-1], x.shape[-2]):
        missing = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x, pads)


class PeopleFinder:
    """The network."""

    def __init__(self, path: Path | None = None) -> None:
        """Read the weights; those of the package by default."""
        tensors, header = read_tensors(
            path or _shipped(), _FORMAT, "a people segmenter", "run `python -m smerf.vision.convert_people`"
        )
        self._steps: list[dict[str, Any]] = json.loads(header["operators"])
        self._weights = {name: value.float() for name, value in tensors.items()}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return how likely each pixel shows a person, (B, 144, 256), for images (B, 3, 144, 256) in [0, 1]."""
        known: dict[int, Tensor] = {0: images}
        for step in self._steps:
            known[step["output"]] = self._take(step, [known[each] for each in step["inputs"]])
        return known[self._steps[-1]["output"]][:, 0]

    def _take(self, step: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        kind, x = step["kind"], inputs[0]
        if kind in ("conv", "depthwise"):
            weight, bias = (self._weights[name] for name in step["weights"])
            is_depthwise = kind == "depthwise"
            weight = weight.permute(3, 0, 1, 2) if is_depthwise else weight.permute(0, 3, 1, 2)
            x = _same(x, weight.shape[-1], step["stride"]) if step["same"] else x
            x = F.conv2d(x, weight, bias, step["stride"], groups=x.shape[1] if is_depthwise else 1)
            return F.relu(x) if step.get("fused") == "relu" else F.relu6(x) if "fused" in step else x
        if kind == "transposed":
            weight, bias = (self._weights[name] for name in step["weights"])
            return F.conv_transpose2d(x, weight.permute(3, 0, 1, 2), bias, 2)
        if kind == "resize":
            return F.interpolate(x, step["size"], mode="bilinear", align_corners=False)
        if kind in ("add", "mul"):
            return inputs[0] + inputs[1] if kind == "add" else inputs[0] * inputs[1]
        if kind == "mean":
            return x.mean((2, 3), keepdim=True)
        return _ACTIVATIONS[kind](x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
}


def _shipped() -> Path:
    return data_folder() / "people" / "people.safetensors"


def shipped_record() -> dict[str, str]:
    """Return what a record of masks says of the shipped weights."""
    record = read_json(_shipped().with_name("record.json"))
    return {"version": record["format"], "sha256": record["sha256"]}


@cache
def _finder() -> PeopleFinder:
    return PeopleFinder()


def _parts(height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the whole photo and overlapping parts of it: two along the longer side."""
    whole = (slice(0, height), slice(0, width))
    if width >= height:
        side = round(_OVERLAP * width)
        return [whole, (slice(0, height), slice(0, side)), (slice(0, height), slice(width - side, width))]
    side = round(_OVERLAP * height)
    return [whole, (slice(0, side), slice(0, width)), (slice(height - side, height), slice(0, width))]


def find_people(photo: np.ndarray, least: float = 0.5) -> np.ndarray:
    """Return where a photo shows people, bool (H, W).

    Args:
        photo: uint8 (H, W, 3).
        least: How likely a pixel must be.
    """
    image = (
        torch.from_numpy(np.ascontiguousarray(photo[..., :3].astype(np.float32))).permute(2, 0, 1)[None]
        / 255.0
    )
    height, width = photo.shape[:2]
    best = torch.zeros(height, width)
    for rows, columns in _parts(height, width):
        part = image[..., rows, columns]
        reduced = F.interpolate(part, (_HEIGHT, _WIDTH), mode="bilinear", align_corners=False, antialias=True)
        likely = _finder()(reduced)[None]
        shown = F.interpolate(likely, part.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
        best[rows, columns] = torch.maximum(best[rows, columns], shown)
    found: np.ndarray = (best >= least).numpy()
    return found
