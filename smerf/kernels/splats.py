"""Rays and images of Gaussian splats: the face of ``cuda/include/smerf/splat.h``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.records import ray_spacing, supports_spacing
from smerf.kernels.reference import splats as reference
from smerf.kernels.splat_tree import SplatCamera, SplatTree
from smerf.kernels.types import MAX_SAMPLES, Spacing

__all__ = ["splat_image", "splat_rays"]

_GPU_RAYS = 65536
_TILE = 16
_HIT, _BOX, _PROJECTED = 5, 3, 12
"""Floats of a hit, of its box and of a projected splat on a GPU."""


def splat_rays(
    tree: SplatTree,
    origins: Tensor,
    directions: Tensor,
    spacing: Spacing,
    samples: int,
    min_half: float,
    mix: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what rays see of splats, sorted by the distance of their centres, and where.

    Args:
        tree: The splats.
        origins: (R, 3) float32.
        directions: Unit vectors (R, 3) float32.
        spacing: Of the intervals; near and far bound them.
        samples: Intervals S of each ray.
        min_half: Half of the smallest width of a splat along a ray, in s.
        mix: Fraction of the intervals that is spread evenly over s.

    Returns:
        Metric interval ends (R, S + 1), weights (R, S) that sum to the opacity, colour over black (R, 3).

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    rays = len(origins)
    native.check("origins", origins, torch.float32, (rays, 3))
    native.check("directions", directions, torch.float32, (rays, 3), origins.device)
    if not 1 <= samples <= MAX_SAMPLES or not 0.0 < min_half < 0.5:
        raise ValueError(
            f"samples, min_half: expected 1 to {MAX_SAMPLES} and 0 to 0.5, got {samples}, {min_half}"
        )
    backend = native.backend(origins, "smerf_splat_rays")
    if backend is None or not supports_spacing(spacing):
        return reference.splat_rays(tree, origins, directions, spacing, samples, min_half, mix)
    origins, directions, record = origins.contiguous(), directions.contiguous(), _tree_record(tree)
    edges, weights, colours = (origins.new_empty(rays, width) for width in (samples + 1, samples, 3))
    # On a CPU every thread has its own memory; on a GPU a first pass says how much all rays need.
    chunk = _GPU_RAYS if backend.kind == "cuda" else max(rays, 1)
    for first in range(0, rays, chunk):
        part = slice(first, first + chunk)
        count = len(origins[part])
        memory = _hit_memory(backend, record, origins[part], directions[part])
        backend.call(
            "smerf_splat_rays",
            record, ray_spacing(spacing), origins[part], directions[part], count, samples, min_half, mix, edges[part],
            weights[part], colours[part], *memory,
        )  # fmt: skip
    return edges, weights, colours


def _hit_memory(
    backend: native.Backend, tree: ctypes.Structure, origins: Tensor, directions: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return where the hits of each ray begin, and room for them and for their boxes; on CUDA alone."""
    if backend.kind != "cuda":
        return None, None, None
    counts = origins.new_empty(len(origins), dtype=torch.int64)
    backend.call("smerf_splat_count", tree, origins, directions, len(origins), counts)
    ends = counts.cumsum(0)
    total = max(1, int(ends[-1]))
    return ends - counts, origins.new_empty(total, _HIT), origins.new_empty(total, _BOX)


def splat_image(tree: SplatTree, camera: SplatCamera) -> Tensor:
    """Return an image of splats by rasterisation (H, W, 4): colour over black, and the light that passes them all.

    ``tree.dilation`` is not used: the camera has its own, in square pixels.
    """
    backend = native.backend(tree.leaves, "smerf_splat_image")
    if backend is None:
        return reference.splat_image(tree, camera)
    image = tree.leaves.new_empty(camera.height, camera.width, 4)
    record = abi.record(
        "SplatCamera",
        rotation=camera.rotation,
        eye=camera.eye,
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx,
        cy=camera.cy,
        width=camera.width,
        height=camera.height,
        is_by_depth=camera.by_depth,
        near=tree.near,
        dilation=camera.dilation,
    )
    splats = _tree_record(tree)
    listed = _tile_lists(backend, tree, splats, camera, record) if backend.kind == "cuda" else (None,) * 3
    backend.call("smerf_splat_image", splats, record, image, *listed)
    return image


def _tile_lists(
    backend: native.Backend,
    tree: SplatTree,
    splats: ctypes.Structure,
    camera: SplatCamera,
    view: ctypes.Structure,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return projected splats, the numbers of those in each tile by tile and order, and where each tile's begin."""
    count, columns, rows = 8 * len(tree.leaves), *(-(-n // _TILE) for n in (camera.width, camera.height))
    projected = tree.leaves.new_empty(count, _PROJECTED)
    keys, touched = (tree.leaves.new_empty(count, dtype=torch.int64) for _ in range(2))
    backend.call("smerf_splat_project", splats, view, projected, keys, touched)
    order = keys.argsort()
    touched = touched[order]
    ends = touched.cumsum(0)
    tiles, numbers = (tree.leaves.new_empty(int(ends[-1]), dtype=torch.int32) for _ in range(2))
    backend.call("smerf_splat_list", projected, order, ends - touched, count, columns, tiles, numbers)
    tiles, by_tile = tiles.sort(stable=True)
    wanted = torch.arange(columns * rows + 1, dtype=torch.int32, device=tiles.device)
    return projected, numbers[by_tile], torch.searchsorted(tiles, wanted)


def _tree_record(tree: SplatTree) -> ctypes.Structure:
    return abi.record(
        "SplatTree",
        leaves=tree.leaves,
        nodes=tree.nodes,
        levels=tree.levels,
        sh=tree.sh,
        classes=len(tree.levels),
        coefficients=tree.sh.shape[1],
        leaf_count=len(tree.leaves),
        is_antialiased=tree.antialiased,
        is_half=tree.sh.dtype == torch.float16,
        near=tree.near,
        dilation=tree.dilation,
        sh_rotation=tree.sh_rotation,
    )
