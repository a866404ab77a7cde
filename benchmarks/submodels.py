"""What switching submodels shows: the same cameras drawn by their own and by the neighbouring submodel of a baked run.

    python -m benchmarks.submodels RUN [--split test|train] [--max-cameras N] [--frames FOLDER] [--json FILE]

A camera's neighbour is the other submodel whose cell is nearest. "near a border" are the cameras that are less than a
tenth of a cell's edge nearer to their own cell's centre than to the neighbour's: where viewers switch. PSNR is over a
whole frame. Submodels are read one at a time. Peak memory, time and bytes are those of the run's own stages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.common import Benchmark, Report
from smerf.capture.types import Camera
from smerf.cli.options import scene_folder
from smerf.engine.folder import RunFolder
from smerf.errors import UsageError
from smerf.evaluation.metrics import psnr
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import load_scene
from smerf.scene.types import BakedScene
from smerf.student.partition import Partition

BORDER = 0.1
"""Fraction of a cell's edge within which a camera is near a border."""


def switches(partition: Partition, centres: np.ndarray) -> list[tuple[int, int, float]]:
    """Return for each camera its own submodel, the next nearest one, and how much nearer its own is, in cells."""
    distances = partition.distances(torch.tensor(centres)).numpy()
    nearest = np.argsort(distances, -1, kind="stable")[:, :2]
    gap = np.diff(np.take_along_axis(distances, nearest, -1), axis=-1)[:, 0] * partition.edge / 2.0
    return [(int(home), int(other), float(one)) for (home, other), one in zip(nearest, gap)]


def render_pairs(scene: BakedScene, cameras: list[Camera], pairs: list) -> dict[tuple[int, int], np.ndarray]:
    """Return each camera's image by its own submodel and by the neighbour, by camera and submodel."""
    images: dict[tuple[int, int], np.ndarray] = {}
    for k in range(len(scene.params.params_to_sm)):
        for i, (home, other, _) in enumerate(pairs):
            if k in (home, other):
                images[i, k] = scene.render(cameras[i], k=k)
    return images


def write_frames(folder: Path, images: dict, pairs: list, agree: np.ndarray, cells: Sequence[int]) -> None:
    """Write some of the pairs, one beside the other, the one that differs most first."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in np.argsort(agree)[:: max(1, len(agree) // 8)]:
        home, other, _ = pairs[i]
        both = np.concatenate([images[i, home], images[i, other]], 1)
        name = f"{agree[i]:04.1f}dB_{i:03d}_{cells[home]:03d}_{cells[other]:03d}.png"
        Image.fromarray(np.rint(255 * both).astype(np.uint8)).save(folder / name)


def switch_records(agree: np.ndarray, border: np.ndarray) -> list[dict]:
    """Return a record for all cameras and one for those near a border."""
    return [
        {
            "name": f"submodels/switch, {name}",
            "cameras": len(values),
            "psnr": float(values.mean()),
            "psnr_min": float(values.min()),
            "fraction_30_db": float((values >= 30.0).mean()),
        }
        for name, values in (("all cameras", agree), ("near a border", agree[border]))
        if len(values)
    ]


def stage_records(run: RunFolder) -> list[dict]:
    """Return time, memory and size of the run's stages."""
    stages = {name: stage for name in ("teacher", "student", "baked") if (stage := run.stage(name))}
    return [
        {
            "name": f"submodels/{name}",
            "median_ms": 1e3 * stage.seconds,
            "peak_memory_mb": stage.peak_memory_mb,
            "bytes": sum(path.stat().st_size for path in run.folder(name).rglob("*") if path.is_file()),
        }
        for name, stage in stages.items()
    ]


def print_table(records: list[dict]) -> None:
    """Print what was measured."""
    print(f"{'':32} {'cameras':>8} {'mean dB':>8} {'min dB':>9} {'>= 30 dB':>9}")
    for one in records:
        if "psnr" in one:
            share = f"{100 * one['fraction_30_db']:.0f} %"
            print(
                f"{one['name']:32} {one['cameras']:8d} {one['psnr']:8.2f} {one['psnr_min']:9.2f} {share:>9}"
            )
    print(f"{'':32} {'seconds':>8} {'peak MB':>8} {'MB':>9}")
    for one in records:
        if "bytes" in one:
            peak = one["peak_memory_mb"]
            print(
                f"{one['name']:32} {one['median_ms'] / 1e3:8.1f} {'-' if peak is None else f'{peak:.0f}':>8} "
                f"{one['bytes'] / 1e6:9.1f}"
            )


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder whose scene is baked")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--max-cameras", type=int, default=60)
    parser.add_argument("--frames", type=Path, help="write some of the pairs here")


def measure(options: argparse.Namespace, report: Report) -> None:
    run = RunFolder.open(options.run)
    scene = load_scene(scene_folder(run.path), cache_size=1)
    params = scene.params
    partition = Partition(params.submodel_grid_resolution, params.params_to_sm, params.submodel_scale)
    if len(partition) < 2:
        raise UsageError(f"{run.path}: has one submodel: there is nothing to switch to")
    capture = load_run_capture(run, load_config(run))
    frames = capture.split(options.split)
    cameras = [frame.camera for frame in frames[:: max(1, len(frames) // options.max_cameras)]]
    pairs = switches(partition, np.stack([camera.world_from_cam[:, 3] for camera in cameras]))
    images = render_pairs(scene, cameras, pairs)
    agree = np.array(
        [min(100.0, psnr(images[i, home], images[i, other])) for i, (home, other, _) in enumerate(pairs)]
    )
    if options.frames is not None:
        write_frames(options.frames, images, pairs, agree, partition.cells)
    border = np.array([gap < BORDER for _, _, gap in pairs])
    records = [*switch_records(agree, border), *stage_records(run)]
    for record in records:
        report.add(**record, submodels=len(partition), partition=partition.edge)
    print_table(records)


BENCHMARK = Benchmark(__doc__, measure, options, needs="a run of several submodels")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
