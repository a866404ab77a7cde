"""From a student to a baked scene on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from smerf.baking.config import BakeConfig
from smerf.baking.submodel import bake_submodel
from smerf.capture.types import Capture, Frame
from smerf.scene.manifest import Manifest, SceneCamera, StartCamera
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams
from smerf.scene.write import write_scene
from smerf.student.model import Student

__all__ = ["bake", "scene_params"]


def scene_params(student: Student) -> SceneParams:
    """Return the parameters that a student's assets are read with."""
    spec = student.grids[0].spec
    return SceneParams(
        triplane_resolution=spec.plane_resolution,
        sparse_grid_resolution=spec.voxel_resolution,
        range_features=spec.feature_range,
        range_density=spec.density_range,
        submodel_grid_resolution=student.partition.edge,
        submodel_scale=student.partition.scale,
        params_to_sm=student.partition.cells,
        background=student.background,
    )


def _start_camera(frames: tuple[Frame, ...]) -> StartCamera | None:
    """Choose the photo whose camera is nearest to the others' mean, along the ground."""
    if not frames:
        return None
    centres = np.stack([frame.camera.world_from_cam[:, 3] for frame in frames])
    middle = np.median(centres, 0)
    best = frames[int(np.linalg.norm(centres - middle, axis=-1).argmin())].camera
    lens = best.intrinsics
    fov = float(np.degrees(2.0 * np.arctan(0.5 * lens.height / lens.fy)))
    return StartCamera(best.world_from_cam, fov)


def manifest_of(student: Student, capture: Capture) -> Manifest:
    """Describe where the scene comes from and from where it was photographed."""
    cameras = tuple(SceneCamera(frame.name, frame.split, frame.camera) for frame in capture.frames)
    return Manifest(
        training_from_source=capture.training_from_source,
        start=_start_camera(capture.split("train")),
        near=student.near,
        background=student.background,
        cameras=cameras,
    )


def bake(
    student: Student,
    capture: Capture,
    config: BakeConfig,
    *,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> BakedScene:
    """Write a student as a baked scene and return it re-opened.

    Args:
        student: What distillation produced.
        capture: The photos, for the cameras in the manifest.
        config: How much is kept and how it is stored.
        folder: The scene folder; replaced if it holds a scene.
        progress: Called with the number of submodels done and in all.

    Raises:
        UsageError: If the folder holds something else.
    """
    params = scene_params(student)
    mlp = {
        name: value.cpu().numpy().astype(np.float32) for name, value in student.appearance.arrays().items()
    }

    def submodels() -> Iterator[BakedSubmodel]:
        for k, grids in enumerate(student.grids):
            if progress:
                progress(k, len(student.grids))
            # The assets are put together in main memory.
            yield bake_submodel(
                grids.to("cpu"), student.alive[k], params.params_to_sm[k], config.dilation, student.backdrop
            )

    scene = write_scene(folder, params, mlp, submodels(), manifest_of(student, capture), config.array_format)
    if progress:
        progress(len(student.grids), len(student.grids))
    return scene
