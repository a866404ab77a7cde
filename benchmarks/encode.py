"""Speed of the native hash encoding, forward and backward, and as a ratio to PyTorch.

    python -m benchmarks.encode [--rays 2048] [--samples 32] [--repeats 10] [--json FILE]

Points are the samples of rays through a contracted scene, in ray order, at 16 levels of 2 features and 2^19
entries. The peer is the faster way to write the encoding in PyTorch: one ``embedding_bag`` a level whose
per-sample weights are the trilinear ones. Only the tables are differentiated, as in training.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.common import Benchmark, Report, median_ms
from smerf.errors import MissingPartError
from smerf.kernels import HashSpec, hash_encode, native, ray_points
from smerf.kernels.reference.hash_encoding import hash_bucket

WARM_UP = 3
SPEC = HashSpec(level_count=16, features=2, log2_size=19, base=16, finest=2048)


def ray_ordered_points(rays: int, samples: int, generator: torch.Generator) -> Tensor:
    """Return points (rays * samples, 3) in [0, 1]: rays of one small picture, near samples first."""
    columns = torch.linspace(-0.5, 0.5, max(1, int(rays**0.5)))
    grid = torch.cartesian_prod(columns, columns)
    index = torch.randint(len(grid), (rays,), generator=generator)
    directions = torch.nn.functional.normalize(torch.cat([grid[index], -torch.ones(rays, 1)], 1), dim=-1)
    origins = torch.rand(rays, 3, generator=generator) * 0.5
    edges = torch.logspace(-1, 1, samples + 1).expand(rays, -1).contiguous()
    return ray_points(origins, directions, edges, torch.full((rays,), 1e-3), 1.0)[0]


def embedding_bag_encode(x: Tensor, tables: list[Tensor]) -> Tensor:
    """Encode points (N, 3) with one ``embedding_bag`` a level."""
    corners = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    features = []
    for table, (_, resolution, size) in zip(tables, SPEC.levels(), strict=True):
        grid = x * resolution - 0.5
        base = grid.floor()
        fraction = (grid - base)[:, None]
        cells = (base.long()[:, None] + corners).clamp(0, resolution - 1)
        if size < resolution**3:
            entries = hash_bucket(cells, size)
        else:
            entries = (cells[..., 2] * resolution + cells[..., 1]) * resolution + cells[..., 0]
        weights = torch.where(corners.bool(), fraction, 1.0 - fraction).prod(-1)
        features.append(
            torch.nn.functional.embedding_bag(entries, table, per_sample_weights=weights, mode="sum")
        )
    return torch.cat(features, -1)


def contenders(rays: int, samples: int) -> tuple[Callable, Callable, Callable[[], tuple[float, float]], int]:
    """Return our encoding, the peer's, the largest differences of both (values, gradients), and the points."""
    generator = torch.Generator().manual_seed(0)
    x = ray_ordered_points(rays, samples, generator)
    table = (torch.rand(SPEC.entry_count, SPEC.features, generator=generator) * 2 - 1) * 1e-4
    tables = [table[first : first + size].clone().requires_grad_() for first, _, size in SPEC.levels()]
    table.requires_grad_()
    upstream = torch.randn(len(x), SPEC.width, generator=generator)

    def ours(backward: bool) -> Tensor:
        table.grad = None
        out = hash_encode(x, table, SPEC)
        if backward:
            out.backward(upstream)
        return out

    def theirs(backward: bool) -> Tensor:
        for level in tables:
            level.grad = None
        out = embedding_bag_encode(x, tables)
        if backward:
            out.backward(upstream)
        return out

    def differences() -> tuple[float, float]:
        values = (ours(True) - theirs(True)).abs().max().item() / 1e-4
        gradient = torch.cat([level.grad for level in tables])
        return values, ((table.grad - gradient).abs().max() / gradient.abs().max()).item()

    return ours, theirs, differences, len(x)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rays", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)


def measure(options: argparse.Namespace, report: Report) -> None:
    if native.load_cpu() is None:
        raise MissingPartError("the native kernels are not built here: install a C++ compiler and reinstall")
    ours, theirs, differences, points = contenders(options.rays, options.samples)
    values, gradients = differences()
    print(f"{torch.get_num_threads()} threads, {options.rays} rays x {options.samples} samples")
    print("pass                   ms   spread   ns/point   PyTorch ms  speedup  largest relative error")
    for name, backward in (("forward", False), ("forward + backward", True)):
        milliseconds, spread = median_ms(partial(ours, backward), options.repeats, WARM_UP)
        peer, _ = median_ms(partial(theirs, backward), options.repeats, WARM_UP)
        error = max(values, gradients) if backward else values
        print(
            f"{name:18s} {milliseconds:6.1f} {spread:8.1f} {1e6 * milliseconds / points:10.0f} {peer:12.1f} "
            f"{peer / milliseconds:8.1f} {error:12.1e}"
        )
        report.add(
            f"hash encoding {name}", points=points, levels=SPEC.level_count, features=SPEC.features,
            table_size=1 << SPEC.log2_size, median_ms=milliseconds, spread=spread,
            peer="PyTorch embedding_bag, one a level", peer_ms=peer, speedup=peer / milliseconds,
            max_relative_error=error,
        )  # fmt: skip


BENCHMARK = Benchmark(__doc__, measure, options, short=["--repeats", "3"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
