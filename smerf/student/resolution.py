"""How fine a student's grids are: twice the configured resolution, where a scene is small enough for it."""

from __future__ import annotations

from dataclasses import replace

import torch

from smerf.capture.types import Capture
from smerf.engine.device import scope
from smerf.fields.ray_bank import RayBank
from smerf.student.config import StudentConfig
from smerf.student.initialise import VoxelVotes
from smerf.student.model import grid_spec
from smerf.student.partition import Partition
from smerf.student.teacher_rays import TeacherRays
from smerf.teacher.model import Teacher

__all__ = ["choose_resolution"]

_RAYS = 131072


def choose_resolution(
    config: StudentConfig,
    teacher: Teacher,
    capture: Capture,
    partition: Partition,
    device: torch.device | str = "cpu",
) -> StudentConfig:
    """Return the configuration at the resolution that the scene affords.

    A lone object's surface fills few voxel blocks, and twice the resolution shows it better in the same time; a
    scene with surroundings has more to learn than the steps teach. Teacher rays count the blocks.
    """
    if not config.most_blocks or len(partition) > 1:
        return config
    finer = replace(
        config, voxel_resolution=2 * config.voxel_resolution, plane_resolution=2 * config.plane_resolution
    )
    with scope(torch.device(device)):
        rays = TeacherRays(
            teacher.to(device) if isinstance(teacher, torch.nn.Module) else teacher,
            RayBank(capture.split("train"), device=device),
            1,
            origin_jitter=config.origin_jitter,
            direction_jitter=config.direction_jitter,
            generator=torch.Generator(device).manual_seed(config.seed + 5),
        )
        votes = VoxelVotes(grid_spec(finer, partition, 0), config.seen_weight)
        votes.add(rays.fresh(_RAYS))
    return finer if int(votes.block_index(config.seen_reach).max()) < config.most_blocks else config
