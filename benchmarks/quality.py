"""Held-out quality, as the training benchmarks measure it."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import numpy as np
import torch

from smerf.capture import load_image
from smerf.capture.types import Camera, Capture
from smerf.engine.environment import processor_name
from smerf.kernels import native

VIEWS = 8


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the PSNR of images (H, W, 3) in [0, 1], in dB."""
    return float(-10.0 * np.log10(max(float(np.mean((image - truth) ** 2)), 1e-10)))


class HeldOut:
    """At most eight held-out photos of a capture, over white where they are transparent."""

    def __init__(self, capture: Capture, views: int = VIEWS) -> None:
        test = capture.split("test")
        frames = test[:: max(1, len(test) // views)][:views]
        self.cameras = [frame.camera for frame in frames]
        self.photos = []
        for frame in frames:
            photo = load_image(frame).astype(np.float32) / 255.0
            if photo.shape[-1] == 4:
                photo = photo[..., :3] * photo[..., 3:] + (1.0 - photo[..., 3:])
            self.photos.append(photo)

    def draw(self, render: Callable[[Camera], np.ndarray]) -> list[np.ndarray]:
        """Render every camera."""
        return [render(camera) for camera in self.cameras]

    def score(self, images: list[np.ndarray], truths: list[np.ndarray] | None = None) -> float:
        """Return the mean PSNR of images against the photos, or against other images."""
        return float(np.mean([psnr(a, b) for a, b in zip(images, truths or self.photos, strict=True)]))


def about(preset: str) -> dict:
    """Say what a measurement was made with."""
    used = [row["name"] for row in native.status() if row["state"] == "used"]
    return {
        "preset": preset,
        "threads": torch.get_num_threads(),
        "device": f"{processor_name()}, {os.cpu_count()} CPUs, {used}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
