"""Compare our renderers with frames that the official SMERF viewer drew.

    python -m benchmarks.official_scenes --data DIR [--json FILE] [--save DIR]

DIR holds scenes as folders with ``baked/``, ``cameras.json`` and ``frames/``. Prints per frame the fraction of
pixels within 2/255 (largest channel), the largest and the mean difference. Exits 5 if a frame has less than
99 % within 2/255.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Benchmark, Report
from smerf.capture.types import Camera, Intrinsics
from smerf.render import march as native
from smerf.render import reference
from smerf.scene import load_scene
from smerf.scene.types import VIEWER_FROM_TRAINING
from smerf.scene.view import OFFICIAL

RENDERERS: dict[str, Callable[..., np.ndarray]] = {
    "reference": reference.render_camera,
    "native": native.render_camera,
}


def read_camera(entry: dict) -> Camera:
    """Turn one entry of cameras.json (viewer axes) into a camera in training axes."""
    pose = VIEWER_FROM_TRAINING.T @ np.array(entry["camera_to_world_viewer_axes"])[:3]
    width, height = entry["width"], entry["height"]
    focal = 0.5 * height / math.tan(0.5 * math.radians(entry["fov_y_degrees"]))
    return Camera(Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2), pose)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--save", type=Path, help="write rendered frames here")


def measure(options: argparse.Namespace, report: Report) -> int:
    titles = ("<=1/255", "<=2/255", "max", "mean", "s")
    print(f"{'scene':10} {'frame':14} {'renderer':10} " + " ".join(f"{title:>8}" for title in titles))
    for folder in sorted(path.parent for path in options.data.glob("*/cameras.json")):
        scene = load_scene(folder / "baked")
        for entry in json.loads((folder / "cameras.json").read_text())["frames"]:
            truth = np.asarray(Image.open(folder / entry["file"]).convert("RGB")).astype(int)
            for name, render in RENDERERS.items():
                started = time.perf_counter()
                image = render(scene, read_camera(entry), options=OFFICIAL, k=entry["active_submodel"])
                seconds = time.perf_counter() - started
                image = np.round(255 * image).astype(np.uint8)
                difference = np.abs(image.astype(int) - truth).max(-1)
                record = report.add(
                    f"official_scenes/{folder.name}/{entry['file']}/{name}",
                    within_1=float((difference <= 1).mean()),
                    within_2=float((difference <= 2).mean()),
                    max=int(difference.max()),
                    mean=float(difference.mean()),
                    seconds=seconds,
                )
                print(
                    f"{folder.name:10} {entry['file']:14} {name:10} {record['within_1']:8.4%} "
                    f"{record['within_2']:8.4%} {record['max']:8d} {record['mean']:8.3f} {seconds:8.2f}"
                )
                if options.save:
                    options.save.mkdir(parents=True, exist_ok=True)
                    file = f"{folder.name}_{Path(entry['file']).stem}_{name}.png"
                    Image.fromarray(image).save(options.save / file)
    records = report.records
    return 0 if records and all(record["within_2"] >= 0.99 for record in records) else 5


BENCHMARK = Benchmark(__doc__, measure, options, needs="scenes with frames of the official viewer")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
