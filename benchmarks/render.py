"""Frames per second of the native renderer of a baked scene, and its ratio to the PyTorch reference.

    python benchmarks/render.py [--scene RUN ...] [--size 640x360] [--triplane 1024] [--repeats 10] [--json FILE]

Scenes (runs, or their baked folders) are drawn from cameras of their manifest. Without --scene a room made from
formulas is drawn from inside, every ray hitting something. The reference draws every picture once, at the same size;
the pictures are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from smerf.capture.types import Camera, Intrinsics
from smerf.cli.options import scene_folder
from smerf.engine.environment import processor_name
from smerf.kernels import native as libraries
from smerf.render import march as native
from smerf.render import reference
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


def measure(scene: BakedScene, camera: Camera, repeats: int) -> dict[str, float]:
    """Time one camera natively and with the reference, and compare the pictures."""
    pixels = camera.intrinsics.width * camera.intrinsics.height
    seconds, spread = median_time(lambda: native.render_camera(scene, camera), repeats)
    started = time.perf_counter()
    wanted = reference.render_camera(scene, camera)
    peer = time.perf_counter() - started
    difference = np.abs(native.render_camera(scene, camera) - wanted)
    return {
        "median_ms": 1e3 * seconds,
        "spread": 1e3 * spread,
        "fps": 1.0 / seconds,
        "megarays_per_second": 1e-6 * pixels / seconds,
        "peer_ms": 1e3 * peer,
        "speedup": peer / seconds,
        "within_1_of_255": float((difference.max(-1) <= 1 / 255).mean()),
    }


def summary(name: str, rows: list[dict]) -> dict:
    """Return the record of all views of a scene: frames per second over the mean time, and the least ratio."""
    mean = statistics.mean(row["median_ms"] for row in rows)
    return {
        "name": f"render {name}, all views",
        "views": len(rows),
        "median_ms": mean,
        "fps": 1e3 / mean,
        "peer_ms": statistics.mean(row["peer_ms"] for row in rows),
        "speedup": statistics.mean(row["peer_ms"] for row in rows) / mean,
        "least_speedup": min(row["speedup"] for row in rows),
        "within_1_of_255": min(row["within_1_of_255"] for row in rows),
    }


def measure_scene(name: str, scene: BakedScene, size: tuple[int, int], repeats: int) -> list[dict]:
    """Measure all views of a scene, print them, and return the records."""
    used = [row["name"] for row in libraries.status() if row["state"] == "used"]
    common = {
        "size": list(size),
        "triplane_resolution": scene.params.triplane_resolution,
        "peer": "PyTorch reference",
        "device": f"{processor_name()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, {used}",
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    print(f"{name}: native {used or 'absent'}, {torch.get_num_threads()} threads, {size[0]}x{size[1]}")
    print("view       ms     fps  Mray/s  reference ms  ratio  within 1/255")
    rows = []
    for i, camera in enumerate(views(scene)):
        row = measure(scene, at_size(camera, *size), repeats)
        print(
            f"{i:4d} {row['median_ms']:8.1f} {row['fps']:7.2f} {row['megarays_per_second']:7.3f} "
            f"{row['peer_ms']:13.0f} {row['speedup']:6.1f} {row['within_1_of_255']:13.4%}",
            flush=True,
        )
        rows.append({"name": f"render {name}, view {i}"} | row)
    total = summary(name, rows)
    print(f" all {total['median_ms']:8.1f} {total['fps']:7.2f} {'':21s} {total['speedup']:6.1f}")
    return [row | common for row in [*rows, total]]


def name_of(path: Path) -> str:
    """Return a scene's name: its run's, if it is the ``baked`` folder of one."""
    path = path.resolve()
    return path.parent.name if path.name == "baked" else path.name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", type=Path, nargs="*", default=[])
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--triplane", type=int, default=1024, help="resolution of the built-in room")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    width, height = (int(edge) for edge in args.size.split("x"))
    scenes = [(name_of(path), load_scene(scene_folder(path))) for path in args.scene]
    records = []
    for name, scene in scenes or [("room", example_scene(args.triplane))]:
        records += measure_scene(name, scene, (width, height), args.repeats)
    if args.json:
        args.json.write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
