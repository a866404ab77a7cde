"""The student: what its submodels share, one submodel's grids and networks, and all of a scene's submodels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera, Capture
from smerf.errors import UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays
from smerf.fields.sampling import halved
from smerf.kernels import Grids, GridSpec, grid_render
from smerf.student.appearance import AppearanceLattice, expose
from smerf.student.backdrop import backdrop_features
from smerf.student.config import StudentConfig
from smerf.student.partition import Partition
from smerf.student.visibility import OccupiedCells
from smerf.teacher.model import Teacher

__all__ = ["Student", "StudentRecord", "Submodel", "grid_spec"]

_CHUNK = 16384


def grid_spec(config: StudentConfig, partition: Partition, submodel: int) -> GridSpec:
    """Return the sizes and the place of one submodel's grids."""
    x, y, z = (float(value) for value in partition.centre(submodel))
    return GridSpec(config.voxel_resolution, config.plane_resolution, partition.scale, (x, y, z))


@dataclass
class Submodel:
    """One cell's part of a student.

    ``cell`` is its linear index in the partition; ``occupied`` marks what baking keeps of ``grids``;
    ``block_weights`` (B, B, B), if known, is what each voxel block contributes to a ray on average.
    """

    cell: int
    grids: Grids
    appearance: AppearanceLattice
    occupied: OccupiedCells
    block_weights: Tensor | None = None

    def to(self, device: torch.device | str) -> Submodel:
        """Return the submodel on a device; its networks move along."""
        return replace(self, grids=self.grids.to(device), appearance=self.appearance.to(device))


@dataclass
class StudentRecord:
    """What all submodels of a student have in common.

    ``background`` (3,) is what the networks see behind the scene when rendering; ``tau`` is the final culling
    threshold; ``backdrop`` is the colour of the shell around a scene without surroundings; ``log_exposure`` is log E
    of what is shown, if the networks are conditioned on exposure.
    """

    config: StudentConfig
    partition: Partition
    background: tuple[float, float, float]
    near: float
    tau: float
    backdrop: tuple[float, float, float] | None = None
    log_exposure: float | None = None

    @classmethod
    def of(
        cls, config: StudentConfig, partition: Partition, capture: Capture, log_exposure: float | None = None
    ) -> StudentRecord:
        """Describe the student of a capture."""
        white, grey = (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)
        background, backdrop = (white, white) if capture.background == "white" else (grey, None)
        near = float(capture.near)
        return cls(config, partition, background, near, config.tau_end, backdrop, log_exposure)

    def shade(
        self,
        submodel: Submodel,
        features: Tensor,
        opacity: Tensor,
        rays: Rays,
        background: Tensor,
        log_exposure: Tensor | None = None,
    ) -> Tensor:
        """Return colours (R, 3): the diffuse colour plus the network's residual (SMERF, section 2.6).

        ``features`` (R, 14), ``opacity`` (R, 1), ``background`` (R, 3) or (3,). The background enters the
        network's input alone; a backdrop belongs to the scene. ``log_exposure`` (R,) is that of what is shown if not
        given.
        """
        spec, rest = submodel.grids.spec, (1.0 - opacity).clamp_min(0.0)
        if self.backdrop is not None:
            features = features + rest * backdrop_features(self.backdrop, spec).to(rest)
            rest = torch.zeros_like(rest)
        behind = torch.cat([features[:, :3] + rest * background, features[:, 3:]], -1)
        if self.log_exposure is not None:
            behind = expose(behind, self.log_exposure if log_exposure is None else log_exposure[:, None])
        centre = torch.tensor(spec.centre, dtype=rays.origins.dtype, device=rays.origins.device)
        positions = (rays.origins - centre) * self.partition.edge
        return features[:, :3] + submodel.appearance(behind, rays.directions, positions)

    @torch.no_grad()
    def render_submodel(self, submodel: Submodel, rays: Rays, edges: Tensor) -> Tensor:
        """Render rays over given intervals (R, S + 1) with final culling: (R, 3), unclamped."""
        features, weights = grid_render(
            submodel.grids, edges.new_zeros(1), rays.origins, rays.directions, edges, self.tau
        )
        background = torch.tensor(self.background, device=features.device)
        return self.shade(submodel, features, weights.sum(-1, keepdim=True), rays, background)


@dataclass
class Student(StudentRecord):
    """What distillation produces and baking reads.

    ``submodels[k]`` belongs to cell ``partition.cells[k]``; of a student that is opened from disk, it is read when
    asked for, in place of the one before. ``networks``, which are small, are those of all submodels.
    """

    submodels: Sequence[Submodel] = field(default=(), repr=False)
    networks: Sequence[AppearanceLattice] = field(default=(), repr=False)
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        if not self.networks:
            self.networks = [one.appearance for one in self.submodels]

    def network_arrays(self) -> dict[str, Tensor]:
        """Return the networks' parameters (K, P, P, P, ...) under the names of the asset format."""
        each = [one.arrays() for one in self.networks]
        return {name: torch.stack([arrays[name] for arrays in each]) for name in each[0]}

    def to(self, device: torch.device | str) -> Student:
        """Return the student on a device; its teacher and the submodels in memory move along."""
        teacher = (
            self.teacher.to(device)
            if self.teacher is not None and hasattr(self.teacher, "to")
            else self.teacher
        )
        # What is loaded one at a time goes to the device as it is loaded.
        load = getattr(self.submodels, "map", None)
        submodels = load(lambda one: one.to(device)) if load else [one.to(device) for one in self.submodels]
        networks = [one.to(device) for one in self.networks]
        return replace(self, submodels=submodels, networks=networks, teacher=teacher)

    def render_rays(self, rays: Rays, edges: Tensor, submodel: int | None = None) -> Tensor:
        """Render rays over given intervals (R, S + 1) with final culling: (R, 3), unclamped.

        ``submodel`` is that of each ray's origin if not given.
        """
        if submodel is not None:
            return self.render_submodel(self.submodels[submodel], rays, edges)
        owner = self.partition.assign(rays.origins)
        result = rays.origins.new_zeros(len(rays), 3)
        for k in owner.unique().tolist():
            here = owner == k
            result[here] = self.render_submodel(self.submodels[k], rays[here], edges[here])
        return result

    def render_image(self, camera: Camera, submodel: int | None = None, halvings: int = 1) -> np.ndarray:
        """Render a camera over the teacher's intervals, each divided in two: (H, W, 3) float32 in [0, 1].

        Half an interval is about the step with which the baked scene is marched. ``submodel`` is the camera's own if
        not given; ``halvings`` is how often intervals are divided.

        Raises:
            UsageError: If the student was loaded without its teacher.
        """
        if self.teacher is None:
            raise UsageError(
                "the simulated student renders over its teacher's intervals: load it with the teacher"
            )
        rays = camera_rays(camera)
        if submodel is None:
            submodel = int(self.partition.assign(rays.origins[:1]))
        part = self.submodels[submodel]
        rays, parts = rays.to(part.grids.voxels.device), []
        for start in range(0, len(rays), _CHUNK):
            chunk = rays[start : start + _CHUNK]
            edges = self.teacher.query(chunk).edges
            for _ in range(halvings):
                edges = halved(edges)
            parts.append(self.render_submodel(part, chunk, edges))
        image = torch.cat(parts).clamp(0.0, 1.0)
        return image.view(camera.intrinsics.height, camera.intrinsics.width, 3).cpu().numpy()
