"""Presets of baking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PRESETS", "BakeConfig"]


@dataclass(frozen=True)
class BakeConfig:
    """Everything that baking depends on."""

    dilation: int = 1
    """Cells (four texels wide) by which surfaces are grown before they count as occupied."""
    array_format: Literal["png", "raw", "raw.gz"] = "png"
    """How arrays are stored."""
    coarse_bytes: int = 2_400_000
    """Submodels above this size get a coarse level of at most this size, for the first image; 0: none."""
    max_mb: float | None = None
    """Largest size of the scene folder in MB (10^6 bytes); unbounded if not given."""

    region: bool = True
    """Whether the known region is found: what photos support, and where a visitor starts and stays.

    What fewer than two photos see is left out then."""

    def __post_init__(self) -> None:
        if self.max_mb is not None and not self.max_mb > 0:
            raise ValueError(f"max_mb: expected more than 0, got {self.max_mb}")
        if not 0 <= self.dilation <= 64:
            raise ValueError(f"dilation: expected 0 to 64 cells, got {self.dilation}")
        if self.coarse_bytes < 0:
            raise ValueError(f"coarse_bytes: expected 0 or more, got {self.coarse_bytes}")


PRESETS: dict[str, BakeConfig] = {name: BakeConfig() for name in ("tiny", "preview", "standard", "paper")}
