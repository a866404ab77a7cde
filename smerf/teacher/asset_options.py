"""What a user may say about a splat or mesh file instead of leaving it to the file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from smerf.errors import UsageError

__all__ = ["MODES", "AssetOptions", "parse_up"]

MODES = ("default", "antialiased", "3d")


@dataclass(frozen=True)
class AssetOptions:
    """Options of a file that is a teacher; part of what a run is made from."""

    focal: float | None = None
    """Focal length in pixels of the photos that splats were trained on."""
    mode: str | None = None
    """How splats are filtered: ``default``, ``antialiased`` or ``3d``."""
    up: tuple[float, float, float] | None = None
    """The direction that is up, in the file's axes."""
    cameras: str = "auto"
    """``auto``, ``orbit`` or ``walk``, or the path of a ``cameras.json`` or a posed capture."""
    keep_all: bool = False
    """Keep veils and floaters."""
    light: bool = False
    """Whether a plain light falls on a mesh; one without colours is lit in any case."""

    def __post_init__(self) -> None:
        if self.focal is not None and not 1.0 <= self.focal <= 1e6:
            raise UsageError(f"--focal {self.focal:g}: give a focal length in pixels")
        if self.mode is not None and self.mode not in MODES:
            raise UsageError(f"--splat-mode {self.mode}: is not one of {', '.join(MODES)}")
        if self.up is not None and not 1e-6 < float(np.linalg.norm(self.up)) < 1e6:
            raise UsageError("--up: give a direction such as 0,-1,0")

    def values(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @staticmethod
    def of(values: dict[str, Any]) -> AssetOptions:
        """Return the options that ``values`` gave."""
        up = values.get("up")
        return AssetOptions(**(values | {"up": None if up is None else tuple(up)}))


def parse_up(text: str | None) -> tuple[float, float, float] | None:
    """Return the direction that three numbers with commas between them give.

    Raises:
        UsageError: If they don't.
    """
    if text is None:
        return None
    try:
        x, y, z = (float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"--up {text}: give a direction such as 0,-1,0") from None
    return x, y, z
