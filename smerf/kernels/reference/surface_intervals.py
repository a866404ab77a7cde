"""Intervals of rays that meet surfaces, with plain PyTorch. Letters: R rays, L layers, S intervals, B stretches."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels.types import Spacing

__all__ = ["STRETCHES", "stretches", "surface_intervals"]

STRETCHES = 128
"""Stretches of equal length of s, each of which is near a surface or is not."""
_ANYWHERE = 0.25
"""Fraction of the free intervals that lie evenly along the ray."""
_BEHIND, _INSIDE = 0.1, 1e-3
"""How much the free intervals count behind all that a ray meets, and within its surfaces, which have their own."""
_SIDES = -0.1, 1.5
"""Where a surface begins and ends, in half widths behind what a ray meets: were it in front, rays that graze a
silhouette would cross a lot of it."""
_SHARE = 4
"""One of so many intervals lies inside the surfaces."""
_MIN_WIDTH, _MIN_GAP = 1e-4, 5e-7


def stretches() -> Tensor:
    """Return the middles (B,) in s of the stretches of a ray that are looked at."""
    return (torch.arange(STRETCHES, dtype=torch.float64) + 0.5) / STRETCHES


def surface_intervals(
    near: Tensor,
    origins: Tensor,
    directions: Tensor,
    met: Tensor,
    opacity: Tensor,
    spacing: Spacing,
    samples: int,
    half_width: float,
) -> tuple[Tensor, Tensor]:
    """Return interval ends (R, S + 1) and weights (R, S); see ``smerf.kernels.surface_intervals``."""
    rays, device = len(origins), origins.device
    is_near = _along(near, origins, directions, spacing.t_from_s(stretches()).float().to(device))
    s = torch.zeros(rays, samples + 1, dtype=torch.float64, device=device)
    weights = torch.zeros(rays, samples, device=device)
    layers = (opacity > 0.0).cumprod(1).sum(1)
    for number in layers.unique().tolist():
        rows = (layers == number).nonzero()[:, 0]
        low, high = _spans(met[rows, :number].double(), spacing, half_width)
        ends = _ends(low, high, samples, is_near[rows])
        s[rows] = ends
        inside = (ends[:, :, None] - low[:, None]) / (high - low)[:, None]
        share = inside.clamp(0.0, 1.0).diff(dim=1)
        weights[rows] = (share * opacity[rows, None, :number]).sum(-1).float()
    # Ends that fall together are moved apart by what no weight notices.
    step = _MIN_GAP * torch.arange(samples + 1, dtype=torch.float64, device=device)
    s = (s + step) / (1.0 + step[-1])
    return spacing.t_from_s(s).float(), weights


def _along(near: Tensor, origins: Tensor, directions: Tensor, distances: Tensor) -> Tensor:
    """Return whether the points of rays at distances (B,) are in a cell near a surface (R, B)."""
    last, half = near.shape[0] - 1, 0.5 * (near.shape[0] - 2)
    x, y, z = (
        (half * origins[:, axis, None] + half + 1.0 + half * directions[:, axis, None] * distances)
        .nan_to_num(0.0)
        .clamp(0.0, last)
        .long()
        for axis in range(3)
    )
    return (near[x, y, z // 32] >> z % 32) & 1 == 1


def _spans(met: Tensor, spacing: Spacing, half_width: float) -> tuple[Tensor, Tensor]:
    """Return where surfaces begin and end in s, of the shape of ``met``."""
    half, far = (1e-4 * met).clamp_min(half_width), min(spacing.far, 1e4)
    low, high = (spacing.s_from_t((met + side * half).clamp(spacing.near, far)) for side in _SIDES)
    # A surface at an end of the ray has a width all the same.
    low = torch.minimum(low, 1.0 - 2.0 * (high - low).clamp_min(_MIN_WIDTH))
    return low, torch.maximum(high, low + _MIN_WIDTH)


def _ends(low: Tensor, high: Tensor, samples: int, near: Tensor) -> Tensor:
    """Return interval ends (R, S + 1) in s around layers [low, high] (R, L) of s, which may be none."""
    rays, layers = low.shape
    if not layers:
        nothing = torch.ones(rays, dtype=low.dtype, device=low.device)
        return _free_ends(near, nothing, nothing, samples + 1)
    inside = max(1, samples // (_SHARE * layers))
    free = _free_ends(near, low.amin(1), high.amax(1), samples + 1 - layers * (inside + 1))
    steps = torch.arange(inside + 1, dtype=low.dtype, device=low.device) / inside
    within = (low[..., None] + (high - low)[..., None] * steps).flatten(1)
    return torch.cat([free, within], 1).sort(1).values


def _free_ends(near: Tensor, first: Tensor, last: Tensor, count: int) -> Tensor:
    """Return ends (R, count) of intervals in s, dense near surfaces, and sparse from first on and behind last."""
    middle, mass = stretches().to(near.device), near.double()
    mass = _ANYWHERE / STRETCHES + (1.0 - _ANYWHERE) / mass.sum(1, keepdim=True).clamp_min(1.0) * mass
    factor = torch.where(middle >= first[:, None], _INSIDE, 1.0)
    mass = mass * torch.where(middle > last[:, None], _BEHIND, factor)
    total = torch.nn.functional.pad(mass.cumsum(1), (1, 0))
    wanted = torch.linspace(0.0, 1.0, count, dtype=mass.dtype, device=near.device) * total[:, -1:]
    held = (torch.searchsorted(total, wanted, right=True) - 1).clamp(0, STRETCHES - 1)
    part = ((wanted - total.gather(1, held)) / mass.gather(1, held)).clamp(0.0, 1.0)
    ends = (held + part) / STRETCHES
    # Rounding may leave a gap before the end of the ray.
    ends[:, -1] = 1.0
    return ends
