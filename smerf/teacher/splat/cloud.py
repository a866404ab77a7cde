"""A cloud of Gaussian splats in one form, whatever file it came from, and the checks that every file has to pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from smerf.errors import InvalidDataError

__all__ = [
    "SH_ZERO",
    "SplatCloud",
    "checked_cloud",
    "covariances_of",
    "rotations_of",
    "sigmoid",
    "with_halves",
]

SH_ZERO = 0.28209479177387814
"""The constant spherical harmonic: colour = 0.5 + SH_ZERO * coefficient 0."""
_MAX_SCALE, _MAX_COORDINATE = float(np.exp(20.0)), 1e6
_OPACITY_SLACK = 1e-4
_MAX_SH = 6e4
_MIN_OPACITY = 1.0 / 255.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplatCloud:
    """Splats in the axes and units of their file (Kerbl et al., arXiv 2308.04079).

    ``means`` (N, 3), linear ``scales`` (N, 3), unit ``quaternions`` (N, 4) as w x y z, ``opacities`` (N,) in [0, 1]
    and ``sh`` (N, K, 3), coefficient 0 first, all float32; ``sh`` may be float16.
    """

    means: np.ndarray
    scales: np.ndarray
    quaternions: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray
    kind: str
    """The format and its version."""
    antialiased: bool = False
    """Whether it was trained with a dilation that keeps each splat's total opacity."""
    dilation: float = 0.3
    """Variance of the low-pass filter that it was trained with, in square pixels."""
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)
    """The direction that its format or its writer calls up."""
    is_up_stated: bool = False
    """Whether the file says so, or its format lays it down, and not only most files have it."""
    comments: tuple[str, ...] = ()
    """What the file says of itself: program, author, licence."""
    removed: int = 0
    """Damaged rows that were left out."""

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """Return the degree of the spherical harmonics, 0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    def __getitem__(self, keep: np.ndarray) -> SplatCloud:
        names = ("means", "scales", "quaternions", "opacities", "sh")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return the logistic function of any array, float32."""
    return (1.0 / (1.0 + np.exp(-np.clip(x.astype(np.float32), -80.0, 80.0)))).astype(np.float32)


def rotations_of(quaternions: np.ndarray) -> np.ndarray:
    """Return the rotation matrices (N, 3, 3) of unit quaternions (N, 4), w x y z."""
    w, x, y, z = quaternions.T
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, -1).reshape(-1, 3, 3)


def covariances_of(cloud: SplatCloud, rotation: np.ndarray | None = None, scale: float = 1.0) -> np.ndarray:
    """Return the covariances (N, 6) as xx xy xz yy yz zz, after a rotation (3, 3) and a scale."""
    turned = rotations_of(cloud.quaternions)
    if rotation is not None:
        turned = rotation.astype(np.float32) @ turned
    factor = turned * (scale * cloud.scales[:, None, :])
    full = factor @ factor.transpose(0, 2, 1)
    return np.ascontiguousarray(full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]])


def with_halves(cloud: SplatCloud) -> SplatCloud:
    """Return a cloud with coefficients as half floats, whose error is far below one level of 255."""
    if cloud.sh.dtype == np.float16:
        return cloud
    with np.errstate(over="ignore"):
        sh = cloud.sh.astype(np.float16)
    return replace(cloud, sh=np.clip(sh, -_MAX_SH, _MAX_SH, out=sh))


def checked_cloud(name: str, cloud: SplatCloud, is_flat: bool = False) -> SplatCloud:
    """Return a cloud with unit quaternions and without damaged rows, which one warning counts.

    Args:
        name: The file, for messages.
        cloud: As read; quaternions of any length, scales that may be infinite.
        is_flat: Whether scales of zero are meant (surfels).

    Raises:
        InvalidDataError: If there are no splats, more than half are damaged, or values are out of range.
    """
    if not len(cloud):
        raise InvalidDataError(f"{name}: holds no splats")
    values = (
        cloud.means,
        cloud.scales,
        cloud.quaternions,
        cloud.opacities[:, None],
        cloud.sh.reshape(len(cloud), -1),
    )
    good = np.logical_and.reduce([np.isfinite(each).all(1) for each in values])
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.linalg.norm(cloud.quaternions, axis=1)
        good &= (
            (length > 1e-12)
            & np.isfinite(length)
            & ((cloud.scales >= 0.0) if is_flat else (cloud.scales > 0.0)).all(1)
        )
        wild = (np.abs(cloud.means) > _MAX_COORDINATE).any(1) | (cloud.scales > _MAX_SCALE).any(1)
        wild |= (cloud.opacities < -_OPACITY_SLACK) | (cloud.opacities > 1.0 + _OPACITY_SLACK)
    if (wild & good).any():
        raise InvalidDataError(
            f"{name}: {int((wild & good).sum())} of {len(cloud)} splats have a scale, an opacity or a place out of "
            "range; it is damaged or of another format: export it again"
        )
    removed = int((~good).sum())
    if removed > len(cloud) / 2:
        raise InvalidDataError(f"{name}: {removed} of {len(cloud)} splats are not numbers; export it again")
    if not (cloud.opacities[good] >= _MIN_OPACITY).any():
        raise InvalidDataError(f"{name}: holds no splats that can be seen: their opacities are all but 0")
    if removed:
        _log.warning("%s: left out %d of %d splats that are not numbers", name, removed, len(cloud))
        cloud, length = replace(cloud[good], removed=removed), length[good]
    return replace(
        cloud,
        quaternions=cloud.quaternions / length[:, None],
        opacities=np.clip(cloud.opacities, 0.0, 1.0),
    )
