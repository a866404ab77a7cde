"""The student: for each submodel, quantised grids; for all, a lattice of appearance networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera, Capture
from smerf.errors import UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays
from smerf.fields.sampling import halved
from smerf.kernels import Grids, GridSpec, grid_render
from smerf.student.alive import AliveCells
from smerf.student.appearance import AppearanceLattice
from smerf.student.backdrop import backdrop_features
from smerf.student.config import StudentConfig
from smerf.student.exposure import expose
from smerf.student.partition import Partition
from smerf.teacher.model import Teacher

__all__ = ["Student", "grid_spec", "surroundings"]

_CHUNK = 16384


def grid_spec(config: StudentConfig, partition: Partition, submodel: int) -> GridSpec:
    """Return the sizes and the place of one submodel's grids."""
    x, y, z = (float(value) for value in partition.centre(submodel))
    return GridSpec(config.voxel_resolution, config.plane_resolution, partition.scale, (x, y, z))


def surroundings(capture: Capture) -> tuple[tuple[float, float, float], tuple[float, float, float] | None]:
    """Return the colour that the networks see behind a capture's scene, and that of its backdrop, if it has one."""
    white, grey = (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)
    return (white, white) if capture.background == "white" else (grey, None)


@dataclass
class Student:
    """What distillation produces and baking reads.

    ``grids[k]`` belongs to cell ``partition.cells[k]``; a student that is opened from disk reads it when it is asked
    for, in place of the one before. ``background`` (3,) is what the network sees behind
    the scene when rendering; ``tau`` is the final culling threshold; ``alive[k]`` is what baking keeps of
    ``grids[k]``; ``backdrop`` is the colour of the shell around a scene without surroundings;
    ``block_weights[k]`` (B, B, B), if known, is what each voxel block of ``grids[k]`` contributes to a ray on average;
    ``log_exposure`` is log E of what is shown, if the networks are told (``smerf.student.exposure``).
    """

    config: StudentConfig
    partition: Partition
    grids: Sequence[Grids]
    appearance: AppearanceLattice
    background: tuple[float, float, float]
    near: float
    tau: float
    alive: Sequence[AliveCells]
    teacher: Teacher | None = None
    backdrop: tuple[float, float, float] | None = None
    block_weights: Sequence[Tensor] = ()
    log_exposure: float | None = None

    @property
    def device(self) -> torch.device:
        """Where the grids and the networks lie."""
        return self.appearance.kernels[0].device

    def to(self, device: torch.device | str) -> Student:
        """Return the student on a device; its teacher and its networks move along."""
        teacher = self.teacher.to(device) if isinstance(self.teacher, torch.nn.Module) else self.teacher
        # What is loaded one at a time goes to the device as it is loaded.
        load = getattr(self.grids, "map", None)
        grids = load(lambda one: one.to(device)) if load else [one.to(device) for one in self.grids]
        return replace(self, grids=grids, appearance=self.appearance.to(device), teacher=teacher)

    def shade(
        self,
        features: Tensor,
        opacity: Tensor,
        rays: Rays,
        background: Tensor,
        submodel: int,
        log_exposure: Tensor | None = None,
    ) -> Tensor:
        """Return colours (R, 3): the diffuse colour plus the network's residual (SMERF, section 2.6).

        ``features`` (R, 14), ``opacity`` (R, 1), ``background`` (R, 3) or (3,). The background enters the
        network's input alone; a backdrop belongs to the scene. ``log_exposure`` (R,) is that of what is shown if not
        given.
        """
        rest = (1.0 - opacity).clamp_min(0.0)
        if self.backdrop is not None:
            spec = grid_spec(self.config, self.partition, submodel)
            features = features + rest * backdrop_features(self.backdrop, spec).to(rest)
            rest = torch.zeros_like(rest)
        behind = torch.cat([features[:, :3] + rest * background, features[:, 3:]], -1)
        if self.log_exposure is not None:
            behind = expose(behind, self.log_exposure if log_exposure is None else log_exposure[:, None])
        positions = self.partition.local(rays.origins, submodel)
        return features[:, :3] + self.appearance(behind, rays.directions, positions, submodel)

    @torch.no_grad()
    def render_rays(self, rays: Rays, edges: Tensor, submodel: int | None = None) -> Tensor:
        """Render rays over given intervals (R, S + 1) with final culling: (R, 3), unclamped."""
        owner = (
            self.partition.assign(rays.origins)
            if submodel is None
            else torch.full((len(rays),), submodel, device=rays.origins.device)
        )
        result = rays.origins.new_zeros(len(rays), 3)
        for k in owner.unique().tolist():
            here = owner == k
            mine = rays[here]
            features, weights = grid_render(
                self.grids[k], edges.new_zeros(1), mine.origins, mine.directions, edges[here], self.tau
            )
            opacity = weights.sum(-1, keepdim=True)
            background = torch.tensor(self.background, device=features.device)
            result[here] = self.shade(features, opacity, mine, background, k)
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
        rays = camera_rays(camera).to(self.device)
        if submodel is None:
            submodel = int(self.partition.assign(rays.origins[:1]))
        parts = []
        for start in range(0, len(rays), _CHUNK):
            chunk = rays[start : start + _CHUNK]
            edges = self.teacher.query(chunk).edges
            for _ in range(halvings):
                edges = halved(edges)
            parts.append(self.render_rays(chunk, edges, submodel))
        image = torch.cat(parts).clamp(0.0, 1.0)
        return image.view(camera.intrinsics.height, camera.intrinsics.width, 3).cpu().numpy()
