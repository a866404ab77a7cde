"""From a student to a baked scene on disk."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.baking.budget import Fit, fit_size
from smerf.baking.coarse import coarse_files
from smerf.baking.config import BakeConfig
from smerf.baking.known import KnownCells, photo_rays, region_cells, standing_reach
from smerf.baking.starts import (
    calm_colours,
    choose_mode,
    choose_starts,
    common_target,
    eye_height,
    look_around,
)
from smerf.baking.submodel import bake_submodel
from smerf.capture.images import load_composited, mse_to_psnr
from smerf.capture.types import Capture, Frame
from smerf.errors import UsageError
from smerf.render.march import render_camera
from smerf.render.scene import RenderableScene, renderable
from smerf.scene.manifest import Manifest, SceneCamera, StartCamera
from smerf.scene.region import Region
from smerf.scene.supersample import trained_pixel_angle
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams
from smerf.scene.write import CoarseLevel, encoded_sizes, write_scene
from smerf.student.model import Student, grid_spec

__all__ = ["bake", "lone_order", "scene_params"]

_COST_BYTES = 2048
"""Room for what the manifest says about a size budget."""
_COARSE_FRACTION = 0.2
"""Largest fraction of a size budget that goes into the coarse levels."""
_VIEWS = 6
"""Training views on which the cost of a size budget is measured."""
_LEVEL_WEIGHT = 4.0
"""What a camera that is rolled by a right angle loses, against one at the median distance from the others."""
_ABOVE = 0.3
"""Sine of the angle from above at which lone objects are first seen."""
_SIDES = 24
"""Photos from about there, of which the one that shows most is the first view."""
_STOPS, _CANDIDATES = 24, 16
"""Views that are compared along a walk, and of captures that look at one place."""


def scene_params(student: Student) -> SceneParams:
    """Return the parameters that a student's assets are read with."""
    spec = grid_spec(student.config, student.partition, 0)
    return SceneParams(
        triplane_resolution=spec.plane_resolution,
        sparse_grid_resolution=spec.voxel_resolution,
        range_features=spec.feature_range,
        range_density=spec.density_range,
        submodel_grid_resolution=student.partition.edge,
        submodel_scale=student.partition.scale,
        params_to_sm=student.partition.cells,
        background=student.background,
        default_exposure=None if student.log_exposure is None else math.exp(student.log_exposure),
    )


def _by_typicality(frames: Sequence[Frame]) -> np.ndarray:
    """Return the photos' indices, those first that are most like the others in place and direction, and held level."""
    poses = np.stack([frame.camera.world_from_cam for frame in frames])
    unlike = sum(_unlikeness(poses[:, :, column]) for column in (2, 3))
    return np.asarray(np.argsort(unlike + _LEVEL_WEIGHT * np.abs(poses[:, 2, 0]), kind="stable"))


def lone_order(frames: Sequence[Frame], background: str | None) -> np.ndarray:
    """Return the indices of photos of a lone object that look down on it as people do on things, at most ``_SIDES``.

    Those that show most come first: the front of a thing has more to show than its back.
    """
    poses = np.stack([frame.camera.world_from_cam for frame in frames])
    chosen = np.argsort(np.abs(poses[:, 2, 2] - _ABOVE), kind="stable")[:_SIDES]
    target = common_target(poses)
    away = np.ones(len(poses)) if target is None else np.linalg.norm(poses[:, :, 3] - target, axis=-1)
    # What is near fills more pixels, and shows no more for it.
    shown = [away[i] / frames[i].camera.intrinsics.fx * _detail(frames[i], background) for i in chosen]
    return chosen[np.argsort(-np.array(shown), kind="stable")]


def _order(frames: Sequence[Frame], background: str | None) -> np.ndarray:
    """Return the indices of photos that the first view may be of, the better ones first."""
    if background == "white":
        return lone_order(frames, background)[:_CANDIDATES]
    if common_target(np.stack([frame.camera.world_from_cam for frame in frames])) is None:
        return walk_order(frames, background)
    return _by_typicality(frames)[:_CANDIDATES]


def walk_order(frames: Sequence[Frame], background: str | None) -> np.ndarray:
    """Return the indices of photos along a walk, at most ``_STOPS``; those held level that show most come first."""
    chosen = np.arange(len(frames))[:: -(-len(frames) // _STOPS)]
    level = [1.0 - abs(frames[i].camera.world_from_cam[2, 0]) for i in chosen]
    shown = [_detail(frames[i], background) for i in chosen]
    return chosen[np.argsort(-np.array(level) * np.array(shown), kind="stable")]


def _detail(frame: Frame, background: str | None) -> float:
    """Return the sum of differences between neighbouring pixels of a photo: length of edges times their contrast."""
    grey = load_composited(frame, background).mean(-1)
    return float(sum(np.abs(np.diff(grey, axis=axis)).sum() for axis in (0, 1)))


def _start_camera(frames: tuple[Frame, ...]) -> StartCamera | None:
    """Choose the most typical photo."""
    if not frames:
        return None
    best = frames[int(_by_typicality(frames)[0])].camera
    intrinsics = best.intrinsics
    fov = float(np.degrees(2.0 * np.arctan(0.5 * intrinsics.height / intrinsics.fy)))
    return StartCamera(best.world_from_cam, fov)


def _unlikeness(vectors: np.ndarray) -> np.ndarray:
    """Return each vector's distance from the median of all (N, 3), in units of the median distance."""
    distance = np.linalg.norm(vectors - np.median(vectors, 0), axis=-1)
    return distance / max(float(np.median(distance)), 1e-9)


def manifest_of(student: Student, capture: Capture) -> Manifest:
    """Describe where the scene comes from and from where it was photographed."""
    cameras = tuple(SceneCamera(frame.name, frame.split, frame.camera) for frame in capture.frames)
    trained = [frame.camera for frame in capture.split("train")]
    return Manifest(
        training_from_source=capture.training_from_source,
        start=_start_camera(capture.split("train")),
        near=student.near,
        pixel_angle=trained_pixel_angle(trained),
        background=student.background,
        cameras=cameras,
    )


class _Baker:
    """Bakes a student's submodels one at a time, without the blocks that contribute less than ``threshold``."""

    def __init__(self, student: Student, config: BakeConfig, manifest: Manifest) -> None:
        self.student, self.config, self.manifest = student, config, manifest
        self.params = scene_params(student)
        arrays = student.network_arrays()
        self.known: KnownCells | None = None
        self.mlp = {name: value.cpu().numpy().astype(np.float32) for name, value in arrays.items()}

    @property
    def coarse(self) -> CoarseLevel | None:
        """What makes the coarse levels, which take at most a fixed fraction of a size that is asked for."""
        limit, count = self.config.coarse_bytes, len(self.params.params_to_sm)
        if self.config.max_mb is not None:
            limit = min(limit, int(_COARSE_FRACTION * self.config.max_mb * 1e6 / count))
        return functools.partial(coarse_files, self.params, self.mlp, limit) if limit else None

    def submodel(self, k: int, threshold: float = 0.0) -> BakedSubmodel:
        """Bake one submodel."""
        student, part = self.student, self.student.submodels[k]
        keep = None
        if threshold > 0.0 and part.block_weights is not None:
            keep = part.block_weights.numpy() >= threshold
        known = self.known
        confirmed = None if known is None else known.confirmed(k)
        # The assets are put together in main memory.
        baked = bake_submodel(
            part.grids.to("cpu"), part.occupied, part.cell, self.config.dilation, student.backdrop, keep, confirmed
        )  # fmt: skip
        return baked if known is None else replace(baked, known=known.known(k))

    def find_region(self, capture: Capture) -> None:
        """Find the known region: from now on submodels hold it, and nothing that photos do not confirm."""
        frames = capture.split("train")
        if not frames:
            return
        self.known = KnownCells(self.params, photo_rays(self.scene(0.0), frames), self.student.near)
        # Without a region in the manifest nothing fades, which is right for measuring depths.
        is_alone = capture.background == "white"
        order = _order(frames, capture.background)
        far = capture.far if capture.bounded else math.inf
        looks = look_around(self.scene(0.0), self.known, frames, order, far)
        eye = eye_height(looks)
        region = Region(
            cells=region_cells(self.params),
            colours=calm_colours(frames, capture.background),
            mode=choose_mode(np.stack([frame.camera.world_from_cam for frame in frames]), eye),
            eye=eye,
            reach=standing_reach(np.stack([frame.camera.world_from_cam[:, 3] for frame in frames])),
            starts=choose_starts(looks, is_alone),
        )
        self.manifest = replace(self.manifest, region=region)

    def size(self, threshold: float) -> int:
        """Return the bytes of the whole scene folder."""
        sizes: dict[str, int] = {}
        for k in range(len(self.params.params_to_sm)):
            submodel = self.submodel(k, threshold)
            sizes |= encoded_sizes(self.params, self.mlp, submodel, self.config.array_format, self.coarse)
        manifest = replace(self.manifest, files={name: ("0" * 64, size) for name, size in sizes.items()})
        return sum(sizes.values()) + len(json.dumps(manifest.to_json(), indent=1)) + _COST_BYTES

    def contributions(self) -> np.ndarray:
        """Return what every block with data contributes (N,), in all submodels."""
        return np.concatenate([_contributions(self.student, k) for k in range(len(self.student.partition))])

    def scene(self, threshold: float) -> BakedScene:
        """Return the scene as it would be; submodels are baked when they are rendered."""
        load = functools.partial(self.submodel, threshold=threshold)
        return BakedScene(self.params, self.mlp, self.manifest, load, cache_size=1)


def _contributions(student: Student, k: int) -> np.ndarray:
    part = student.submodels[k]
    if part.block_weights is None:
        raise UsageError("--max-mb: the student doesn't know what its blocks contribute; distil it again")
    weights = part.block_weights.numpy()
    return weights[(part.grids.block_index.cpu().numpy() >= 0) & (weights > 0.0)]


def bake(
    student: Student,
    capture: Capture,
    config: BakeConfig,
    *,
    folder: Path,
    progress: Callable[..., None] | None = None,
    extra: dict[str, object] | None = None,
) -> RenderableScene:
    """Write a student as a baked scene and return it re-opened.

    With ``config.max_mb`` the voxel blocks that contribute least to the views go until the folder, coarse levels
    included, is no larger; the manifest's ``extra["size_budget"]`` then says what that cost.

    Args:
        student: What distillation produced; its submodels are read one at a time.
        capture: The photos, for the cameras in the manifest.
        config: How much is kept and how it is stored.
        folder: The scene folder; replaced if it holds a scene.
        progress: Called with the number of submodels done and in all.
        extra: What else the manifest is to say.

    Raises:
        UsageError: If the folder holds something else, or the size can't be reached.
    """
    manifest, threshold = replace(manifest_of(student, capture), extra=extra or {}), 0.0
    baker = _Baker(student, config, manifest)
    if config.region:
        baker.find_region(capture)
        manifest = baker.manifest
    if config.max_mb is not None:
        threshold, cost = _fit(baker, capture, config.max_mb)
        manifest = replace(manifest, extra=manifest.extra | {"size_budget": cost})
    count = len(student.partition)

    def submodels() -> Iterator[BakedSubmodel]:
        for k in range(count):
            if progress:
                progress(k, count)
            yield baker.submodel(k, threshold)

    scene = write_scene(
        folder, baker.params, baker.mlp, submodels(), manifest, config.array_format, baker.coarse
    )
    if progress:
        progress(count, count)
    return renderable(scene)


def _fit(baker: _Baker, capture: Capture, max_mb: float) -> tuple[float, dict[str, object]]:
    """Return the threshold under which the scene fits, and what it costs on some training views."""
    full, values = baker.size(0.0), baker.contributions()
    budget = int(max_mb * 1e6)
    fit = Fit(0.0, full) if full <= budget else fit_size(values, baker.size, budget, full)
    cost: dict[str, object] = {
        "max_mb": max_mb,
        "full_mb": round(full / 1e6, 3),
        "mb": round(fit.size / 1e6, 3),
        "blocks_kept": round(float((values >= fit.threshold).mean()) if len(values) else 1.0, 4),
    }
    frames = capture.split("train")
    frames = frames[:: max(1, len(frames) // _VIEWS)][:_VIEWS]
    for name, threshold in (("full_psnr", 0.0), ("psnr", fit.threshold)):
        cost[name] = round(_psnr(baker.scene(threshold), capture, frames), 3)
    return fit.threshold, cost | {"views": [frame.name for frame in frames]}


def _psnr(scene: BakedScene, capture: Capture, frames: Sequence[Frame]) -> float:
    """Return the mean PSNR of a scene against photos, rendered submodel by submodel."""
    where = [scene.params.choose_submodel(frame.camera.world_from_cam[:, 3]) for frame in frames]
    values = []
    for i in np.argsort(where, kind="stable"):
        photo = load_composited(frames[i], capture.background)
        error = float(np.mean((render_camera(scene, frames[i].camera) - photo) ** 2))
        values.append(min(mse_to_psnr(error), 100.0))
    return float(np.mean(values)) if values else 0.0
