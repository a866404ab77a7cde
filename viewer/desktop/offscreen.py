"""Pictures and frame times without a window; everything here needs a current context."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smerf.errors import UsageError
from smerf.scene import Camera
from smerf.scene.types import BakedScene
from smerf.scene.view import fit_camera

from .context import gl
from .path import CameraPath
from .renderer import Renderer, at_size, pinhole
from .viewer import start_view

__all__ = ["FrameTimes", "draw_cameras", "fixed_cameras", "measure", "path_cameras", "split_cameras"]

DEFAULT_SIZE = (1280, 800)
_WARM_UPS = 2


def path_cameras(path: CameraPath, size: tuple[int, int] | None) -> list[Camera]:
    """Return the cameras of a path at ``size``, else at the size that its file asks for."""
    width, height = size or path.size or DEFAULT_SIZE
    return [pinhole(view.pose, width, height, view.fov) for view in path.frames]


def split_cameras(scene: BakedScene, split: str, size: tuple[int, int] | None) -> list[tuple[str, Camera]]:
    """Return the photos' cameras of one split with their names; their lenses lose distortion.

    Raises:
        UsageError: If the scene names none.
    """
    chosen = [entry for entry in scene.manifest.cameras if entry.split == split]
    if not chosen:
        raise UsageError(
            f"{scene.root or 'the scene'}: its manifest names no {split} cameras; give a camera path"
        )
    cameras = []
    for entry in chosen:
        lens = entry.camera.intrinsics
        cameras.append((entry.name, at_size(entry.camera, *(size or (lens.width, lens.height)))))
    return cameras


def fixed_cameras(scene: BakedScene, count: int, size: tuple[int, int]) -> list[tuple[str, Camera]]:
    """Return ``count`` cameras that are the same at every call: held-out photos, else all, else turns at the start."""
    entries = [entry for entry in scene.manifest.cameras if entry.split == "test"] or list(
        scene.manifest.cameras
    )
    if entries:
        picked = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
        return [(entries[i].name, fit_camera(entries[i].camera, *size)) for i in picked]
    view = start_view(scene)
    cameras = []
    for i in range(count):
        angle = math.tau * i / count
        c, s = math.cos(angle), math.sin(angle)
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        pose = np.concatenate([turn @ view.pose[:, :3], view.pose[:, 3:]], -1)
        cameras.append((f"turn {math.degrees(angle):.0f}", pinhole(pose, *size, view.fov)))
    return cameras


def draw_cameras(scene: BakedScene, cameras: Sequence[Camera]) -> Iterator[np.ndarray]:
    """Draw cameras one after the other, uint8 (H, W, 3) each, in full detail."""
    renderer = Renderer(scene)
    try:
        for camera in cameras:
            yield renderer.image(camera)
    finally:
        renderer.free()


@dataclass(frozen=True)
class FrameTimes:
    """Milliseconds of the frames of one camera, each from its first command to its last pixel."""

    camera: str
    submodel: int
    size: tuple[int, int]
    milliseconds: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """Return the frame time that ``share`` percent of the frames stay under."""
        return float(np.percentile(self.milliseconds, share))


def measure(scene: BakedScene, cameras: Sequence[tuple[str, Camera]], frames: int) -> Iterator[FrameTimes]:
    """Draw every camera ``frames`` times at its own size, after warming up."""
    GL = gl()
    renderer = Renderer(scene)
    submodel = None
    try:
        for name, camera in cameras:
            k = scene.params.choose_submodel(camera.world_from_cam[:, 3])
            if submodel is None or submodel.k != k:
                if submodel is not None:
                    submodel.free()
                submodel = renderer.load(k)
            size = camera.intrinsics.width, camera.intrinsics.height
            target = renderer.target("measure", *size)
            times = []
            for _ in range(_WARM_UPS + frames):
                since = time.perf_counter()
                renderer.draw(target, submodel, camera)
                GL.glFinish()
                times.append(1e3 * (time.perf_counter() - since))
            yield FrameTimes(name, k, size, tuple(times[_WARM_UPS:]))
    finally:
        if submodel is not None:
            submodel.free()
        renderer.free()
