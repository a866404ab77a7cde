"""Cases of the kernels of Gaussian splats and of surfaces."""

from __future__ import annotations

import torch

from benchmarks.gpu_suite.cases import Case, generator_of
from smerf.kernels import Spacing
from smerf.kernels.splat_tree import SplatCamera, SplatTree, build_splat_tree
from smerf.kernels.splats import splat_image, splat_rays
from smerf.kernels.surface_intervals import surface_intervals

__all__ = ["SPLAT_CASES"]

SAMPLES = 32


def _tree(count: int, device: torch.device) -> SplatTree:
    """Return splats of random sizes and colours in a ball five units ahead."""
    generator = generator_of()
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    means = means * torch.rand(count, 1, generator=generator) ** (1 / 3) + torch.tensor([0.0, 0.0, 5.0])
    factor = torch.randn(count, 3, 3, generator=generator) * 0.5 * count ** (-1 / 3)
    full = factor @ factor.transpose(1, 2)
    covariances = full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]].contiguous()
    opacities = 0.05 + 0.9 * torch.rand(count, generator=generator)
    sh = torch.randn(count, 9, 3, generator=generator) * 0.3
    return build_splat_tree(means, covariances, opacities, sh.half()).to(device)


def _rays(device: torch.device, size: int):
    rays, splats = max(64, size // 32), 10_000 if device.type == "cuda" else 500
    tree = _tree(splats, device)
    targets = torch.randn(rays, 3, generator=generator_of(1)) * 0.5 + torch.tensor([0.0, 0.0, 5.0])
    directions = torch.nn.functional.normalize(targets, dim=-1).to(device)
    origins, spacing = torch.zeros_like(directions), Spacing(0.2, 8.0, True)

    def run() -> list[torch.Tensor]:
        _, weights, colours = splat_rays(tree, origins, directions, spacing, SAMPLES, 1 / 1024)
        return [weights.sum(-1), colours]

    return run, 4.0 * rays * (9 + 2 * SAMPLES + 1)


def _image(device: torch.device, size: int):
    side, splats = max(32, int(size**0.5) // 16 * 16), 10_000 if device.type == "cuda" else 500
    tree = _tree(splats, device)
    eye = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    view = SplatCamera(eye, (0.0, 0.0, 0.0), 1.8 * side, 1.8 * side, 0.5 * side, 0.5 * side, side, side)
    return (lambda: [splat_image(tree, view)]), 16.0 * side * side


def _surface_intervals(device: torch.device, size: int):
    rays, side, generator = size // SAMPLES, 130, generator_of()
    near = torch.randint(2**31 - 1, (side, side, 5), generator=generator, dtype=torch.int32)
    origins = 3.0 * torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    directions = torch.nn.functional.normalize(torch.rand(rays, 3, generator=generator) - origins, dim=-1)
    met = 2.0 + torch.rand(rays, 1, generator=generator)
    given = [x.to(device) for x in (near, origins, directions, met, torch.ones(rays, 1))]

    def run() -> list[torch.Tensor]:
        # Rounding decides the cell of a few stretches: means are compared.
        edges, weights = surface_intervals(*given, Spacing(0.2, 8.0, True), SAMPLES, 0.01)
        return [edges.mean(0), weights.sum(-1)]

    return run, 4.0 * rays * (8 + 2 * SAMPLES + 1)


SPLAT_CASES = (
    # A ray that is a rounding away from a cut of 1/255 meets the splat or does not.
    Case("splats/rays", _rays, 2**21, tolerance=1e-2),
    Case("splats/image", _image, 2**20, tolerance=1e-2),
    Case("surface_intervals", _surface_intervals, 2**24, tolerance=1e-3),
)
