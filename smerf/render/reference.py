"""Plain PyTorch renderer of baked scenes: what the native and the GLSL renderers are measured against.

Follows the official viewer step by step: piecewise-straight rays through the contraction, distance grid,
packed occupancy, block-sparse atlas plus three planes, gated sum, compositing, and one small network per
pixel. Letters: R rays, N points. ``t`` is the world-side ray parameter (t = 1 is the near plane), ``s`` the
contracted arc length within one region. Sources: MERF (arXiv 2302.12249), SMERF (arXiv 2312.07541) and the
official viewer's behaviour.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Camera
from smerf.kernels.reference.contraction import uncontract
from smerf.render.camera import near_rays, to_submodel
from smerf.render.pieces import box_span, enter_region, region_exits
from smerf.scene.region import support
from smerf.scene.types import BakedScene, BakedSubmodel, SceneParams, lattice_mlp_at
from smerf.scene.view import MarchOptions, choose_background, choose_exposure, choose_near, unknown_colour

__all__ = ["Marched", "march", "march_all", "render_camera", "render_rays", "sample_assets", "shade"]

_WALL = 2.0 - 1e-3
"""A ray that leaves a region beyond this has left the scene."""

_ALPHA_MIN = 0.25 / 255.0
"""Samples below this add no colour (their opacity still counts)."""

_VISIBILITY_MIN = 1.0 / 255.0
_CELL = 8
"""Texels per cell of the distance grid and the packed occupancy grid."""

_CHUNK = 1 << 16
"""Rays marched together: large enough to hide the cost of one call, small enough for a laptop's cache."""


def _cell_of(z: Tensor, size: float, count: int) -> Tensor:
    return ((z + 2.0) / size).floor().long().clamp(0, count - 1)


def _lookup(grid: Tensor, cell: Tensor) -> Tensor:
    return grid[cell[:, 0], cell[:, 1], cell[:, 2]]


def _trilinear(atlas: Tensor, where: Tensor) -> Tensor:
    """Interpolate a uint8 atlas (W, H, D, 8) at positions (N, 3) in voxels, sample centres at whole numbers:
    (N, 8).
    """
    sizes = torch.tensor(atlas.shape[:3])
    low = where.floor()
    frac = where - low
    total = where.new_zeros(len(where), 8)
    for corner in np.ndindex(2, 2, 2):
        offset = torch.tensor(corner)
        index = torch.minimum((low.long() + offset).clamp_min(0), sizes - 1)
        weight = torch.where(offset == 1, frac, 1.0 - frac).prod(-1, keepdim=True)
        total += weight * _lookup(atlas, index)
    return total


def _bilinear(plane: Tensor, where: Tensor) -> Tensor:
    """Interpolate a uint8 plane (T, T, 8) at positions (N, 2) in texels, clamped at the edge: (N, 8)."""
    low = where.floor()
    frac = where - low
    total = where.new_zeros(len(where), 8)
    for corner in np.ndindex(2, 2):
        offset = torch.tensor(corner)
        index = (low.long() + offset).clamp(0, plane.shape[0] - 1)
        weight = torch.where(offset == 1, frac, 1.0 - frac).prod(-1, keepdim=True)
        total += weight * plane[index[:, 0], index[:, 1]]
    return total


def _dequantise(params: SceneParams, values: Tensor, count: int) -> Tensor:
    """Turn sums of ``count`` interpolated bytes (N, 8) into values; affine, so interpolation may come
    first.
    """
    (d0, d1), (f0, f1) = params.range_density, params.range_features
    low = values.new_tensor([d0] + 7 * [f0])
    high = values.new_tensor([d1] + 7 * [f1])
    return count * low + values * ((high - low) / 255.0)


def sample_assets(
    submodel: BakedSubmodel, params: SceneParams, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Read a submodel's arrays at contracted points, before any activation.

    Args:
        submodel: The arrays.
        params: The scene's parameters.
        positions: (N, 3) contracted, viewer axes, float32 or float64.

    Returns:
        ``density_pre`` (N,): the argument of ``exp(x - 1)``, -inf in an empty macroblock; ``fine`` (N, 7):
        r, g, b, f0 .. f3 of sparse grid plus gated planes, before the sigmoid; ``coarse`` (N, 7): the same
        of the sparse grid alone. In empty macroblocks both are 0.
    """
    atlas = torch.from_numpy(submodel.atlas)
    planes = torch.from_numpy(submodel.planes)
    blocks = torch.from_numpy(submodel.block_indices)
    edge = params.data_block_size
    # Sample centres: block b serves [b B + 0.5, (b + 1) B + 0.5) sparse voxels.
    grid_position = (positions + 2.0) / params.sparse_grid_voxel_size - 0.5
    block = (grid_position / edge).floor()
    index = block.long().clamp(0, blocks.shape[0] - 1)
    slot = _lookup(blocks, index).long()
    is_alive = slot[:, 0] != 255
    local = (grid_position - edge * block).clamp(0.0, float(edge))
    where = local + (edge + 1) * torch.where(is_alive[:, None], slot, 0)
    sparse = _dequantise(params, _trilinear(atlas, where), 1)
    texel = (positions + 2.0) / params.triplane_voxel_size - 0.5
    plane = _bilinear(planes[0], texel[:, [1, 2]])
    plane = plane + _bilinear(planes[1], texel[:, [0, 2]])
    plane = _dequantise(params, plane + _bilinear(planes[2], texel[:, [0, 1]]), 3)
    gated = sparse + (sparse[:, 7:] * plane if params.feature_gating else plane)
    density = torch.where(is_alive, gated[:, 0], -math.inf)
    return density, gated[:, 1:] * is_alive[:, None], sparse[:, 1:] * is_alive[:, None]


class Marched(NamedTuple):
    """What marched rays have met, in order.

    ``total`` are the blended channels (R, 14) in [0, 1] (rgb, f0..f3, then the coarse seven; (R, 7) without coarse
    channels), ``visibility`` (R,) what is left for the background, ``unknown`` (R,) how much of a ray no photo
    supports (0 where the submodel has no known region), ``depth`` (R,) the world distance at which a ray is
    spent, 0 where that never happens.
    """

    total: Tensor
    visibility: Tensor
    unknown: Tensor
    depth: Tensor


class _Marcher:
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
    _BLEND = ("visibility", "average", "total", "unknown", "depth")

    def __init__(
        self,
        submodel: BakedSubmodel,
        params: SceneParams,
        options: MarchOptions,
        o: Tensor,
        d: Tensor,
        near: float,
        spent: float,
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
        self.out = Marched(
            self.total.clone(), self.visibility.clone(), self.unknown.clone(), self.depth.clone()
        )

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
        return self.out

    def _retire(self) -> None:
        self.is_done |= self.visibility <= _VISIBILITY_MIN
        if not self.is_done.any():
            return
        done, keep = self.is_done.nonzero()[:, 0], (~self.is_done).nonzero()[:, 0]
        if self.submodel.known is not None:
            # What is left of a ray shows what lies behind everything.
            end = self.start[done] + self.leave[done, None] * self.along[done]
            self.unknown[done] += self.visibility[done] * (1.0 - self._support(end, self.view[done]))
        for name, values in zip(Marched._fields, self.out):
            values[self.ray[done]] = getattr(self, name)[done]
        for name in (*self._PER_RAY, *self._BLEND, "is_done"):
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
        # A piece too short for two well separated points is skipped.
        piece = self.piece[rays]
        for _ in range(5):
            here = self.exits[rays, piece.clamp_max(6)]
            before = self.exits[rays, piece - 1]
            is_short = (before >= here - 16.0 * stride[rays]) & (piece < 6)
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
        distance = _lookup(self.distance, _cell_of(z, size, self.distance.shape[0]))
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
        byte = _lookup(self.occupancy, low.long().clamp(0, self.occupancy.shape[0] - 1)).long()
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
        channels = torch.cat([fine, coarse], -1) if self.params.has_coarse else fine
        weight = torch.where(alpha > _ALPHA_MIN, alpha * self.visibility[rays], 0.0)
        self.total[rays] += weight[:, None] * torch.sigmoid(channels)
        if self.submodel.known is not None:
            self.unknown[rays] += weight * (1.0 - self._support(z, self.view[rays]))
        left = self.visibility[rays] * (1.0 - alpha)
        is_spent = (self.visibility[rays] > self.spent) & (left <= self.spent)
        far = (uncontract(z) - self.origin[rays]).norm(dim=-1) / self.params.submodel_scale
        self.depth[rays] = torch.where(is_spent, far, self.depth[rays])
        self.visibility[rays] = left
        self.s[rays] = s + stride[rays]


def march_all(
    submodel: BakedSubmodel,
    params: SceneParams,
    origins: Tensor,
    directions: Tensor,
    near: float = 1.0,
    options: MarchOptions | None = None,
    spent: float = 0.5,
) -> Marched:
    """March rays through one submodel, with the arguments of ``march``.

    ``spent`` is the visibility at which their depth is taken.
    """
    options = options or MarchOptions()
    parts = [
        _Marcher(submodel, params, options, o, d, near, spent).run()
        for o, d in zip(origins.split(_CHUNK), directions.split(_CHUNK))
        if len(o)
    ]
    if not parts:
        empty = origins.new_zeros(0)
        return Marched(origins.new_zeros(0, 14 if params.has_coarse else 7), empty, empty, empty)
    return Marched(*(torch.cat(values) for values in zip(*parts)))


def march(
    submodel: BakedSubmodel,
    params: SceneParams,
    origins: Tensor,
    directions: Tensor,
    near: float = 1.0,
    options: MarchOptions | None = None,
) -> tuple[Tensor, Tensor]:
    """March rays through one submodel.

    Args:
        submodel: The arrays.
        params: The scene's parameters.
        origins: (R, 3) float32 in the submodel's frame, viewer axes.
        directions: (R, 3) float32, same frame, not zero.
        near: Ray parameter at which the march starts.
        options: Choices of the march.

    Returns:
        Blended channels (R, 14) in [0, 1] (rgb, f0..f3, then the coarse seven; (R, 7) without coarse
        channels) and the visibility (R,) that is left for the background.
    """
    marched = march_all(submodel, params, origins, directions, near, options)
    return marched.total, marched.visibility


def shade(
    params: SceneParams,
    network: dict[str, np.ndarray],
    channels: Tensor,
    visibility: Tensor,
    view_directions: Tensor,
    background: tuple[float, float, float],
    exposure: float | None = None,
) -> Tensor:
    """Turn blended channels into colours with the appearance network, once per pixel.

    Args:
        params: The scene's parameters.
        network: Six arrays without lattice axes, from ``lattice_mlp_at``.
        channels: (R, 14) or (R, 7), from ``march``.
        visibility: (R,).
        view_directions: (R, 3), training axes, any length, from the camera outward.
        background: RGB; in snerg mode it acts through the network only.
        exposure: Shutter seconds x ISO / 1000, or ``None``.

    Returns:
        Colours (R, 3), not clamped.
    """
    backdrop = visibility[:, None] * channels.new_tensor(background)
    rgb = channels[:, :3]
    is_vfr = params.deferred_rendering_mode == "vfr"
    inputs = torch.cat([rgb if is_vfr else rgb + backdrop, channels[:, 3:]], -1)
    if exposure:
        inputs = torch.logit(inputs.clamp(1e-7, 1.0 - 1e-7)) + math.log(exposure)
    d = view_directions / view_directions.norm(dim=-1, keepdim=True)
    waves = torch.cat([d * 2.0**i for i in range(4)], -1)
    x = torch.cat([inputs, d, waves.sin(), waves.cos()], -1)
    for i in range(3):
        kernel = torch.from_numpy(network[f"ResampleDense_{i}/kernel"])
        x = x @ kernel + torch.from_numpy(network[f"ResampleDense_{i}/bias"])
        if i < 2:
            x = torch.relu(x) if params.activation == "relu" else torch.nn.functional.elu(x)
    return torch.sigmoid(x) + (backdrop if is_vfr else rgb)


def render_rays(
    scene: BakedScene,
    k: int,
    origins: np.ndarray | Tensor,
    directions: np.ndarray | Tensor,
    near: float = 1.0,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
) -> Tensor:
    """Render rays through submodel k.

    Args:
        scene: The scene.
        k: Parameter index of the submodel.
        origins: (R, 3), or (1, 3) for one camera, training axes, world units.
        directions: (R, 3), training axes, scaled so that t = 1 is the near plane.
        near: Ray parameter at which rendering starts, in units of ``directions``.
        background: RGB; ``None`` means the scene's own.
        options: Choices of the march.

    Returns:
        Colours (R, 3) float32, not clamped. The network is interpolated at each ray's origin.
    """
    options = options or MarchOptions()
    params, submodel = scene.params, scene.submodel(k)
    origins, directions = np.asarray(origins, np.float32), np.asarray(directions, np.float32)
    if directions.ndim != 2 or directions.shape[1] != 3 or origins.shape not in ((1, 3), directions.shape):
        raise ValueError(
            f"rays: expected (R, 3) and (1, 3) or (R, 3), got {directions.shape} and {origins.shape}"
        )
    o, d = to_submodel(params, k, origins, directions)
    o = np.broadcast_to(o, d.shape).copy()
    rays_at = torch.from_numpy(o), torch.from_numpy(d)
    channels, visibility, unknown, _ = march_all(submodel, params, *rays_at, near, options)
    result = torch.zeros(len(d), 3)
    centres, which = np.unique(origins, axis=0, return_inverse=True)
    which = np.broadcast_to(which.reshape(-1), (len(d),))
    for i, centre in enumerate(centres):
        rays = torch.from_numpy((which == i).nonzero()[0])
        result[rays] = shade(
            params,
            lattice_mlp_at(params, scene.mlp, k, centre),
            channels[rays],
            visibility[rays],
            torch.from_numpy(directions)[rays],
            choose_background(scene, background),
            choose_exposure(params, options),
        )
    calm = unknown_colour(scene, options)
    if calm is not None:
        result += unknown[:, None] * (result.new_tensor(calm) - result)
    return result


def render_camera(
    scene: BakedScene,
    camera: Camera,
    near: float | None = None,
    background: tuple[float, float, float] | None = None,
    options: MarchOptions | None = None,
    k: int | None = None,
) -> np.ndarray:
    """Render one camera.

    Args:
        scene: The scene.
        camera: Intrinsics and pose, training axes.
        near: Near plane in world units; ``None`` means the scene's own, else 0.2.
        background: RGB; ``None`` means the scene's own, else grey 0.5.
        options: Choices of the march.
        k: Submodel to render; ``None`` means the one that holds the camera's centre.

    Returns:
        (H, W, 3) float32, clamped to [0, 1], display-referred (sRGB-encoded) values.
    """
    origins, directions = near_rays(camera, choose_near(scene, near))
    k = scene.params.choose_submodel(camera.world_from_cam[:, 3]) if k is None else k
    colours = render_rays(scene, k, origins, directions, 1.0, background, options)
    size = camera.intrinsics
    return colours.clamp(0.0, 1.0).numpy().reshape(size.height, size.width, 3)
