"""How a baked scene is looked at: near plane, background, exposure, and the choices of the march."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from smerf.capture.types import Camera, Intrinsics
from smerf.errors import UsageError
from smerf.scene.region import RGB
from smerf.scene.types import BakedScene, SceneParams

__all__ = [
    "DEFAULT_NEAR",
    "HIGHLIGHT",
    "HIGHLIGHT_SHARE",
    "OFFICIAL",
    "MarchOptions",
    "choose_background",
    "choose_exposure",
    "choose_near",
    "fit_camera",
    "unknown_colours",
]

DEFAULT_NEAR = 0.2
"""Near plane of the official viewer, world units; used where neither the caller nor the manifest names one."""

_GREY = (0.5, 0.5, 0.5)
HIGHLIGHT, HIGHLIGHT_SHARE = (1.0, 0.72, 0.2), 0.5
"""What lit objects are mixed with, and by how much; as in ``viewer/shaders/chunks/objects.glsl``."""


@dataclass(frozen=True)
class MarchOptions:
    """Choices of the ray march that the assets leave open.

    enlarge_steps_when_occluded: Lengthen steps, up to tenfold, behind nearly opaque content. The official
        viewer always does; our own viewers do not by default, which costs little and renders thin content
        behind surfaces exactly.
    visibility_delay: Delay of the running visibility that enlarges steps: 0.99 high, 0.95 medium, 0.8 low
        quality.
    step_multiplier: Samples per texel.
    exposure: Shutter seconds x ISO / 1000, for scenes whose file names no exposure.
    fade_unknown: Fade what no photo supports into the colour of the scene's known region, if it has one.
    hidden: Ids of objects that are left out; what is behind them appears. 0 is what belongs to no object.
    lit: Ids of objects that are mixed with ``HIGHLIGHT``.
    """

    enlarge_steps_when_occluded: bool = False
    visibility_delay: float = 0.99
    step_multiplier: int = 1
    exposure: float | None = None
    fade_unknown: bool = True
    hidden: frozenset[int] = frozenset()
    lit: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.step_multiplier < 1 or not 0.0 <= self.visibility_delay <= 1.0:
            raise UsageError(
                f"step multiplier {self.step_multiplier} must be >= 1, "
                f"visibility delay {self.visibility_delay} in [0, 1]"
            )
        if self.exposure is not None and not 0.0 < self.exposure < np.inf:
            raise UsageError(f"exposure {self.exposure}: must be positive")
        wrong = sorted(each for each in self.hidden | self.lit if not 0 <= each <= 255)
        if wrong:
            raise UsageError(f"object {wrong[0]}: ids lie between 0 and 255")


OFFICIAL = MarchOptions(enlarge_steps_when_occluded=True)
"""What the official viewer does at high quality."""


def choose_near(scene: BakedScene, near: float | None) -> float:
    """Return the near plane in world units: the caller's, else the manifest's, else the official default."""
    if near is None:
        near = scene.manifest.near if scene.manifest.near is not None else DEFAULT_NEAR
    if not 0.0 < near < np.inf:
        raise UsageError(f"near plane {near}: must be positive")
    return float(near)


def choose_background(
    scene: BakedScene, background: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    """Return the background colour: the caller's, else the scene's, else grey 0.5."""
    for colour in (background, scene.params.background):
        if colour is not None:
            r, g, b = (float(c) for c in colour)
            return r, g, b
    return _GREY


def choose_exposure(params: SceneParams, options: MarchOptions) -> float | None:
    """Return the exposure that conditions the network, or ``None``. The file's wins over the caller's."""
    return params.default_exposure or options.exposure


def unknown_colours(scene: BakedScene, options: MarchOptions) -> tuple[RGB, RGB, RGB] | None:
    """Return what unknown places fade into ahead, above and below.

    ``None`` where all is drawn as it is (and always with vfr).
    """
    region = scene.manifest.region
    if region is None or not options.fade_unknown or scene.params.deferred_rendering_mode == "vfr":
        return None
    return region.colours


def fit_camera(camera: Camera, width: int, height: int) -> Camera:
    """Return a pinhole camera of another image shape, with the same principal point but without distortion.

    Pixels that were square stay square, and the axis that is tighter keeps its field of view.
    """
    intrinsics = camera.intrinsics
    scale = max(width / intrinsics.width, height / intrinsics.height)
    cx = width / 2 + (intrinsics.cx - intrinsics.width / 2) * scale
    cy = height / 2 + (intrinsics.cy - intrinsics.height / 2) * scale
    fitted = Intrinsics("PINHOLE", width, height, intrinsics.fx * scale, intrinsics.fy * scale, cx, cy)
    return replace(camera, intrinsics=fitted)
