"""The settings of ``smerf prepare``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from smerf.engine.settings import require

__all__ = ["PrepareConfig"]


@dataclass(frozen=True)
class PrepareConfig:
    """Everything that decides what ``prepare`` computes, apart from the photos."""

    max_side: int = 1600
    """Longest side of the written images in pixels."""
    frames: int | None = None
    """About how many frames to take from a video; by motion if not given."""
    spacing: float = 0.04
    """Motion between two frames of a video, as a fraction of the longest side."""
    order: Literal["auto", "sequence", "none"] = "auto"
    """Whether photos that follow each other were taken after each other."""
    camera: Literal["auto", "one", "each"] = "auto"
    """Which photos share intrinsics: those of one camera and focal length, all, or none."""
    mapper: Literal["auto", "incremental", "global"] = "auto"
    """Which mapper poses the photos; ``auto`` runs both and keeps the larger model that passes."""
    min_link: int = 30
    """Points that two photos must share to count as joined."""
    scale_from: Literal["gps", "none"] = "gps"
    """Where the unit comes from, if the photos say."""
    threads: int = 1
    """Threads of feature extraction, matching and mapping: 1 gives the same poses every time, 0 takes all cores."""
    seed: int = 0
    """Random seed of verification and mapping."""

    def __post_init__(self) -> None:
        require(self.max_side >= 64, "max_side", "at least 64 pixels", self.max_side)
        require(self.frames is None or self.frames >= 8, "frames", "at least 8", self.frames)
        require(0.005 <= self.spacing <= 0.07, "spacing", "between 0.005 and 0.07", self.spacing)
        require(self.min_link >= 5, "min_link", "at least 5", self.min_link)
        require(self.threads >= 0, "threads", "0 or more", self.threads)
