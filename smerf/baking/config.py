"""Presets of baking."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PRESETS", "BakeConfig"]


@dataclass(frozen=True)
class BakeConfig:
    """Everything that baking depends on."""

    dilation: int = 1
    """Cells (four texels wide) by which surfaces are grown before they count as occupied."""
    array_format: str = "png"
    """``png``, ``raw`` or ``raw.gz``."""


PRESETS: dict[str, BakeConfig] = {name: BakeConfig() for name in ("tiny", "preview", "standard", "paper")}
