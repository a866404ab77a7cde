"""Rendering the student's 8-bit grids along given intervals, forward and backward, and their optimiser.

A submodel's grids hold eight channels a vertex: density, red, green, blue and four view features, of which
the last of the voxel grid is the gate. All axes are the viewer's. Every vertex has a record of 32 floats,
gradient (8), parameter z (8) and two moments (8 + 8), and eight bytes round(255 sigmoid(z)), which are all
that rendering reads.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from smerf.kernels import native

__all__ = [
    "BLOCK",
    "FEATURES",
    "MAX_SAMPLES",
    "GridSpec",
    "Grids",
    "grid_adam_",
    "grid_mark",
    "grid_read",
    "grid_render",
    "grid_view",
]

BLOCK = 8
"""Edge of a voxel block."""
FEATURES = 14
"""Composited channels: seven gated and seven of the voxel grid alone."""
MAX_SAMPLES = 256
"""Most intervals of one ray."""
_RECORD = 32
_NEUTRAL = 128
"""The byte of parameter zero."""


@dataclass(frozen=True)
class GridSpec:
    """Sizes, place and value ranges of one submodel's grids.

    ``voxel_resolution`` (a multiple of 8) and ``plane_resolution`` divide contracted space [-2, 2];
    ``centre`` and ``scale`` take training space to submodel space.
    """

    voxel_resolution: int
    plane_resolution: int
    scale: float
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    density_range: tuple[float, float] = (-14.0, 14.0)
    feature_range: tuple[float, float] = (-7.0, 7.0)

    @property
    def step(self) -> float:
        """Return the marching step in contracted space."""
        return 4.0 / self.plane_resolution

    @property
    def blocks(self) -> int:
        """Return the number of voxel blocks per axis."""
        return self.voxel_resolution // BLOCK


@dataclass
class Grids:
    """One submodel's grids.

    ``block_index`` (B, B, B) int32 is the number of each voxel block, -1 where there is none. ``voxels``
    (N * 512, 8) and ``planes`` (3 * T * T, 8) are bytes; records (.., 32) float32 and touched flags (..,) go
    with them.
    """

    spec: GridSpec
    block_index: Tensor
    voxels: Tensor
    planes: Tensor
    voxel_records: Tensor = field(repr=False)
    plane_records: Tensor = field(repr=False)
    voxel_touched: Tensor = field(repr=False)
    plane_touched: Tensor = field(repr=False)

    @classmethod
    def allocate(cls, spec: GridSpec, block_index: Tensor, records: bool = True) -> Grids:
        """Return grids whose every parameter is zero (the byte next above zero), on ``block_index``'s device.

        Without ``records`` they hold the bytes alone.
        """
        device = block_index.device
        voxels = int(block_index.max().item() + 1) * BLOCK**3
        texels = 3 * spec.plane_resolution**2
        return cls(
            spec,
            block_index.to(torch.int32).contiguous(),
            torch.full((voxels, 8), _NEUTRAL, dtype=torch.uint8, device=device),
            torch.full((texels, 8), _NEUTRAL, dtype=torch.uint8, device=device),
            torch.zeros(voxels if records else 0, _RECORD, device=device),
            torch.zeros(texels if records else 0, _RECORD, device=device),
            torch.zeros(voxels if records else 0, dtype=torch.uint8, device=device),
            torch.zeros(texels if records else 0, dtype=torch.uint8, device=device),
        )

    def to(self, device: torch.device | str) -> Grids:
        """Return the grids on a device; what is there already is shared."""
        tensors = {one.name: getattr(self, one.name).to(device) for one in fields(self) if one.name != "spec"}
        return replace(self, **tensors)

    def read_bytes(self) -> None:
        """Set the parameters of the records to what the bytes stand for."""
        for records, values in ((self.voxel_records, self.voxels), (self.plane_records, self.planes)):
            moved = values != _NEUTRAL
            records[:, 8:16] = torch.where(
                moved, torch.logit((values / 255.0).clamp(0.25 / 255.0, 254.75 / 255.0)), 0.0
            )

    def requantise(self) -> None:
        """Refresh the bytes from the parameters."""
        for records, values in ((self.voxel_records, self.voxels), (self.plane_records, self.planes)):
            values.copy_(torch.round(255.0 * torch.sigmoid(records[:, 8:16])).to(torch.uint8))


class _View(ctypes.Structure):
    _fields_ = [
        ("voxels", ctypes.c_void_p),
        ("block_index", ctypes.c_void_p),
        ("planes", ctypes.c_void_p),
        ("voxel_resolution", ctypes.c_int32),
        ("plane_resolution", ctypes.c_int32),
        ("centre", ctypes.c_float * 3),
        ("scale", ctypes.c_float),
        ("density_low", ctypes.c_float),
        ("density_high", ctypes.c_float),
        ("feature_low", ctypes.c_float),
        ("feature_high", ctypes.c_float),
    ]


def grid_view(grids: Grids) -> _View:
    """Return the grids as the kernels' structure; it lives no longer than the grids."""
    spec = grids.spec
    return _View(
        grids.voxels.data_ptr(), grids.block_index.data_ptr(), grids.planes.data_ptr(),
        spec.voxel_resolution, spec.plane_resolution, (ctypes.c_float * 3)(*spec.centre), spec.scale,
        *spec.density_range, *spec.feature_range,
    )  # fmt: skip


def _check_rays(grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor) -> None:
    native.check("edges", edges, torch.float32, (None, None))
    native.check("origins", origins, torch.float32, (edges.shape[0], 3), edges.device)
    native.check("directions", directions, torch.float32, (edges.shape[0], 3), edges.device)
    if grids.voxels.device != edges.device:
        raise ValueError(
            f"edges: expected a tensor on {grids.voxels.device}, as the grids, got {edges.device}"
        )
    if not 1 <= edges.shape[1] <= MAX_SAMPLES + 1:
        raise ValueError(f"edges: expected 1 to {MAX_SAMPLES + 1} interval ends a ray, got {edges.shape[1]}")


def _reference():
    from smerf.kernels.reference import grid_render

    return grid_render


def grid_render(
    grids: Grids, anchor: Tensor, origins: Tensor, directions: Tensor, edges: Tensor, tau: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Composite the grids' features over the intervals of rays.

    Args:
        grids: What is rendered. The backward pass adds to the gradient part of its records and marks the
            vertices.
        anchor: Any tensor that requires a gradient, so that the backward pass runs; its own gradient is zero.
        origins: (R, 3) float32, training space.
        directions: Unit directions (R, 3).
        edges: Metric interval ends (R, S + 1), ascending.
        tau: Samples whose alpha over one marching step is below this are dropped.

    Returns:
        Features (R, 14), the activated channels weighted and summed (seven gated, seven of the voxels alone),
        and weights (R, S). Nothing lies outside the voxel blocks.

    Raises:
        ValueError: If a shape or dtype is not as stated.
    """
    _check_rays(grids, origins, directions, edges)
    backend = native.backend(edges, "smerf_grid_render_forward")
    if backend is None:
        return _reference().grid_render(grids, anchor, origins, directions, edges, tau)
    return _GridRender.apply(
        anchor, grids, origins.contiguous(), directions.contiguous(), edges.contiguous(), tau, backend
    )


class _GridRender(torch.autograd.Function):
    @staticmethod
    def forward(ctx, anchor, grids, origins, directions, edges, tau, backend):
        rays, samples = edges.shape[0], edges.shape[1] - 1
        features, weights = edges.new_empty(rays, FEATURES), edges.new_empty(rays, samples)
        view = grid_view(grids)
        backend.call(
            "smerf_grid_render_forward", ctypes.byref(view), native.pointer(origins), native.pointer(directions),
            native.pointer(edges),
            ctypes.c_int64(rays), samples, ctypes.c_float(tau), ctypes.c_float(grids.spec.step),
            native.pointer(features), native.pointer(weights),
        )  # fmt: skip
        ctx.save_for_backward(anchor, origins, directions, edges)
        ctx.grids, ctx.tau, ctx.backend = grids, tau, backend
        return features, weights

    @staticmethod
    def backward(ctx, up_features, up_weights):
        anchor, origins, directions, edges = ctx.saved_tensors
        grids, rays, samples = ctx.grids, edges.shape[0], edges.shape[1] - 1
        up_features, up_weights = up_features.contiguous(), up_weights.contiguous()
        view = grid_view(grids)
        ctx.backend.call(
            "smerf_grid_render_backward", ctypes.byref(view), native.pointer(origins), native.pointer(directions),
            native.pointer(edges),
            ctypes.c_int64(rays), samples, ctypes.c_float(ctx.tau), ctypes.c_float(grids.spec.step),
            native.pointer(up_features), native.pointer(up_weights),
            native.pointer(grids.voxel_records), native.pointer(grids.voxel_touched),
            native.pointer(grids.plane_records), native.pointer(grids.plane_touched),
        )  # fmt: skip
        return torch.zeros_like(anchor), None, None, None, None, None, None


def grid_mark(grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor) -> None:
    """Set the touched flag of every vertex that the samples read (arguments as in ``grid_render``)."""
    _check_rays(grids, origins, directions, edges)
    backend = native.backend(edges, "smerf_grid_mark")
    if backend is None:
        _reference().grid_mark(grids, origins, directions, edges)
        return
    origins, directions, edges = origins.contiguous(), directions.contiguous(), edges.contiguous()
    view = grid_view(grids)
    backend.call(
        "smerf_grid_mark", ctypes.byref(view), native.pointer(origins), native.pointer(directions),
            native.pointer(edges),
        ctypes.c_int64(edges.shape[0]), edges.shape[1] - 1,
        native.pointer(grids.voxel_touched), native.pointer(grids.plane_touched),
    )  # fmt: skip


def grid_read(grids: Grids, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Interpolate the grids at points.

    Args:
        grids: What is read.
        points: Contracted points (N, 3) float32 on viewer axes.

    Returns:
        Dequantised voxel values (N, 8), the sum of the planes' values (N, 8), and whether a block is there
        (N,) bool (values are zero where not).
    """
    native.check("points", points, torch.float32, (None, 3), grids.voxels.device)
    backend = native.backend(points, "smerf_grid_read")
    if backend is None:
        return _reference().grid_read(grids, points)
    points, count = points.contiguous(), points.shape[0]
    voxels, planes = points.new_zeros(count, 8), points.new_zeros(count, 8)
    alive = torch.zeros(count, dtype=torch.uint8, device=points.device)
    view = grid_view(grids)
    backend.call(
        "smerf_grid_read", ctypes.byref(view), native.pointer(points), ctypes.c_int64(count),
        native.pointer(voxels),
        native.pointer(planes), native.pointer(alive),
    )  # fmt: skip
    return voxels, planes, alive.bool()


def grid_adam_(
    grids: Grids,
    *,
    step: int,
    lr: float,
    plane_lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
) -> None:
    """Update the touched vertices from their gradients, requantise them, and clear gradients and flags.

    Args:
        grids: Updated in place.
        step: Number of this update, from 1, for the bias correction (one count for all vertices).
        lr: Learning rate of z, the logit of a byte.
        plane_lr: The same for the planes; ``lr`` if not given.
        betas: Decay of the moments.
        eps: Added to the denominator.
    """
    backend = native.backend(grids.voxels, "smerf_grid_adam")
    if backend is None:
        _reference().grid_adam_(grids, step=step, lr=lr, plane_lr=plane_lr, betas=betas, eps=eps)
        return
    spec, f = grids.spec, ctypes.c_float
    ranges = (
        f(spec.density_range[1] - spec.density_range[0]),
        f(spec.feature_range[1] - spec.feature_range[0]),
    )
    parts = (
        (grids.voxel_records, grids.voxels, grids.voxel_touched, lr),
        (grids.plane_records, grids.planes, grids.plane_touched, lr if plane_lr is None else plane_lr),
    )
    for records, values, touched, rate in parts:
        backend.call(
            "smerf_grid_adam", native.pointer(records), native.pointer(values), native.pointer(touched),
            ctypes.c_int64(values.shape[0]), *ranges, f(rate), f(betas[0]), f(betas[1]), f(eps),
            f(1.0 - betas[0] ** step), f(1.0 - betas[1] ** step),
        )  # fmt: skip
