"""What a distillation decides by itself, once and before it begins: resolution, scale, interpolated views."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from smerf.capture.types import Capture
from smerf.engine.device import scope
from smerf.fields.ray_bank import RayBank
from smerf.student.config import StudentConfig
from smerf.student.division import looks_about
from smerf.student.model import grid_spec
from smerf.student.partition import Partition
from smerf.student.ray_pool import TeacherRays, shown_exposure
from smerf.student.visibility import VoxelVotes
from smerf.teacher.model import FieldTeacher, Teacher

__all__ = ["choose_partition", "is_resolved", "resolve_config"]

_RAYS = 131072
_INTERPOLATION = 0.25
"""Fraction of interpolated views where visitors go between photos, or cells are so small that few are from any one."""
_log = logging.getLogger(__name__)


def is_resolved(config: StudentConfig) -> bool:
    """Return whether nothing is left for ``resolve_config`` to decide."""
    return config.max_blocks == 0 and None not in (config.submodel_scale, config.view_interpolation)


def resolve_config(
    config: StudentConfig, teacher: Teacher, capture: Capture, device: torch.device | str = "cpu"
) -> StudentConfig:
    """Return the configuration that distilling runs with, and log what was decided; a resolved one stays as it is.

    A lone object's surface fills few voxel blocks, and twice the resolution shows it better in the same time; a scene
    with surroundings has more to learn than the steps teach. Teacher rays count the blocks against ``max_blocks``,
    which is 0 afterwards. Where K > 1, submodels share the configured resolution.

    Raises:
        UsageError: If the student is to be conditioned on exposure and the teacher knows none.
    """
    shown_exposure(config, teacher)
    if is_resolved(config):
        return config
    is_alone, scale, between = config.partition == 1, config.submodel_scale, config.view_interpolation
    if scale is None:
        scale = float(teacher.scene_scale) if is_alone else config.partition * config.cell_fill
    if between is None:
        many = capture.background is None and looks_about(capture.split("train"))
        between = _INTERPOLATION if many or not is_alone else 0.0
    limit = config.max_blocks
    own = config.photo_fraction if _shows_photos(teacher) and config.patch == 1 else 0.0
    config = replace(
        config, submodel_scale=scale, view_interpolation=between, max_blocks=0, photo_fraction=own
    )
    if limit and is_alone:
        finer = replace(
            config, voxel_resolution=2 * config.voxel_resolution, plane_resolution=2 * config.plane_resolution
        )
        if _count_blocks(finer, teacher, capture, device) <= limit:
            config = finer
    _log.info(
        "student: voxel_resolution %d, plane_resolution %d, submodel_scale %g, view_interpolation %g, %d submodels",
        config.voxel_resolution,
        config.plane_resolution,
        scale,
        between,
        len(choose_partition(capture, config)),
    )
    return config


def _shows_photos(teacher: Teacher) -> bool:
    """Return whether the teacher is to show the capture's photos as they are, along the rays of their cameras."""
    if not isinstance(teacher, FieldTeacher):
        return False
    return teacher.appearance is None and teacher.exposure is None and not teacher.config.refine_cameras


def choose_partition(capture: Capture, config: StudentConfig) -> Partition:
    """Return the submodels of a capture: the cells that hold a training camera.

    Raises:
        ValueError: If the configuration is not resolved.
    """
    if config.submodel_scale is None or not is_resolved(config):
        raise ValueError("student config: expected a resolved one; call smerf.student.plan.resolve_config")
    frames = capture.split("train")
    if config.partition == 1 or not frames:
        return Partition(1, (0,), config.submodel_scale)
    centres = np.stack([frame.camera.world_from_cam[:, 3] for frame in frames])
    return Partition.of_cameras(config.partition, centres, config.submodel_scale)


def _count_blocks(
    config: StudentConfig, teacher: Teacher, capture: Capture, device: torch.device | str
) -> int:
    """Return how many voxel blocks teacher rays through the training pixels need."""
    config = replace(config, patch=1, view_interpolation=0.0)
    with scope(torch.device(device)):
        source = TeacherRays(
            teacher.to(device) if hasattr(teacher, "to") else teacher,
            RayBank(capture.split("train"), device=device),
            config,
            torch.Generator(device).manual_seed(config.seed + 5),
        )
        votes = VoxelVotes(grid_spec(config, choose_partition(capture, config), 0), config.visible_weight)
        batch = source.sample(_RAYS)
        votes.add(batch.rays, batch.edges, batch.weights)
        return int(votes.block_index(config.visible_margin).max()) + 1
