"""The losses of a distillation step by autograd, and the rays of two of them: sparsity and consistency."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.fields.rendering import charbonnier, distortion_loss
from smerf.kernels import GridSpec, grid_render
from smerf.kernels.grid_render import BLOCK
from smerf.kernels.reference.contraction import contraction_speed
from smerf.kernels.reference.grid_render import viewer_axes
from smerf.student.initialise import to_training
from smerf.student.model import StudentRecord, Submodel
from smerf.student.partition import Partition
from smerf.student.ray_pool import TeacherBatch, TeacherRays

__all__ = ["Consistency", "StepRays", "StepResult", "patch_dissimilarity", "render_shared_rays", "sparse_rays",
           "student_losses"]  # fmt: skip

_CHUNK = 16384
_MAX_SAMPLED = 8
"""Rays sampled, in multiples of those wanted, after which a submodel with little in common with others gives up."""
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class StepRays:
    """What one step renders, and the weights of the schedule.

    ``background`` (R, 3) lies behind the batch's rays. ``s_edges`` (R, S + 1) are its interval ends in normalised
    distance, if there is a distortion loss; ``sparse`` are the rays of the sparsity loss, if there is one.
    """

    batch: TeacherBatch
    background: Tensor
    tau: float
    geometry_weight: float
    s_edges: Tensor | None = None
    sparse: Rays | None = None
    sparse_edges: Tensor | None = None


@dataclass(frozen=True)
class StepResult:
    """Weighted losses by name, and per ray the mean squared error (R,) and the rendered weights (R, S)."""

    losses: dict[str, Tensor]
    square: Tensor
    weights: Tensor


def student_losses(record: StudentRecord, submodel: Submodel, given: StepRays) -> StepResult:
    """Render a step's rays and compare them with the teacher; gradients flow to networks and grid records."""
    config, grids, batch, rays = record.config, submodel.grids, given.batch, given.batch.rays
    anchor = torch.zeros(1, requires_grad=True)
    features, weights = grid_render(grids, anchor, rays.origins, rays.directions, batch.edges, given.tau)
    opacity = weights.sum(-1, keepdim=True)
    colour = record.shade(submodel, features, opacity, rays, given.background, batch.log_exposure)
    rest = (1.0 - batch.weights.sum(-1, keepdim=True)).clamp_min(0.0)
    truth = batch.colour + rest * given.background
    losses = {
        "colour": charbonnier(colour - truth),
        "geometry": given.geometry_weight * (weights - batch.weights).abs().sum(-1).mean(),
    }
    if config.patch > 1:
        losses["dssim"] = config.dssim_weight * patch_dissimilarity(colour, truth, config.patch**2)
    if given.s_edges is not None:
        losses["distortion"] = config.distortion_weight * distortion_loss(given.s_edges, weights)
    if given.sparse is not None and given.sparse_edges is not None:
        sparse = given.sparse
        alpha = grid_render(grids, anchor, sparse.origins, sparse.directions, given.sparse_edges)[1]
        fraction = int((grids.block_index >= 0).sum()) / grids.block_index.numel()
        losses["sparsity"] = config.sparsity_weight * fraction * alpha.sum(-1).mean()
    return StepResult(losses, (colour.detach() - truth).square().mean(-1), weights.detach())


def patch_dissimilarity(ours: Tensor, theirs: Tensor, pixels: int) -> Tensor:
    """Return the mean of (1 - SSIM) / 2 over patches: one box window a patch, channels averaged.

    Args:
        ours: Colours (P * pixels, 3), the pixels of a patch in a row; gradients flow to them.
        theirs: The colours to compare with, of the same shape.
        pixels: Rays a patch.
    """
    a, b = ours.view(-1, pixels, 3), theirs.view(-1, pixels, 3)
    mean_a, mean_b = a.mean(1), b.mean(1)
    variance_a = (a.square().mean(1) - mean_a.square()).clamp_min(0.0)
    variance_b = (b.square().mean(1) - mean_b.square()).clamp_min(0.0)
    covariance = (a * b).mean(1) - mean_a * mean_b
    # Rounding may break Cauchy's inequality.
    limit = (variance_a * variance_b + 1e-12).sqrt()
    covariance = torch.minimum(torch.maximum(covariance, -limit), limit)
    light = (2.0 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    structure = (2.0 * covariance + _C2) / (variance_a + variance_b + _C2)
    return 0.5 * (1.0 - light * structure).mean()


def sparse_rays(
    spec: GridSpec, blocks: Tensor, count: int, samples: int, generator: torch.Generator
) -> tuple[Rays, Tensor]:
    """Sample rays through uniformly random points of contracted space, one marching step long.

    The mean alpha of their intervals is the sparsity loss (SMERF, arXiv 2312.07541, section 6.7), of the part of space
    that holds blocks: elsewhere it is zero.

    Args:
        spec: The grids.
        blocks: Coordinates (N, 3) of the stored voxel blocks.
        count: Points.
        samples: Intervals a ray; all but the first have no length.
        generator: Of points and directions.

    Returns:
        Rays (count,) and edges (count, samples + 1) in training units.
    """
    device = blocks.device
    chosen = torch.randint(len(blocks), (count,), generator=generator, device=device)
    inside = torch.rand(count, 3, generator=generator, device=device)
    points = to_training((blocks[chosen] + inside) * (4.0 * BLOCK / spec.voxel_resolution) - 2.0, spec)
    directions = torch.randn(count, 3, generator=generator, device=device)
    directions = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    centre = torch.tensor(spec.centre, device=device)
    speed = contraction_speed(viewer_axes(points - centre) * spec.scale, viewer_axes(directions))
    length = spec.step / (spec.scale * speed.clamp_min(1e-12))
    # From some lengths away: the point that a frustum is read at is then nearly its middle.
    edges = torch.stack([5.5 * length, *[6.5 * length] * samples], -1)
    origins = points - 6.0 * length[:, None] * directions
    return Rays(origins, directions, torch.zeros(count, device=device)), edges


def render_shared_rays(
    record: StudentRecord, submodel: Submodel, number: int, source: TeacherRays, count: int
) -> dict[str, Tensor]:
    """Render ``count`` rays of a finished submodel that its neighbours serve too, or fewer if they are rare.

    Args:
        record: The student, with all submodels in its partition.
        submodel: What is rendered.
        number: Which one it is in the partition.
        source: Where its rays come from.
        count: Rays to render.

    Returns:
        ``origins``, ``directions`` and ``colour``, (N, 3) each, over the student's background.
    """
    parts: list[dict[str, Tensor]] = []
    found = sampled = 0
    while found < count and sampled < _MAX_SAMPLED * count:
        batch = source.sample(min(_CHUNK, count))
        sampled += len(batch.rays)
        home, near = record.partition.served(batch.rays.origins)
        batch = batch[near.any(-1) | (home != number)]
        colour = record.render_submodel(submodel, batch.rays, batch.edges)
        parts.append({"origins": batch.rays.origins, "directions": batch.rays.directions, "colour": colour})
        found += len(colour)
    # Rays of a patch stand in one place, so patches are whole up to here.
    count -= count % source.pixels
    return {name: torch.cat([part[name] for part in parts])[:count] for name in parts[0]}


class Consistency:
    """The rays on which a submodel is to agree with finished neighbours.

    SMERF (arXiv 2312.07541, section 6.6) renders a step's rays a second time with a neighbouring submodel, and both
    learn from the difference. Here one submodel's grids are in memory at a time: a finished submodel renders rays that
    its neighbours serve too, and those trained after it learn these colours as they learn the teacher's. Both also
    learn from the same teacher, so it makes little difference that the earlier one no longer moves.
    """

    def __init__(
        self,
        source: TeacherRays,
        shared: Iterable[dict[str, Tensor]],
        partition: Partition,
        submodel: int,
        background: tuple[float, float, float],
    ) -> None:
        """Keep, of the rays that neighbours have rendered over a background, those that the submodel serves.

        ``source`` queries the teacher for intervals and weights, and says how many rays a patch has.
        """
        self.pixels = source.pixels
        parts = []
        for part in shared:
            home, near = partition.served(part["origins"])
            ours = near[:, submodel] | (home == submodel)
            rays = Rays(part["origins"][ours], part["directions"][ours], torch.zeros(int(ours.sum())))
            answer = source.query(rays)
            rest = (1.0 - answer.weights.sum(-1, keepdim=True)).clamp_min(0.0)
            colour = part["colour"][ours] - rest * torch.tensor(background)
            parts.append(replace(answer, colour=colour))
        self._rays = functools.reduce(TeacherBatch.joined, parts) if parts else None

    def __len__(self) -> int:
        return 0 if self._rays is None else len(self._rays.rays)

    def append_to(self, batch: TeacherBatch, count: int, generator: torch.Generator) -> TeacherBatch:
        """Return a batch with about ``count`` of the rays behind it, in whole patches; the batch if there are none."""
        patches = len(self) // self.pixels
        if self._rays is None or not patches:
            return batch
        first = torch.randint(patches, (max(1, count // self.pixels),), generator=generator) * self.pixels
        return batch.joined(self._rays[(first[:, None] + torch.arange(self.pixels)).flatten()])
