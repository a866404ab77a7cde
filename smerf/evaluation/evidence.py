"""What a run knows of its capture and scene, and from where on that means something.

The thresholds were measured on the built-in tabletop and on 50 phone photos, as they are and with faults put in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EXTRAPOLATION_DEGREES", "THRESHOLDS", "Evidence", "PhotoEvidence"]

EXTRAPOLATION_DEGREES = 15.0
"""A held-out view whose optical axis is farther than this from that of every training photo is extrapolated."""
THRESHOLDS = {
    "blurred_below": 0.35,
    "exposure_jump_stops": 0.35,
    "exposure_range_stops": 0.7,
    "pose_residual_db": 3.0,
    "pose_match": 0.08,
    "unexplained_db": 5.0,
    "isolated_distance": 4.0,
    "isolated_degrees": 45.0,
    "unsupported_start": 0.1,
    "floaters": 0.02,
    "few_photos": 20,
    "generalisation_gap_db": 3.0,
    "stage_loss_db": 1.0,
    "good_db": 27.0,
    "fair_db": 22.0,
}
"""What turns a measurement into a finding; ``metrics.json`` repeats it."""


@dataclass(frozen=True)
class PhotoEvidence:
    """What is known of one photo; ``None`` is not measured."""

    split: str
    relative_sharpness: float | None = None
    """Sharpness over that of photos that look like it."""
    gain_stops: float | None = None
    """Brightness against the other photos, of the same surfaces."""
    residual_db: float | None = None
    """PSNR against the rendered image once each channel has its best gain."""
    match: float | None = None
    """Correlation with the rendered image, as thumbnails."""
    other_match: float | None = None
    """The best such correlation with what was rendered at the camera of another photo."""
    neighbour_distance: float | None = None
    """Distance to the nearest other camera, over the median of such distances."""
    neighbour_degrees: float | None = None
    """Angle to the nearest other optical axis."""
    gain_jump_stops: float | None = None
    """Brightness against the photos that look in nearly the same direction: a slow change is no jump."""


@dataclass(frozen=True)
class Evidence:
    """Everything that a diagnosis rests on. Fractions are of the pixels of a view."""

    photos: Mapping[str, PhotoEvidence]
    psnr: Mapping[str, float] = field(default_factory=dict)
    """Held-out PSNR of each stage, in dB; masked where there are masks."""
    held_out_degrees: Mapping[str, float] = field(default_factory=dict)
    """Angle of each held-out view to the nearest training photo."""
    unsupported: Mapping[str, float] = field(default_factory=dict)
    """By view (``start`` or a free one): fraction whose surface lies in fewer than 2 photos."""
    floaters: Mapping[str, float] = field(default_factory=dict)
    """By free view: fraction covered by unsupported content that is nearer than anything in the photos."""
    file_size: tuple[int, int] | None = None
    used_size: tuple[int, int] | None = None
    """Width and height of the largest photo, as stored and as trained on."""
    is_rendered: bool = False
    """Whether the photos are a file's own renders: nothing is wrong with those, and nobody takes them again."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """``teacher.appearance``, ``.exposure`` and ``.refine_cameras``, ``has_exposure_tags`` and ``is_evened``."""
