"""Cases of kernels of the student's grids and networks, and of baking."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu_suite.cases import ROWS, SECTOR, STANDARD, Case, generator_of, rays_of
from smerf.kernels import (
    Grids,
    GridSpec,
    VertexDecoder,
    Vertices,
    appearance,
    block_samples,
    decode_vertices_,
    distance_grid,
    grid_adam_,
    grid_mark,
    grid_read,
    grid_render,
    initial_params,
    mark_alive_,
    vertex_gradients_,
)
from smerf.kernels.appearance import appearance_size
from smerf.kernels.vertices import block_coordinates

__all__ = ["STUDENT_CASES"]


def _grids(device: torch.device, voxels: int, texels: int) -> Grids:
    spec = GridSpec(voxels, texels, scale=1.2)
    blocks = spec.blocks
    alive = torch.rand(blocks**3, generator=generator_of()) < 0.3
    index = torch.where(alive, alive.long().cumsum(0) - 1, -1).view(blocks, blocks, blocks)
    grids = Grids.allocate(spec, index.to(device))
    for i, records in enumerate((grids.voxel_records, grids.plane_records)):
        records[:, 8:16] = torch.randn(records.shape[0], 8, generator=generator_of(i)).to(device)
    grids.requantise()
    return grids


def _grid(what: str):
    def make(device: torch.device, size: int):
        # On a CPU this is a check alone.
        grids = _grids(device, *((256, 1024) if device.type == "cuda" else (32, 128)))
        samples = 32
        origins, directions, edges = rays_of(max(1, size // samples), samples, device)
        rows = edges.shape[0] * samples
        reads = rows * 20.0 * SECTOR
        if what == "mark":

            def run() -> list[Tensor]:
                grids.voxel_touched.zero_()
                grids.plane_touched.zero_()
                grid_mark(grids, origins, directions, edges)
                return [grids.voxel_touched.float(), grids.plane_touched.float()]

            return run, reads
        if what == "read":
            points = (4.0 * torch.rand(rows, 3, generator=generator_of()) - 2.0).to(device)
            return (lambda: [one.float() for one in grid_read(grids, points)]), reads + rows * 77.0
        if what == "forward":
            anchor = torch.zeros(1, device=device)
            call = lambda: list(grid_render(grids, anchor, origins, directions, edges, 0.003))  # noqa: E731
            return call, reads + 4.0 * rows * 2
        anchor = torch.zeros(1, device=device, requires_grad=True)
        ups = (
            torch.randn(len(origins), 14, generator=generator_of(1)).to(device),
            torch.randn(len(origins), samples, generator=generator_of(2)).to(device),
        )
        outputs = grid_render(grids, anchor, origins, directions, edges, 0.003)
        if what == "backward":

            def run() -> list[Tensor]:
                grids.voxel_records[:, :8] = 0.0
                grids.plane_records[:, :8] = 0.0
                torch.autograd.grad(outputs, anchor, ups, retain_graph=True)
                return [grids.voxel_records[:, :8].clone(), grids.plane_records[:, :8].clone()]

            return run, reads + 2.0 * reads
        # Marked as by training, with gradients whose size leaves nothing to rounding.
        torch.autograd.grad(outputs, anchor, ups, retain_graph=True)
        for i, records in enumerate((grids.voxel_records, grids.plane_records)):
            records[:, :8] = torch.randn(records.shape[0], 8, generator=generator_of(6 + i)).to(device)
        kept = [grids.voxel_records.clone(), grids.plane_records.clone()]
        flags = [grids.voxel_touched.clone(), grids.plane_touched.clone()]

        def update() -> list[Tensor]:
            for target, source in zip((grids.voxel_records, grids.plane_records), kept):
                target.copy_(source)
            for target, source in zip((grids.voxel_touched, grids.plane_touched), flags):
                target.copy_(source)
            grid_adam_(grids, step=2, lr=0.02)
            return [grids.voxel_records, grids.plane_records]

        return update, sum(2.0 * 4 * one.numel() for one in kept)

    return make


def _vertex_decode(backward: bool):
    decoder = VertexDecoder(STANDARD, (STANDARD.width, 64, 8), 10.0)

    def make(device: torch.device, size: int):
        grids = _grids(device, *((256, 1024) if device.type == "cuda" else (32, 128)))
        rows = [
            torch.randperm(len(part), generator=generator_of(i))[: size // 2].sort().values.to(device)
            for i, part in enumerate((grids.voxels, grids.planes))
        ]
        vertices = Vertices(*rows, block_coordinates(grids).int())
        table = 0.1 * torch.randn(STANDARD.entry_count, STANDARD.features, generator=generator_of(2))
        values = table.to(device), initial_params(decoder.dims, generator_of(3)).to(device)
        count = len(rows[0]) + len(rows[1])
        reads = count * (8.0 + STANDARD.level_count * 8 * SECTOR)
        if not backward:

            def run() -> list[Tensor]:
                decode_vertices_(grids, vertices, *values, decoder)
                return [grids.voxels[rows[0]].float(), grids.planes[rows[1]].float()]

            return run, reads + 8.0 * count
        ups = [
            torch.randn(len(part), 8, generator=generator_of(4 + i)).to(device) for i, part in enumerate(rows)
        ]

        def differentiate() -> list[Tensor]:
            grids.voxel_records[rows[0], :8] = ups[0]
            grids.plane_records[rows[1], :8] = ups[1]
            return list(vertex_gradients_(grids, vertices, *values, decoder))

        return differentiate, 2.0 * reads + 64.0 * count

    return make


def _distance_grid(device: torch.device, size: int):
    edge = max(2, round(size ** (1 / 3)))
    occupied = (torch.rand(3 * (edge,), generator=generator_of()) < 1e-4).to(device)
    # Four passes: 16-bit distances are written and read three times.
    return (lambda: [distance_grid(occupied).float()]), occupied.numel() * (2.0 + 6 * 2)


def _mark_alive(device: torch.device, size: int):
    rays, samples, cells = size // 32, 32, 256 if device.type == "cuda" else 64
    generator = generator_of()
    origins = torch.rand(rays, 3, generator=generator) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    edges = torch.rand(rays, samples + 1, generator=generator).cumsum(-1) * 0.2
    given = [
        x.to(device) for x in (origins, directions, edges, torch.rand(rays, samples, generator=generator))
    ]
    spec = GridSpec(cells, 4 * cells, 1.0)
    seen, solid = (torch.zeros(3 * (cells,), dtype=torch.bool, device=device) for _ in range(2))

    def run() -> list[Tensor]:
        # Rounding decides the cell of a few samples: shares are compared.
        mark_alive_(seen, solid, spec, *given, 0.5, 0.9)
        return [torch.stack([seen.float().mean(), solid.float().mean()])]

    return run, 4.0 * rays * (2 * samples + 7)


def _block_samples(device: torch.device, size: int):
    grids = _grids(device, *((256, 64) if device.type == "cuda" else (32, 32)))
    coords = torch.nonzero(grids.block_index >= 0).int()[: max(1, size // 9**3)]
    return (lambda: [block_samples(grids, coords).float()]), len(coords) * 9.0**3 * (8 + 8)


def _appearance(lattice: int, backward: bool):
    width, patch = 16, 64

    def make(device: torch.device, size: int):
        generator = generator_of()
        features = torch.rand(size, 14, generator=generator).to(device).requires_grad_()
        directions = torch.nn.functional.normalize(torch.randn(size, 3, generator=generator), dim=-1)
        # The rays of a patch start from one place.
        positions = 2.0 * torch.rand(1 + size // patch, 3, generator=generator) - 1.0
        positions = positions.repeat_interleave(patch, 0)[:size].contiguous()
        params = 0.3 * torch.randn(lattice**3, appearance_size(width), generator=generator)
        params = params.to(device).requires_grad_()
        upstream = torch.randn(size, 3, generator=generator_of(1)).to(device)
        given = features, directions.to(device), positions.to(device), params, width
        rows = 4.0 * params.numel() / lattice**3 * min(8, lattice**3) * (1 + size // patch)
        moved = 4.0 * size * (14 + 3 + 3 + 3) + rows
        if not backward:
            return (lambda: [appearance(*given).detach()]), moved
        out = appearance(*given)
        run = lambda: list(torch.autograd.grad(out, (features, params), upstream, retain_graph=True))  # noqa: E731
        # Additions read and write.
        return run, moved + 4.0 * size * 14 + 2.0 * rows

    return make


STUDENT_CASES = (
    Case("grid_render/forward", _grid("forward"), ROWS, tolerance=1e-3),
    Case("grid_render/backward", _grid("backward"), ROWS, tolerance=1e-3),
    Case("grid_mark", _grid("mark"), ROWS),
    Case("grid_read", _grid("read"), ROWS),
    Case("grid_adam", _grid("adam"), ROWS),
    # A byte between two values may go either way.
    Case("vertex_decode/forward", _vertex_decode(False), ROWS, tolerance=5e-3, loose=2e-2),
    Case("vertex_decode/backward", _vertex_decode(True), ROWS, tolerance=5e-3, loose=3e-2),
    Case("distance_grid", _distance_grid, 2**24),
    Case("block_samples", _block_samples, 2**23),
    Case("mark_alive", _mark_alive, 2**24, tolerance=1e-3),
    Case("appearance/P1_W16/forward", _appearance(1, False), 2**17),
    Case("appearance/P1_W16/backward", _appearance(1, True), 2**17, tolerance=1e-3),
    Case("appearance/P5_W16/forward", _appearance(5, False), 2**17),
    Case("appearance/P5_W16/backward", _appearance(5, True), 2**17, tolerance=1e-3),
)
