"""What switching submodels shows: the same cameras drawn by their own and by the neighbouring submodel of a baked run.

    python benchmarks/submodels.py RUN [--split test|train] [--most N] [--frames FOLDER] [--json FILE]

A camera's neighbour is the other submodel whose cell is nearest. "near a border" are the cameras that are less than a
tenth of a cell's edge nearer to their own cell's centre than to the neighbour's: where viewers switch. PSNR is over a
whole frame. Submodels are read one at a time. Peak memory, time and bytes are those of the run's own stages.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smerf.cli.options import scene_folder
from smerf.engine.environment import processor_name
from smerf.engine.folder import RunFolder
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import load_scene
from smerf.student.partition import Partition

BORDER = 0.1
"""Share of a cell's edge within which a camera is near a border."""


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR of two pictures in [0, 1], in dB."""
    return float(-10.0 * np.log10(max(1e-10, float(np.mean((one - other) ** 2)))))


def switches(partition: Partition, centres: np.ndarray) -> list[tuple[int, int, float]]:
    """Return for each camera its own submodel, the next nearest one, and how much nearer its own is, in cells."""
    distances = partition.distances(torch.tensor(centres)).numpy()
    nearest = np.argsort(distances, -1, kind="stable")[:, :2]
    gap = np.diff(np.take_along_axis(distances, nearest, -1), axis=-1)[:, 0] * partition.edge / 2.0
    return [(int(home), int(other), float(one)) for (home, other), one in zip(nearest, gap)]


def measure(run: RunFolder, split: str, most: int, frames: Path | None) -> list[dict]:
    """Return a record for each group of cameras and for each stage."""
    scene = load_scene(scene_folder(run.path), cache_size=1)
    params = scene.params
    partition = Partition(params.submodel_grid_resolution, params.params_to_sm, params.submodel_scale)
    if len(partition) < 2:
        raise SystemExit(f"{run.path}: has one submodel: there is nothing to switch to")
    capture = load_run_capture(run, load_config(run))
    chosen = capture.split(split)
    chosen = chosen[:: max(1, len(chosen) // most)]
    pairs = switches(partition, np.stack([f.camera.world_from_cam[:, 3] for f in chosen]))
    pictures: dict[tuple[int, int], np.ndarray] = {}
    for k in range(len(partition)):
        for i, (home, other, _) in enumerate(pairs):
            if k in (home, other):
                pictures[i, k] = scene.render(chosen[i].camera, k=k)
    agree = np.array(
        [psnr(pictures[i, home], pictures[i, other]) for i, (home, other, _) in enumerate(pairs)]
    )
    border = np.array([gap < BORDER for _, _, gap in pairs])
    if frames is not None:
        from PIL import Image

        frames.mkdir(parents=True, exist_ok=True)
        for i in np.argsort(agree)[:: max(1, len(agree) // 8)]:
            home, other, _ = pairs[i]
            both = np.concatenate([pictures[i, home], pictures[i, other]], 1)
            name = f"{agree[i]:04.1f}dB_{i:03d}_{partition.cells[home]:03d}_{partition.cells[other]:03d}.png"
            Image.fromarray(np.rint(255 * both).astype(np.uint8)).save(frames / name)
    records = []
    for name, values in (("all cameras", agree), ("near a border", agree[border])):
        if len(values):
            records.append(
                {
                    "name": f"submodels/switch, {name}",
                    "cameras": len(values),
                    "psnr": float(values.mean()),
                    "psnr_least": float(values.min()),
                    "share_30_db": float((values >= 30.0).mean()),
                }
            )
    for name in ("teacher", "student", "baked"):
        stage = run.stage(name)
        if stage is not None:
            size = sum(path.stat().st_size for path in run.folder(name).rglob("*") if path.is_file())
            records.append(
                {
                    "name": f"submodels/{name}",
                    "median_ms": 1e3 * stage.seconds,
                    "peak_memory_mb": stage.peak_memory_mb,
                    "bytes": size,
                }
            )
    for record in records:
        record |= {"submodels": len(partition), "partition": partition.edge}
        record |= {
            "device": f"{processor_name()}, {os.cpu_count()} CPUs",
            "versions": {"torch": torch.__version__},
        }
    return records


def print_table(records: list[dict]) -> None:
    """Print what was measured."""
    print(f"{'':32} {'cameras':>8} {'mean dB':>8} {'least dB':>9} {'>= 30 dB':>9}")
    for one in records:
        if "psnr" in one:
            share = f"{100 * one['share_30_db']:.0f} %"
            print(
                f"{one['name']:32} {one['cameras']:8d} {one['psnr']:8.2f} {one['psnr_least']:9.2f} {share:>9}"
            )
    print(f"{'':32} {'seconds':>8} {'peak MB':>8} {'MB':>9}")
    for one in records:
        if "bytes" in one:
            peak = one["peak_memory_mb"]
            print(
                f"{one['name']:32} {one['median_ms'] / 1e3:8.1f} {'-' if peak is None else f'{peak:.0f}':>8} "
                f"{one['bytes'] / 1e6:9.1f}"
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder whose scene is baked")
    parser.add_argument("--split", choices=("test", "train"), default="test")
    parser.add_argument("--most", type=int, default=60, help="most cameras that are drawn")
    parser.add_argument("--frames", type=Path, help="write some of the pairs here")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    records = measure(RunFolder.open(options.run), options.split, options.most, options.frames)
    print_table(records)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
