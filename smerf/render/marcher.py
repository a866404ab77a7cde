"""The reference's ray march: a set of rays on its way through one submodel, step by step as the official viewer goes.

Letters and frames as in ``smerf.render.reference``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from smerf.kernels.reference.contraction import uncontract
from smerf.render.assets import lookup, sample_assets
from smerf.render.objects import ObjectMarch
from smerf.render.pieces import box_span, enter_region, region_exits
from smerf.scene.region import support
from smerf.scene.types import BakedSubmodel, SceneParams
from smerf.scene.view import MarchOptions

__all__ = ["Marched", "Marcher"]

_WALL = 2.0 - 1e-3
"""A ray that leaves a region beyond this has left the scene."""

_ALPHA_MIN = 0.25 / 255.0
"""Samples below this add no colour (their opacity still counts)."""

_VISIBILITY_MIN = 1.0 / 255.0
_CELL = 8
"""Texels per cell of the distance grid and the packed occupancy grid."""


def _cell_of(z: Tensor, size: float, count: int) -> Tensor:
    return ((z + 2.0) / size).floor().long().clamp(0, count - 1)


class Marched(NamedTuple):
    """What marched rays have met, in order.

    ``total`` are the blended channels (R, 14) in [0, 1] (rgb, f0..f3, then the coarse seven; (R, 7) without coarse
    channels), ``visibility`` (R,) what is left for the background, ``unknown`` (R,) how much of a ray no photo
    supports (0 where the submodel has no known region), ``depth`` (R,) the world distance at which a ray is
    spent, 0 where that never happens, ``lit`` (R,) how much of the highlight a ray gets, ``owner`` (R,) the object with
    the greatest part of its weight, int64, 0 for none or where nobody asks.
    """

    total: Tensor
    visibility: Tensor
    unknown: Tensor
    depth: Tensor
    lit: Tensor
    owner: Tensor


class Marcher:
    """State of a set of rays on their way through one submodel. Rays leave the arrays as they finish."""

    _PER_RAY = (
        "ray",
        "origin",
        "direction",
        "view",
        "exits",
        "piece",
        "start",
        "along",
        "leave",
        "s",
        "cell_end",
    )
    _BLENDED = ("total", "visibility", "unknown", "depth")

    def __init__(
        self,
        submodel: BakedSubmodel,
        params: SceneParams,
        options: MarchOptions,
        o: Tensor,
        d: Tensor,
        near: float,
        spent: float,
        picks: bool,
    ) -> None:
        self.spent = spent
        self.submodel, self.params, self.options = submodel, params, options
        self.view = d / d.norm(dim=-1, keepdim=True)
        self.distance = torch.from_numpy(submodel.distance[_CELL])
        self.occupancy = torch.from_numpy(submodel.occupancy[_CELL])
        count = len(o)
        self.ray, self.origin, self.direction = torch.arange(count), o, d
        self.exits = region_exits(o, d, near)
        first = torch.full((count,), near)
        middle = torch.lerp(first, self.exits[:, 0].clamp_max(1e30), 0.5)
        self.start, self.along, _, self.leave = enter_region(o, d, first, middle)
        self.piece = torch.ones(count, dtype=torch.long)
        self.s = torch.zeros(count)
        self.cell_end = torch.full((count,), -math.inf)
        self.visibility, self.average = torch.ones(count), torch.ones(count)
        self.total = torch.zeros(count, 14 if params.has_coarse else 7)
        self.is_done = ~torch.isfinite(self.exits[:, 0])
        self.unknown, self.depth = torch.zeros(count), torch.zeros(count)
        self.out = [getattr(self, name).clone() for name in self._BLENDED]
        self.objects = ObjectMarch(submodel, params, options, count) if picks else None

    def run(self) -> Marched:
        """March until every ray has left or is opaque."""
        multiplier = self.options.step_multiplier
        for _ in range(multiplier * math.ceil(math.sqrt(2.0) * self.params.triplane_resolution)):
            self._retire()
            if not len(self.ray):
                break
            self._step(self.params.triplane_voxel_size / multiplier)
        self.is_done[:] = True
        self._retire()
        total, visibility, unknown, depth = self.out
        lit, owner = torch.zeros_like(visibility), torch.zeros_like(visibility, dtype=torch.long)
        if self.objects is not None:
            lit, owner = self.objects.lit, self.objects.owner(visibility)
        return Marched(total, visibility, unknown, depth, lit, owner)

    def _retire(self) -> None:
        self.is_done |= self.visibility <= _VISIBILITY_MIN
        if not self.is_done.any():
            return
        done, keep = self.is_done.nonzero()[:, 0], (~self.is_done).nonzero()[:, 0]
        if self.submodel.known is not None:
            # What is left of a ray shows what lies behind everything.
            end = self.start[done] + self.leave[done, None] * self.along[done]
            self.unknown[done] += self.visibility[done] * (1.0 - self._support(end, self.view[done]))
        for name, values in zip(self._BLENDED, self.out):
            values[self.ray[done]] = getattr(self, name)[done]
        for name in (*self._PER_RAY, *self._BLENDED, "average", "is_done"):
            setattr(self, name, getattr(self, name)[keep])

    def _step(self, step: float) -> None:
        stride = torch.full_like(self.s, step)
        if self.options.enlarge_steps_when_occluded:
            delay = self.options.visibility_delay
            self.average = delay * self.average + (1.0 - delay) * self.visibility
            stride = step * (10.0 - 9.0 * (self.average / 0.8).clamp_max(1.0).sqrt())
        self._change_region((self.s > self.leave).nonzero()[:, 0], stride)
        live = (~self.is_done).nonzero()[:, 0]
        live = self._skip_by_distance(live)
        live = self._skip_by_occupancy(live, stride)
        self._blend(live, stride)

    def _change_region(self, rays: Tensor, stride: Tensor) -> None:
        end = self.start[rays] + self.leave[rays, None] * self.along[rays]
        has_left = end.abs().amax(-1) >= _WALL
        self.is_done[rays[has_left]] = True
        rays = rays[~has_left]
        if not len(rays):
            return
        # A piece too short for two well separated points is skipped: one of less than 16 steps in official scenes, and
        # one as long where steps are longer, but for four, below which rounding would decide what is seen.
        least = min(16.0, max(4.0, self.params.triplane_resolution / 128.0)) * stride[rays]
        piece = self.piece[rays]
        for _ in range(5):
            here = self.exits[rays, piece.clamp_max(6)]
            before = self.exits[rays, piece - 1]
            is_short = (before >= here - least) & (piece < 6)
            piece = torch.where(is_short, piece + 1, piece)
        before, here = self.exits[rays, piece - 1], self.exits[rays, piece.clamp_max(6)]
        has_none = ~torch.isfinite(here)
        self.is_done[rays[has_none]] = True
        rays, piece, before, here = (a[~has_none] for a in (rays, piece, before, here))
        start, along, enter, leave = enter_region(
            self.origin[rays],
            self.direction[rays],
            torch.lerp(before, here, 0.1),
            torch.lerp(before, here, 0.9),
        )
        self.start[rays], self.along[rays], self.leave[rays] = start, along, leave
        self.s[rays] = enter + 0.5 * stride[rays]
        self.cell_end[rays] = -math.inf
        self.piece[rays] = piece + 1

    def _skip_by_distance(self, rays: Tensor) -> Tensor:
        size = _CELL * self.params.triplane_voxel_size
        z = self.start[rays] + self.s[rays, None] * self.along[rays]
        distance = lookup(self.distance, _cell_of(z, size, self.distance.shape[0]))
        self.s[rays] += distance * size
        return rays[distance == 0]

    def _skip_by_occupancy(self, rays: Tensor, stride: Tensor) -> Tensor:
        """Drop rays in empty cells after moving them past; a full cell's answer holds until the ray leaves it."""
        is_new = self.s[rays] > self.cell_end[rays]
        new = rays[is_new]
        size = _CELL * self.params.triplane_voxel_size
        z = self.start[new] + self.s[new, None] * self.along[new]
        position = (z + 2.0) / size
        low = position.floor()
        byte = lookup(self.occupancy, low.long().clamp(0, self.occupancy.shape[0] - 1)).long()
        child = (position - low > 0.5).long()
        is_empty = (byte >> (4 * child[:, 0] + 2 * child[:, 1] + child[:, 2])) & 1 == 0
        # A cell without any child is left as a whole.
        is_void = (byte == 0)[:, None]
        corner = torch.where(is_void, low, low + 0.5 * child) * size - 2.0
        edge = torch.where(is_void, size, 0.5 * size)
        _, end = box_span(corner, corner + edge, self.start[new], self.along[new])
        self.cell_end[new] = end
        past = torch.maximum(self.s[new], end) + 0.5 * stride[new]
        self.s[new] = torch.where(is_empty, past, self.s[new])
        keep = torch.ones_like(is_new)
        keep[is_new] = ~is_empty
        return rays[keep]

    def _support(self, z: Tensor, view: Tensor) -> Tensor:
        assert self.submodel.known is not None
        return torch.from_numpy(support(self.submodel.known, z.numpy(), view.numpy())).float()

    def _blend(self, rays: Tensor, stride: Tensor) -> None:
        if not len(rays):
            return
        s, start, along = self.s[rays], self.start[rays], self.along[rays]
        z = start + s[:, None] * along
        density, fine, coarse = sample_assets(self.submodel, self.params, z)
        after = start + torch.minimum(s + stride[rays], self.leave[rays])[:, None] * along
        delta = (uncontract(after) - uncontract(z)).norm(dim=-1) / self.params.submodel_scale
        alpha = -torch.expm1(-torch.exp(density - 1.0) * delta)
        if self.objects is not None:
            alpha = self.objects.visible(z, alpha)
        channels = torch.cat([fine, coarse], -1) if self.params.has_coarse else fine
        weight = torch.where(alpha > _ALPHA_MIN, alpha * self.visibility[rays], 0.0)
        self.total[rays] += weight[:, None] * torch.sigmoid(channels)
        if self.submodel.known is not None:
            self.unknown[rays] += weight * (1.0 - self._support(z, self.view[rays]))
        if self.objects is not None:
            self.objects.add(self.ray[rays], weight)
        left = self.visibility[rays] * (1.0 - alpha)
        is_spent = (self.visibility[rays] > self.spent) & (left <= self.spent)
        far = (uncontract(z) - self.origin[rays]).norm(dim=-1) / self.params.submodel_scale
        self.depth[rays] = torch.where(is_spent, far, self.depth[rays])
        self.visibility[rays] = left
        self.s[rays] = s + stride[rays]
