"""Frames per second of the native renderer of a baked scene, and its ratio to the PyTorch reference.

    python -m benchmarks.render [--scene RUN ...] [--size 640x360] [--triplane 1024] [--repeats 10] [--json FILE]

Scenes (runs, or their baked folders) are drawn from cameras of their manifest. Without --scene a room made from
formulas is drawn from inside, every ray hitting something. The reference draws every picture once, at the same size;
the pictures are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, Report, median_ms, size
from smerf.capture.types import Camera, Intrinsics
from smerf.cli.options import scene_folder
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


def views(scene: BakedScene) -> list[Camera]:
    """Return cameras of the scene, or of the built-in room."""
    if scene.manifest.cameras:
        step = max(1, len(scene.manifest.cameras) // VIEWS)
        return [entry.camera for entry in scene.manifest.cameras[::step]][:VIEWS]
    if scene.root is not None and scene.manifest.start is not None:
        camera = example_camera(fov_degrees=scene.manifest.start.fov_degrees)
        return [replace(camera, world_from_cam=scene.manifest.start.world_from_cam)]
    return [example_camera(turn=2 * np.pi * i / VIEWS) for i in range(VIEWS)]


def measure_camera(scene: BakedScene, camera: Camera, repeats: int) -> dict[str, float]:
    """Time one camera natively and with the reference, and compare the pictures."""
    pixels = camera.intrinsics.width * camera.intrinsics.height
    milliseconds, spread = median_ms(lambda: native.render_camera(scene, camera), repeats)
    started = time.perf_counter()
    wanted = reference.render_camera(scene, camera)
    peer = time.perf_counter() - started
    difference = np.abs(native.render_camera(scene, camera) - wanted)
    return {
        "median_ms": milliseconds,
        "spread": spread,
        "fps": 1e3 / milliseconds,
        "megarays_per_second": 1e-3 * pixels / milliseconds,
        "peer_ms": 1e3 * peer,
        "speedup": 1e3 * peer / milliseconds,
        "within_1_of_255": float((difference.max(-1) <= 1 / 255).mean()),
    }


def summary(rows: list[dict]) -> dict:
    """Return the record of all views of a scene: frames per second over the mean time, and the smallest ratio."""
    mean = statistics.mean(row["median_ms"] for row in rows)
    return {
        "views": len(rows),
        "median_ms": mean,
        "fps": 1e3 / mean,
        "peer_ms": statistics.mean(row["peer_ms"] for row in rows),
        "speedup": statistics.mean(row["peer_ms"] for row in rows) / mean,
        "min_speedup": min(row["speedup"] for row in rows),
        "within_1_of_255": min(row["within_1_of_255"] for row in rows),
    }


def measure_scene(name: str, scene: BakedScene, size: tuple[int, int], repeats: int, report: Report) -> None:
    """Measure all views of a scene, print and report them."""
    common = {
        "size": list(size),
        "triplane_resolution": scene.params.triplane_resolution,
        "peer": "PyTorch reference",
    }
    print(f"{name}: {size[0]}x{size[1]}")
    print("view       ms     fps  Mray/s  reference ms  ratio  within 1/255")
    rows = []
    for i, camera in enumerate(views(scene)):
        row = measure_camera(scene, at_size(camera, *size), repeats)
        print(
            f"{i:4d} {row['median_ms']:8.1f} {row['fps']:7.2f} {row['megarays_per_second']:7.3f} "
            f"{row['peer_ms']:13.0f} {row['speedup']:6.1f} {row['within_1_of_255']:13.4%}",
            flush=True,
        )
        rows.append(row)
        report.add(f"render {name}, view {i}", **row, **common)
    total = summary(rows)
    print(f" all {total['median_ms']:8.1f} {total['fps']:7.2f} {'':21s} {total['speedup']:6.1f}")
    report.add(f"render {name}, all views", **total, **common)


def name_of(path: Path) -> str:
    """Return a scene's name: its run's, if it is the ``baked`` folder of one."""
    path = path.resolve()
    return path.parent.name if path.name == "baked" else path.name


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scene", type=Path, nargs="*", default=[])
    parser.add_argument("--size", type=size, default=(640, 360))
    parser.add_argument("--triplane", type=int, default=1024, help="resolution of the built-in room")
    parser.add_argument("--repeats", type=int, default=10)


def measure(options: argparse.Namespace, report: Report) -> None:
    scenes = [(name_of(path), load_scene(scene_folder(path))) for path in options.scene]
    for name, scene in scenes or [("room", example_scene(options.triplane))]:
        measure_scene(name, scene, options.size, options.repeats, report)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--size", "160x90", "--triplane", "256"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
