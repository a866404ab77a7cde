"""Speed of the renderers of a baked scene, as rays per second and as a ratio to the PyTorch reference.

    python benchmarks/render.py [--scene DIR] [--size 640x360] [--triplane 1024] [--json FILE]

Without --scene a room made from formulas is drawn from inside, every ray hitting something. The reference
draws the same frames at a quarter of the edge (its speed per ray hardly depends on the number of rays).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from smerf.capture.types import Camera, Intrinsics
from smerf.kernels import native as libraries
from smerf.render import native, reference
from smerf.scene import BakedScene, load_scene
from smerf.scene.example import example_camera, example_scene

VIEWS = 4


def at_size(camera: Camera, width: int, height: int) -> Camera:
    """Return the camera with an image of another size and the same vertical field of view."""
    lens = camera.intrinsics
    focal = lens.fy * height / lens.height
    return replace(
        camera, intrinsics=Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2)
    )


def median_time(draw: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median and the spread (half the range) of the seconds that ``draw`` takes, after one
    warm-up.
    """
    draw()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        draw()
        times.append(time.perf_counter() - started)
    return statistics.median(times), (max(times) - min(times)) / 2


def views(scene: BakedScene) -> list[Camera]:
    """Return cameras of the scene, or of the built-in room."""
    if scene.manifest.cameras:
        step = max(1, len(scene.manifest.cameras) // VIEWS)
        return [entry.camera for entry in scene.manifest.cameras[::step]][:VIEWS]
    if scene.root is not None and scene.manifest.start is not None:
        camera = example_camera(fov_degrees=scene.manifest.start.fov_degrees)
        return [replace(camera, world_from_cam=scene.manifest.start.world_from_cam)]
    return [example_camera(turn=2 * np.pi * i / VIEWS) for i in range(VIEWS)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--triplane", type=int, default=1024, help="resolution of the built-in room")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    width, height = (int(edge) for edge in args.size.split("x"))
    scene = load_scene(args.scene) if args.scene else example_scene(args.triplane)
    used = [row["name"] for row in libraries.status() if row["state"] == "used"]
    texels = scene.params.triplane_resolution
    print(f"native: {used or 'absent'}, threads: {torch.get_num_threads()}, T = {texels}")
    print("view       ms     fps  Mray/s  reference Mray/s  ratio  within 1/255")
    records = []
    for i, camera in enumerate(views(scene)):
        sized = at_size(camera, width, height)
        seconds, spread = median_time(lambda sized=sized: native.render_camera(scene, sized), args.repeats)
        peer, _ = median_time(lambda sized=sized: reference.render_camera(scene, sized), 1)
        rate = width * height / seconds / 1e6
        peer_rate = width * height / peer / 1e6
        difference = np.abs(native.render_camera(scene, sized) - reference.render_camera(scene, sized))
        agreement = float((difference.max(-1) <= 1 / 255).mean())
        print(
            f"{i:4d} {1e3 * seconds:8.1f} {1 / seconds:7.2f} {rate:7.3f} {peer_rate:17.4f} "
            f"{rate / peer_rate:6.1f} {agreement:13.4%}"
        )
        records.append(
            {
                "name": f"render view {i}",
                "size": [width, height],
                "triplane_resolution": scene.params.triplane_resolution,
                "median_ms": 1e3 * seconds,
                "spread": 1e3 * spread,
                "peer": "PyTorch reference",
                "peer_ms": 1e3 * peer,
                "speedup": rate / peer_rate,
                "within_1_of_255": agreement,
                "device": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {used}",
                "versions": {"torch": torch.__version__, "numpy": np.__version__},
            }
        )
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
