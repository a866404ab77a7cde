"""Speed of the native hash encoding, forward and backward, and as a ratio to PyTorch.

    python benchmarks/encode.py [--rays 2048] [--samples 32] [--repeats 10] [--json FILE]

Points are the samples of rays through a contracted scene, in ray order, at 16 levels of 2 features and 2^19
entries. The peer is the faster way to write the encoding in PyTorch: one ``embedding_bag`` a level whose
per-sample weights are the trilinear ones. Only the tables are differentiated, as in training.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from smerf.engine.environment import processor_name
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


def median_time(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median and the spread (half the range) of the seconds that ``run`` takes."""
    times = []
    for i in range(WARM_UP + repeats):
        started = time.perf_counter()
        run()
        if i >= WARM_UP:
            times.append(time.perf_counter() - started)
    return statistics.median(times), (max(times) - min(times)) / 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rays", type=int, default=2048)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    used = [row["name"] for row in native.status() if row["state"] == "used"]
    if not used:
        raise SystemExit("the native kernels are not built here: install a C++ compiler and reinstall")

    generator = torch.Generator().manual_seed(0)
    x = ray_ordered_points(args.rays, args.samples, generator)
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

    error = (ours(True) - theirs(True)).abs().max().item() / 1e-4
    gradient = torch.cat([level.grad for level in tables])
    gradient_error = ((table.grad - gradient).abs().max() / gradient.abs().max()).item()
    print(f"native: {used[0]}, threads: {torch.get_num_threads()}, {args.rays} rays x {args.samples} samples")
    print("pass                   ms   spread   ns/point   PyTorch ms  speedup  worst relative error")
    records = []
    for name, backward in (("hash encoding forward", False), ("hash encoding forward + backward", True)):
        seconds, spread = median_time(lambda backward=backward: ours(backward), args.repeats)
        peer, _ = median_time(lambda backward=backward: theirs(backward), args.repeats)
        worst = max(error, gradient_error) if backward else error
        print(
            f"{name.removeprefix('hash encoding '):18s} {1e3 * seconds:6.1f} {1e3 * spread:8.1f} "
            f"{1e9 * seconds / len(x):10.0f} {1e3 * peer:12.1f} {peer / seconds:8.1f} {worst:12.1e}"
        )
        records.append(
            {
                "name": name,
                "points": len(x),
                "levels": SPEC.level_count,
                "features": SPEC.features,
                "table_size": 1 << SPEC.log2_size,
                "median_ms": 1e3 * seconds,
                "spread": 1e3 * spread,
                "peer": "PyTorch embedding_bag, one a level",
                "peer_ms": 1e3 * peer,
                "speedup": peer / seconds,
                "worst_relative_error": worst,
                "threads": torch.get_num_threads(),
                "device": f"{processor_name()}, {os.cpu_count()} CPUs, {used[0]}",
                "versions": {"python": platform.python_version(), "torch": torch.__version__},
            }
        )
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
