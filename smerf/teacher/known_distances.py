"""How far things are at some pixels: the sparse points that structure from motion found in the photos, and depth maps.

Rays through them learn that nothing is before or behind their point (as in DS-NeRF, arXiv 2107.02791): photos alone
leave that open where few of them look, and a short training shows it as fog.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smerf.capture.rays import project
from smerf.capture.types import Capture, Frame
from smerf.fields.ray_bank import RayBank
from smerf.teacher.measured_depth import measured_pixels

__all__ = ["KnownDistances"]

_MIN_PHOTOS = 3
"""Photos, held-out ones too, that must show a point: two lines nearly meet by chance."""


class KnownDistances:
    """Pixels of the training photos that show a sparse point or have a measured depth, and the distance of each."""

    def __init__(self, capture: Capture, bank: RayBank, *, is_used: bool = True) -> None:
        """Find the pixels, if they are used; ``bank`` holds the training photos."""
        seen = [frame.sees for frame in capture.frames if frame.sees is not None]
        shown = np.bincount(np.concatenate([np.zeros(0, np.int64), *seen]), minlength=len(capture.points))
        parts = [measured_pixels(capture, bank) if is_used else (np.zeros(0, np.int64), np.zeros(0))]
        parts += [
            _pixels(frame, index, capture.points, shown >= _MIN_PHOTOS, bank)
            for index, frame in enumerate(capture.split("train"))
            if is_used and frame.sees is not None and len(frame.sees)
        ]
        rows, distances = (np.concatenate(values) for values in zip(*parts))
        self.rows = torch.tensor(rows, dtype=torch.long, device=bank.centres.device)
        """Where the pixels lie in the bank (T,)."""
        self.distances = torch.tensor(distances, dtype=torch.float32, device=bank.centres.device)
        """Distances along their rays (T,), training units."""
        self._drawn = torch.arange(len(self.rows))

    def __len__(self) -> int:
        return len(self._drawn)

    def follow(self, bank: RayBank) -> None:
        """Sample from now on only pixels that the bank draws rays from."""
        self._drawn = bank.drawn(self.rows).nonzero().view(-1).cpu()

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the rows of random ones (count,), and their distances (count,)."""
        index = self._drawn[torch.randint(len(self), (count,), generator=generator)].to(self.rows.device)
        return self.rows[index], self.distances[index]


def _pixels(
    frame: Frame, index: int, points: np.ndarray, is_sure: np.ndarray, bank: RayBank
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and distances (T,) of the sure points that a photo shows."""
    lens, centre = frame.camera.intrinsics, frame.camera.world_from_cam[:, 3]
    chosen = np.asarray(frame.sees)
    chosen = points[chosen[is_sure[chosen]]]
    places, depths = project(frame.camera, chosen)
    with np.errstate(invalid="ignore"):
        inside = (places >= 0).all(1) & (places < (lens.width, lens.height)).all(1) & (depths > 0)
    column, row = np.floor(places[inside]).astype(np.int64).T
    rows = bank.find(index, row * lens.width + column)
    distances = np.linalg.norm(chosen[inside] - centre, axis=1)
    return rows[rows >= 0], distances[rows >= 0]
