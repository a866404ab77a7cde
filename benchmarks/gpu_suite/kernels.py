"""Part ``kernels``: every kernel against the PyTorch reference, with gradients, and against the copy bandwidth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.gpu_suite.common import Suite, bandwidth, median_seconds, reference_kernels
from smerf.kernels import (
    Frustums,
    Grids,
    GridSpec,
    HashSpec,
    VertexDecoder,
    Vertices,
    appearance,
    block_samples,
    blurred_interlevel,
    decode_vertices_,
    distance_grid,
    grid_adam_,
    grid_mark,
    grid_read,
    grid_render,
    hash_encode,
    importance_sample,
    initial_params,
    mark_alive_,
    mlp,
    multisample_encode,
    native,
    radiance_head,
    ray_points,
    sparse_adam_,
    vertex_gradients_,
    volume_render,
)
from smerf.kernels.appearance import appearance_size
from smerf.kernels.vertices import block_coordinates

__all__ = ["CASES", "Case", "run"]

_SECTOR = 32


@dataclass(frozen=True)
class Case:
    """One kernel: ``make(device, size)`` returns what computes its tensors, and the bytes that one call moves.

    A call gives outputs, then gradients. ``tolerance`` is of the largest value of each tensor; ``loose`` that of
    tensor cores. Bytes count table and grid reads in whole sectors of 32 bytes.
    """

    name: str
    make: Callable[[torch.device, int], tuple[Callable[[], list[Tensor]], float]]
    size: int
    tolerance: float = 1e-4
    loose: float | None = None


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _rays(rays: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return origins, unit directions and metric edges of rays of one small picture, neighbours together."""
    generator = _generator()
    side = max(1, int(rays**0.5))
    column = torch.arange(rays) % side / side - 0.5
    row = torch.arange(rays) // side / side - 0.5
    directions = torch.nn.functional.normalize(torch.stack([column, row, -torch.ones(rays)], -1), dim=-1)
    origins = 0.3 * torch.rand(1, 3, generator=generator).expand(rays, 3)
    edges = torch.logspace(-1.0, 0.6, samples + 1).expand(rays, -1)
    edges = edges + 0.02 * torch.rand(rays, 1, generator=generator)
    return tuple(one.contiguous().to(device) for one in (origins, directions, edges))


def _points(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    samples = 32
    origins, directions, edges = _rays(max(1, count // samples), samples, device)
    return ray_points(origins, directions, edges, torch.full_like(origins[:, 0], 2e-3), 1.0)


def _hash(spec: HashSpec, backward: bool, to_input: bool = False):
    def make(device: torch.device, size: int):
        x, sigma = _points(size, device)
        table = (torch.rand(spec.entry_count, spec.features, generator=_generator()) - 0.5).to(device)
        x, table = x.requires_grad_(to_input), table.requires_grad_()
        upstream = torch.randn(len(x), spec.width, generator=_generator(1)).to(device)
        corner = max(_SECTOR, 4 * spec.features) * 8 * spec.level_count
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
    origins, directions, edges = _rays(max(1, size // 32), 32, device)
    radii = torch.full_like(origins[:, 0], 2e-3)
    return (lambda: list(ray_points(origins, directions, edges, radii, 1.3))), 20.0 * size + 40.0 * len(radii)


def _mlp(dims: tuple[int, ...], backward: bool):
    def make(device: torch.device, size: int):
        x = torch.randn(size, dims[0], generator=_generator()).to(device).requires_grad_()
        params = initial_params(dims, _generator(1)).to(device).requires_grad_()
        upstream = torch.randn(size, dims[-1], generator=_generator(2)).to(device)
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
        features = torch.randn(rows, density[0], generator=_generator()).to(device).requires_grad_()
        directions = torch.randn(rays, 16, generator=_generator(1)).to(device)
        nets = [
            initial_params(dims, _generator(i)).to(device).requires_grad_()
            for i, dims in ((2, density), (3, colour))
        ]
        ups = (
            torch.randn(rows, generator=_generator(4)).to(device),
            torch.randn(rows, 3, generator=_generator(5)).to(device),
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
    first = [torch.randn(shape, generator=_generator(i)).to(device) for i in range(4)]
    first[3] = first[3].abs()
    touched = (torch.rand(size, 1, generator=_generator(5)) < 0.25).to(device)
    gradient = first[1] * touched
    values, work, one, two = first[0].clone(), gradient.clone(), first[2].clone(), first[3].clone()

    def run() -> list[Tensor]:
        for target, source in zip((values, work, one, two), (first[0], gradient, first[2], first[3])):
            target.copy_(source)
        sparse_adam_(values, work, one, two, step=3, lr=1e-2, decay=1e-4)
        return [values, work, one, two]

    # The four copies that restore the input are part of what is timed.
    return run, 16.0 * size * (8 + 1 + 0.25 * 7)


def _grids(device: torch.device, voxels: int, texels: int) -> Grids:
    spec = GridSpec(voxels, texels, scale=1.2)
    blocks = spec.blocks
    alive = torch.rand(blocks**3, generator=_generator()) < 0.3
    index = torch.where(alive, alive.long().cumsum(0) - 1, -1).view(blocks, blocks, blocks)
    grids = Grids.allocate(spec, index.to(device))
    for i, records in enumerate((grids.voxel_records, grids.plane_records)):
        records[:, 8:16] = torch.randn(records.shape[0], 8, generator=_generator(i)).to(device)
    grids.requantise()
    return grids


def _grid(what: str):
    def make(device: torch.device, size: int):
        # On a CPU this is a check alone.
        grids = _grids(device, *((256, 1024) if device.type == "cuda" else (32, 128)))
        samples = 32
        origins, directions, edges = _rays(max(1, size // samples), samples, device)
        rows = edges.shape[0] * samples
        reads = rows * 20.0 * _SECTOR
        if what == "mark":

            def run() -> list[Tensor]:
                grids.voxel_touched.zero_()
                grids.plane_touched.zero_()
                grid_mark(grids, origins, directions, edges)
                return [grids.voxel_touched.float(), grids.plane_touched.float()]

            return run, reads
        if what == "read":
            points = (4.0 * torch.rand(rows, 3, generator=_generator()) - 2.0).to(device)
            return (lambda: [one.float() for one in grid_read(grids, points)]), reads + rows * 77.0
        if what == "forward":
            anchor = torch.zeros(1, device=device)
            call = lambda: list(grid_render(grids, anchor, origins, directions, edges, 0.003))  # noqa: E731
            return call, reads + 4.0 * rows * 2
        anchor = torch.zeros(1, device=device, requires_grad=True)
        ups = (
            torch.randn(len(origins), 14, generator=_generator(1)).to(device),
            torch.randn(len(origins), samples, generator=_generator(2)).to(device),
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
            records[:, :8] = torch.randn(records.shape[0], 8, generator=_generator(6 + i)).to(device)
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
    decoder = VertexDecoder(_STANDARD, (_STANDARD.width, 64, 8), 10.0)

    def make(device: torch.device, size: int):
        grids = _grids(device, *((256, 1024) if device.type == "cuda" else (32, 128)))
        rows = [
            torch.randperm(len(part), generator=_generator(i))[: size // 2].sort().values.to(device)
            for i, part in enumerate((grids.voxels, grids.planes))
        ]
        vertices = Vertices(*rows, block_coordinates(grids).int())
        table = 0.1 * torch.randn(_STANDARD.entry_count, _STANDARD.features, generator=_generator(2))
        values = table.to(device), initial_params(decoder.dims, _generator(3)).to(device)
        count = len(rows[0]) + len(rows[1])
        reads = count * (8.0 + _STANDARD.level_count * 8 * _SECTOR)
        if not backward:

            def run() -> list[Tensor]:
                decode_vertices_(grids, vertices, *values, decoder)
                return [grids.voxels[rows[0]].float(), grids.planes[rows[1]].float()]

            return run, reads + 8.0 * count
        ups = [
            torch.randn(len(part), 8, generator=_generator(4 + i)).to(device) for i, part in enumerate(rows)
        ]

        def differentiate() -> list[Tensor]:
            grids.voxel_records[rows[0], :8] = ups[0]
            grids.plane_records[rows[1], :8] = ups[1]
            return list(vertex_gradients_(grids, vertices, *values, decoder))

        return differentiate, 2.0 * reads + 64.0 * count

    return make


def _multisample(backward: bool):
    def make(device: torch.device, size: int):
        spec, samples, points = _STANDARD, 32, 3
        origins, directions, edges = _rays(max(1, size // samples), samples, device)
        radii = torch.full_like(origins[:, 0], 2e-3)
        table = (torch.rand(spec.entry_count, spec.features, generator=_generator()) - 0.5).to(device)
        table.requires_grad_()
        scales = torch.ones(spec.level_count, device=device)
        call = lambda: multisample_encode(  # noqa: E731
            origins, directions, edges, radii, table, spec, Frustums(1.0, points), scales
        )
        rows, width = edges.shape[0] * samples, spec.width + spec.level_count
        corners = rows * points * 8.0 * spec.level_count * _SECTOR
        moved = corners + 4.0 * rows * (width + 1)
        if not backward:
            return (lambda: [call().detach()]), moved
        out = call()
        upstream = torch.randn(out.shape, generator=_generator(1)).to(device)
        run = lambda: list(torch.autograd.grad(out, table, upstream, retain_graph=True))  # noqa: E731
        return run, moved + corners + 4.0 * table.numel()

    return make


def _volume(backward: bool):
    def make(device: torch.device, size: int):
        samples = 32
        _, _, edges = _rays(max(1, size // samples), samples, device)
        shape = edges[:, 1:].shape
        density = torch.rand(shape, generator=_generator()).to(device).requires_grad_()
        colour = torch.rand(*shape, 3, generator=_generator(1)).to(device).requires_grad_()
        call = lambda: list(volume_render(density, edges, colour, edges / edges[:, -1:]))  # noqa: E731
        if not backward:
            return (lambda: [one.detach() for one in call()]), 28.0 * density.numel()
        seen = call()
        ups = [torch.randn(one.shape, generator=_generator(2)).to(device) for one in seen]
        run = lambda: list(torch.autograd.grad(seen, (density, colour), ups, retain_graph=True))  # noqa: E731
        return run, 48.0 * density.numel()

    return make


def _place(device: torch.device, size: int):
    rays, bins, samples = max(1, size // 32), 64, 32
    edges = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, -1).contiguous()
    weights = torch.rand(rays, bins, generator=_generator()).to(device).square()
    jitter = (torch.rand(rays, generator=_generator(1)) - 0.5).to(device)
    run = lambda: [importance_sample(edges, weights, samples, jitter, 0.05)]  # noqa: E731
    return run, 4.0 * rays * (2 * bins + samples + 3)


def _interlevel(device: torch.device, size: int):
    rays, bins, samples = max(1, size // 32), 64, 32
    edges = torch.linspace(0.0, 1.0, samples + 1, device=device).expand(rays, -1).contiguous()
    outer = torch.linspace(0.0, 1.0, bins + 1, device=device).expand(rays, -1).contiguous()
    weights = torch.rand(rays, samples, generator=_generator()).softmax(-1).to(device)
    proposal = torch.rand(rays, bins, generator=_generator(1)).softmax(-1).to(device).requires_grad_()

    def run() -> list[Tensor]:
        loss = blurred_interlevel(edges, weights, outer, proposal, 0.01)
        return [loss.detach(), *torch.autograd.grad(loss.sum(), proposal)]

    return run, 4.0 * rays * (2 * samples + 4 * bins + 4)


def _distance_grid(device: torch.device, size: int):
    edge = max(2, round(size ** (1 / 3)))
    occupied = (torch.rand(3 * (edge,), generator=_generator()) < 1e-4).to(device)
    # Four passes: 16-bit distances are written and read three times.
    return (lambda: [distance_grid(occupied).float()]), occupied.numel() * (2.0 + 6 * 2)


def _mark_alive(device: torch.device, size: int):
    rays, samples, cells = size // 32, 32, 256 if device.type == "cuda" else 64
    generator = _generator()
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
        generator = _generator()
        features = torch.rand(size, 14, generator=generator).to(device).requires_grad_()
        directions = torch.nn.functional.normalize(torch.randn(size, 3, generator=generator), dim=-1)
        # The rays of a patch start from one place.
        positions = 2.0 * torch.rand(1 + size // patch, 3, generator=generator) - 1.0
        positions = positions.repeat_interleave(patch, 0)[:size].contiguous()
        params = 0.3 * torch.randn(lattice**3, appearance_size(width), generator=generator)
        params = params.to(device).requires_grad_()
        upstream = torch.randn(size, 3, generator=_generator(1)).to(device)
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


_STANDARD = HashSpec(8, 4, 20, 16, 4096)
_WIDE = HashSpec(16, 2, 19, 16, 2048)
_PROPOSAL = HashSpec(6, 2, 17, 16, 512)
_ROWS = 2**19

CASES = (
    # At 4096 cells an axis, the rounding of a coordinate is 2e-4 of a cell.
    Case("hash_encode/L8_F4_T20/forward", _hash(_STANDARD, False), _ROWS, tolerance=2e-3),
    Case("hash_encode/L8_F4_T20/backward", _hash(_STANDARD, True), _ROWS, tolerance=2e-3),
    Case("hash_encode/L16_F2_T19/forward", _hash(_WIDE, False), _ROWS, tolerance=2e-3),
    Case("hash_encode/L16_F2_T19/backward", _hash(_WIDE, True), _ROWS, tolerance=2e-3),
    Case("hash_encode/L6_F2_T17/forward", _hash(_PROPOSAL, False), _ROWS, tolerance=2e-3),
    Case("hash_encode/L6_F2_T17/backward", _hash(_PROPOSAL, True), _ROWS, tolerance=2e-3),
    # Trilinear cells meet at kinks: a point on one may take either side's slope.
    Case("hash_encode/L6_F2_T17/backward_input", _hash(_PROPOSAL, True, True), _ROWS, tolerance=2e-2),
    Case("multisample/L8_F4_T20_3/forward", _multisample(False), _ROWS, tolerance=2e-3),
    Case("multisample/L8_F4_T20_3/backward", _multisample(True), _ROWS, tolerance=2e-3),
    Case("volume_render/forward", _volume(False), _ROWS),
    Case("volume_render/backward", _volume(True), _ROWS, tolerance=1e-3),
    Case("importance_sample", _place, _ROWS),
    Case("blurred_interlevel", _interlevel, _ROWS, tolerance=1e-3),
    Case("ray_points", _ray_points, _ROWS),
    Case("mlp/12_16_1/forward", _mlp((12, 16, 1), False), _ROWS, loose=1e-2),
    Case("mlp/12_16_1/backward", _mlp((12, 16, 1), True), _ROWS, loose=2e-2),
    Case("radiance_head/forward", _head(False), _ROWS, loose=1e-2),
    Case("radiance_head/backward", _head(True), _ROWS, loose=3e-2),
    Case("sparse_adam", _sparse_adam, 2**22),
    Case("grid_render/forward", _grid("forward"), _ROWS, tolerance=1e-3),
    Case("grid_render/backward", _grid("backward"), _ROWS, tolerance=1e-3),
    Case("grid_mark", _grid("mark"), _ROWS),
    Case("grid_read", _grid("read"), _ROWS),
    Case("grid_adam", _grid("adam"), _ROWS),
    # A byte between two values may go either way.
    Case("vertex_decode/forward", _vertex_decode(False), _ROWS, tolerance=5e-3, loose=2e-2),
    Case("vertex_decode/backward", _vertex_decode(True), _ROWS, tolerance=5e-3, loose=3e-2),
    Case("distance_grid", _distance_grid, 2**24),
    Case("block_samples", _block_samples, 2**23),
    Case("mark_alive", _mark_alive, 2**24, tolerance=1e-3),
    Case("appearance/P1_W16/forward", _appearance(1, False), 2**17),
    Case("appearance/P1_W16/backward", _appearance(1, True), 2**17, tolerance=1e-3),
    Case("appearance/P5_W16/forward", _appearance(5, False), 2**17),
    Case("appearance/P5_W16/backward", _appearance(5, True), 2**17, tolerance=1e-3),
)


def difference(got: list[Tensor], wanted: list[Tensor]) -> tuple[float, float]:
    """Return the greatest and the mean difference, as shares of the largest wanted value of each tensor.

    The mean is over the worst tensor.
    """
    worst, mean = 0.0, 0.0
    for one, other in zip(got, wanted, strict=True):
        if not torch.isfinite(one).all():
            return float("inf"), float("inf")
        if not other.numel():
            continue
        scale = max(float(other.abs().max()), 1e-12)
        gap = (one.double() - other.double()).abs()
        worst, mean = max(worst, float(gap.max()) / scale), max(mean, float(gap.mean()) / scale)
    return worst, mean


def check(case: Case, suite: Suite) -> dict:
    """Compare a kernel with the reference on the suite's device."""
    size = 2**12 if suite.small or not suite.has_gpu else 2**16
    got = [one.detach().clone() for one in case.make(suite.device, size)[0]()]
    with reference_kernels():
        wanted = [one.detach().clone() for one in case.make(suite.device, size)[0]()]
    worst, mean = difference(got, wanted)
    tolerance = case.loose if case.loose is not None and suite.has_gpu else case.tolerance
    return {"worst": worst, "mean": mean, "tolerance": tolerance, "agrees": worst <= tolerance}


def measure(case: Case, suite: Suite, copy: float) -> dict:
    """Time a kernel and the reference at full size."""
    run, moved = case.make(suite.device, case.size)
    seconds, spread = median_seconds(run, suite.device, suite.repeats)
    values = {
        "median_ms": 1e3 * seconds,
        "spread_ms": 1e3 * spread,
        "gb_per_second": 1e-9 * moved / seconds,
        "share_of_copy": moved / seconds / copy,
    }
    del run
    try:
        with reference_kernels():
            run, _ = case.make(suite.device, case.size)
            slow, _ = median_seconds(run, suite.device, max(3, suite.repeats // 4))
        values |= {"peer": "PyTorch reference", "peer_ms": 1e3 * slow, "speedup": slow / seconds}
    except torch.cuda.OutOfMemoryError:
        values["peer"] = "PyTorch reference: not enough memory"
    return values


def run(suite: Suite) -> None:
    """Check and measure each kernel; one that fails does not keep the others back.

    Raises:
        RuntimeError: After the last kernel, if one of them failed or differs.
    """
    copy = bandwidth(suite)
    suite.add("copy", gb_per_second=1e-9 * copy)
    suite.add("kernel table", table=native.kernel_table())
    bad = []
    for case in CASES:
        try:
            values = check(case, suite)
            if suite.has_gpu:
                values |= measure(case, suite, copy)
            suite.add(f"kernels/{case.name}", **values)
            if not values["agrees"]:
                bad.append(case.name)
        except Exception as error:
            suite.add(f"kernels/{case.name}", error=f"{type(error).__name__}: {error}")
            bad.append(case.name)
    if bad:
        raise RuntimeError(f"kernels that failed or differ from the reference: {', '.join(bad)}")
