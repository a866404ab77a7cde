"""Cases of kernels that fields and their rendering use."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu_suite.cases import ROWS, SECTOR, STANDARD, Case, generator_of, points_of, rays_of
from smerf.kernels import (
    Frustums,
    HashSpec,
    blurred_interlevel,
    hash_encode,
    importance_sample,
    initial_params,
    mlp,
    multisample_encode,
    radiance_head,
    ray_points,
    sparse_adam_,
    volume_render,
)

__all__ = ["FIELD_CASES"]


def _hash(spec: HashSpec, backward: bool, to_input: bool = False):
    def make(device: torch.device, size: int):
        x, sigma = points_of(size, device)
        table = (torch.rand(spec.entry_count, spec.features, generator=generator_of()) - 0.5).to(device)
        x, table = x.requires_grad_(to_input), table.requires_grad_()
        upstream = torch.randn(len(x), spec.width, generator=generator_of(1)).to(device)
        corner = max(SECTOR, 4 * spec.features) * 8 * spec.level_count
        moved = len(x) * (16.0 + 4 * spec.width + corner)
        if not backward:
            return (lambda: [hash_encode(x, table, spec, sigma).detach()]), moved
        encoded = hash_encode(x, table, spec, sigma)
        wanted = (x,) if to_input else (table,)

        def run() -> list[Tensor]:
            return list(torch.autograd.grad(encoded, wanted, upstream, retain_graph=True))

        # Additions read and write a sector; the zeroed gradient is written once.
        return run, moved + (0.0 if to_input else len(x) * corner + 4.0 * table.numel())

    return make


def _ray_points(device: torch.device, size: int):
    origins, directions, edges = rays_of(max(1, size // 32), 32, device)
    radii = torch.full_like(origins[:, 0], 2e-3)
    return (lambda: list(ray_points(origins, directions, edges, radii, 1.3))), 20.0 * size + 40.0 * len(radii)


def _mlp(dims: tuple[int, ...], backward: bool):
    def make(device: torch.device, size: int):
        x = torch.randn(size, dims[0], generator=generator_of()).to(device).requires_grad_()
        params = initial_params(dims, generator_of(1)).to(device).requires_grad_()
        upstream = torch.randn(size, dims[-1], generator=generator_of(2)).to(device)
        moved = 4.0 * size * (dims[0] + dims[-1])
        if not backward:
            return (lambda: [mlp(x, params, dims).detach()]), moved
        out = mlp(x, params, dims)
        run = lambda: list(torch.autograd.grad(out, (x, params), upstream, retain_graph=True))  # noqa: E731
        return run, moved + 4.0 * size * dims[0]

    return make


def _head(backward: bool):
    density, colour, samples = (32, 64, 16), (32, 64, 64, 3), 32

    def make(device: torch.device, size: int):
        rays = max(1, size // samples)
        rows = rays * samples
        features = torch.randn(rows, density[0], generator=generator_of()).to(device).requires_grad_()
        directions = torch.randn(rays, 16, generator=generator_of(1)).to(device)
        nets = [
            initial_params(dims, generator_of(i)).to(device).requires_grad_()
            for i, dims in ((2, density), (3, colour))
        ]
        ups = (
            torch.randn(rows, generator=generator_of(4)).to(device),
            torch.randn(rows, 3, generator=generator_of(5)).to(device),
        )
        call = lambda: radiance_head(features, directions, nets[0], density, nets[1], colour)  # noqa: E731
        moved = 4.0 * rows * (density[0] + 4) + 64.0 * rays
        if not backward:
            return (lambda: [one.detach() for one in call()]), moved
        outputs = call()
        wanted = (features, *nets)
        run = lambda: list(torch.autograd.grad(outputs, wanted, ups, retain_graph=True))  # noqa: E731
        return run, moved + 4.0 * rows * density[0]

    return make


def _sparse_adam(device: torch.device, size: int):
    shape = (size, 4)
    first = [torch.randn(shape, generator=generator_of(i)).to(device) for i in range(4)]
    first[3] = first[3].abs()
    touched = (torch.rand(size, 1, generator=generator_of(5)) < 0.25).to(device)
    gradient = first[1] * touched
    values, work, one, two = first[0].clone(), gradient.clone(), first[2].clone(), first[3].clone()

    def run() -> list[Tensor]:
        for target, source in zip((values, work, one, two), (first[0], gradient, first[2], first[3])):
            target.copy_(source)
        sparse_adam_(values, work, one, two, step=3, lr=1e-2, decay=1e-4)
        return [values, work, one, two]

    # The four copies that restore the input are part of what is timed.
    return run, 16.0 * size * (8 + 1 + 0.25 * 7)


def _multisample(backward: bool):
    def make(device: torch.device, size: int):
        spec, samples, points = STANDARD, 32, 3
        origins, directions, edges = rays_of(max(1, size // samples), samples, device)
        radii = torch.full_like(origins[:, 0], 2e-3)
        table = (torch.rand(spec.entry_count, spec.features, generator=generator_of()) - 0.5).to(device)
        table.requires_grad_()
        scales = torch.ones(spec.level_count, device=device)
        call = lambda: multisample_encode(  # noqa: E731
            origins, directions, edges, radii, table, spec, Frustums(1.0, points), scales
        )
        rows, width = edges.shape[0] * samples, spec.width + spec.level_count
        corners = rows * points * 8.0 * spec.level_count * SECTOR
        moved = corners + 4.0 * rows * (width + 1)
        if not backward:
            return (lambda: [call().detach()]), moved
        out = call()
        upstream = torch.randn(out.shape, generator=generator_of(1)).to(device)
        run = lambda: list(torch.autograd.grad(out, table, upstream, retain_graph=True))  # noqa: E731
        return run, moved + corners + 4.0 * table.numel()

    return make


def _volume(backward: bool):
    def make(device: torch.device, size: int):
        samples = 32
        _, _, edges = rays_of(max(1, size // samples), samples, device)
        shape = edges[:, 1:].shape
        density = torch.rand(shape, generator=generator_of()).to(device).requires_grad_()
        colour = torch.rand(*shape, 3, generator=generator_of(1)).to(device).requires_grad_()
        call = lambda: list(volume_render(density, edges, colour, edges / edges[:, -1:]))  # noqa: E731
        if not backward:
            return (lambda: [one.detach() for one in call()]), 28.0 * density.numel()
        seen = call()
        ups = [torch.randn(one.shape, generator=generator_of(2)).to(device) for one in seen]
        run = lambda: list(torch.autograd.grad(seen, (density, colour), ups, retain_graph=True))  # noqa: E731
        return run, 48.0 * density.numel()

    return make


def _place(device: torch.device, size: int):
    rays, bins, samples = max(1, size // 32), 64, 32
    edges = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, -1).contiguous()
    weights = torch.rand(rays, bins, generator=generator_of()).to(device).square()
    jitter = (torch.rand(rays, generator=generator_of(1)) - 0.5).to(device)
    run = lambda: [importance_sample(edges, weights, samples, jitter, 0.05)]  # noqa: E731
    return run, 4.0 * rays * (2 * bins + samples + 3)


def _interlevel(device: torch.device, size: int):
    rays, bins, samples = max(1, size // 32), 64, 32
    edges = torch.linspace(0.0, 1.0, samples + 1, device=device).expand(rays, -1).contiguous()
    outer = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, -1).contiguous()
    weights = torch.rand(rays, samples, generator=generator_of()).softmax(-1).to(device)
    proposal = torch.rand(rays, bins, generator=generator_of(1)).softmax(-1).to(device).requires_grad_()

    def run() -> list[Tensor]:
        loss = blurred_interlevel(edges, weights, outer, proposal, 0.01)
        return [loss.detach(), *torch.autograd.grad(loss.sum(), proposal)]

    return run, 4.0 * rays * (2 * samples + 4 * bins + 4)


_WIDE = HashSpec(16, 2, 19, 16, 2048)
_PROPOSAL = HashSpec(6, 2, 17, 16, 512)

FIELD_CASES = (
    # At 4096 cells an axis, the rounding of a coordinate is 2e-4 of a cell.
    Case("hash_encode/L8_F4_T20/forward", _hash(STANDARD, False), ROWS, tolerance=2e-3),
    Case("hash_encode/L8_F4_T20/backward", _hash(STANDARD, True), ROWS, tolerance=2e-3),
    Case("hash_encode/L16_F2_T19/forward", _hash(_WIDE, False), ROWS, tolerance=2e-3),
    Case("hash_encode/L16_F2_T19/backward", _hash(_WIDE, True), ROWS, tolerance=2e-3),
    Case("hash_encode/L6_F2_T17/forward", _hash(_PROPOSAL, False), ROWS, tolerance=2e-3),
    Case("hash_encode/L6_F2_T17/backward", _hash(_PROPOSAL, True), ROWS, tolerance=2e-3),
    # Trilinear cells meet at kinks: a point on one may take either side's slope.
    Case("hash_encode/L6_F2_T17/backward_input", _hash(_PROPOSAL, True, True), ROWS, tolerance=2e-2),
    Case("multisample/L8_F4_T20_3/forward", _multisample(False), ROWS, tolerance=2e-3),
    Case("multisample/L8_F4_T20_3/backward", _multisample(True), ROWS, tolerance=2e-3),
    Case("volume_render/forward", _volume(False), ROWS),
    Case("volume_render/backward", _volume(True), ROWS, tolerance=1e-3),
    Case("importance_sample", _place, ROWS),
    Case("blurred_interlevel", _interlevel, ROWS, tolerance=1e-3),
    Case("ray_points", _ray_points, ROWS),
    Case("mlp/12_16_1/forward", _mlp((12, 16, 1), False), ROWS, loose=1e-2),
    Case("mlp/12_16_1/backward", _mlp((12, 16, 1), True), ROWS, loose=2e-2),
    Case("radiance_head/forward", _head(False), ROWS, loose=1e-2),
    Case("radiance_head/backward", _head(True), ROWS, loose=3e-2),
    Case("sparse_adam", _sparse_adam, 2**22),
)
