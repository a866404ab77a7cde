"""What differs from photo to photo and is no part of the scene: affine appearance vectors, and exposure.

Both are off when the teacher is evaluated: the zero vector and the median exposure. Distillation may ask for the
factors of the other exposures (``ExposureScales.table``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smerf.errors import InvalidDataError

__all__ = ["AppearanceVectors", "ExposureScales", "relative_exposures"]


class AppearanceVectors(nn.Module):
    """One vector a photo, turned into a factor and an offset of what the view branch reads.

    Zip-NeRF's affine generative latent optimisation (arXiv 2304.06706). Letters: R rays, G outputs of the density
    network.
    """

    def __init__(self, frames: int, length: int, geometry: int, generator: torch.Generator) -> None:
        """Make vectors for ``frames`` photos; the last layer starts at zero, so that none differs at first."""
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(frames, length, generator=generator) * length**-0.5)
        limit = (6.0 / length) ** 0.5
        first = (torch.rand(length, length, generator=generator) * 2.0 - 1.0) * limit
        self.first_weights, self.first_bias = nn.Parameter(first), nn.Parameter(torch.zeros(length))
        self.last_weights = nn.Parameter(torch.zeros(length, 2 * geometry))
        self.last_bias = nn.Parameter(torch.zeros(2 * geometry))

    def forward(self, frames: Tensor | None, rays: int) -> tuple[Tensor, Tensor]:
        """Return factor and offset (R, G) of rays' photos ``frames`` (R,), or those of the zero vector for None."""
        if frames is None:
            vectors = self.vectors.new_zeros(1, self.vectors.shape[1]).expand(rays, -1)
        else:
            vectors = self.vectors[frames]
        hidden = torch.nn.functional.silu(torch.addmm(self.first_bias, vectors, self.first_weights))
        log_factor, offset = torch.addmm(self.last_bias, hidden, self.last_weights).chunk(2, -1)
        return torch.exp(log_factor), offset


def relative_exposures(exposures: Sequence[float | None]) -> Tensor:
    """Return each photo's exposure over the median one (N,).

    Raises:
        InvalidDataError: If a photo has no exposure.
    """
    missing = sum(value is None for value in exposures)
    if missing:
        raise InvalidDataError(
            f"teacher.exposure: {missing} of {len(exposures)} training photos have no exposure; add `exposure` "
            "(shutter seconds x ISO / 1000) to their frames, or set teacher.exposure=off"
        )
    values = torch.tensor([value for value in exposures if value is not None], dtype=torch.float32)
    return values / values.median()


class ExposureScales(nn.Module):
    """A factor of the rendered colour for each exposure in the capture.

    ``gain`` multiplies by the exposure itself, which suits linear photos. ``learned`` fits one factor a channel for
    each exposure; the one nearest to the median stays at one.
    """

    exposures: Tensor
    group: Tensor
    is_free: Tensor

    def __init__(self, exposures: Tensor, kind: str) -> None:
        """Make factors for photos with relative ``exposures`` (N,)."""
        super().__init__()
        self.kind = kind
        distinct, group = torch.unique(exposures, return_inverse=True)
        self.register_buffer("exposures", exposures)
        self.register_buffer("group", group)
        self.register_buffer(
            "is_free", (torch.arange(len(distinct)) != (distinct - 1.0).abs().argmin())[:, None]
        )
        if kind == "learned":
            self.log_factors = nn.Parameter(torch.zeros(len(distinct), 3))

    def _factors(self) -> Tensor:
        """Return the factors (N, 3) of the distinct exposures, ascending."""
        if self.kind == "gain":
            return torch.unique(self.exposures)[:, None].expand(-1, 3)
        return torch.exp(self.log_factors * self.is_free)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the factors (R, 3) of rays' photos ``frames`` (R,)."""
        return self._factors()[self.group[frames]]

    @torch.no_grad()
    def table(self) -> tuple[Tensor, Tensor]:
        """Return each photo's exposure over the median one (N,), and the factor (N, 3) of its colours."""
        return self.exposures, self._factors()[self.group]
