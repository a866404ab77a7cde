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
    edges, weights, colours = (origins.new_empty(rays, width) for width in (samples + 1, samples, 3))
    backend.call(
        "smerf_splat_rays",
        _tree_record(tree), ray_spacing(spacing), origins.contiguous(), directions.contiguous(), rays, samples,
        min_half, mix, edges, weights, colours,
    )  # fmt: skip
    return edges, weights, colours


def splat_image(tree: SplatTree, camera: SplatCamera) -> Tensor:
    """Return an image of splats by rasterisation (H, W, 4): colour over black, and the light that passes them all.

    ``tree.dilation`` is not used: the camera has its own, in square pixels.
    """
    backend = native.backend(tree.leaves, "smerf_splat_image")
    if backend is None:
        return reference.splat_image(tree, camera)
    image = torch.empty(camera.height, camera.width, 4)
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
    backend.call("smerf_splat_image", _tree_record(tree), record, image)
    return image


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
        near=tree.near,
        dilation=tree.dilation,
        sh_rotation=tree.sh_rotation,
    )
