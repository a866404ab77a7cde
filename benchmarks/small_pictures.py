"""Pictures drawn smaller than trained, against the scene's own pictures at that size scaled down.

    python -m benchmarks.small_pictures [--scene RUN ...] [--views 4] [--sheet FILE] [--json FILE]

Held-out cameras are drawn natively at the size trained on; what small pictures should be is that picture,
averaged over squares of 2, 4 and 8 pixels. Two ways to draw them are compared with it: one ray a pixel (the peer),
and as many as the scene's rule takes (``smerf.scene.supersample``). Without --scene it is a room made from formulas.
--sheet writes the first view's pictures side by side, enlarged.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, Report
from benchmarks.render import name_of
from smerf.capture.downscale import scale_intrinsics
from smerf.capture.images import mse_to_psnr
from smerf.capture.types import Camera, Intrinsics
from smerf.cli.options import scene_folder
from smerf.render.march import render_camera
from smerf.scene import BakedScene, load_scene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.supersample import pixel_angle, rays_per_axis

FACTORS = (2, 4, 8)
ROOM_SIZE = (640, 480)
_BEST = 100.0
"""Decibels of a picture that is the wanted one: where the rays are those of the large picture."""


def cameras(scene: BakedScene, count: int) -> list[Camera]:
    """Return held-out cameras (else all) at the size trained on, cut to whole squares of 8 pixels."""
    entries = [entry for entry in scene.manifest.cameras if entry.split == "test"] or scene.manifest.cameras
    chosen = [entry.camera for entry in entries[:: max(1, len(entries) // count)]][:count]
    chosen = chosen or [example_camera(*ROOM_SIZE, turn=2 * np.pi * i / count) for i in range(count)]
    return [replace(each, intrinsics=_cut(each)) for each in chosen]


def _cut(camera: Camera) -> Intrinsics:
    lens, edge = camera.intrinsics, max(FACTORS)
    return replace(lens, width=lens.width // edge * edge, height=lens.height // edge * edge)


def with_angle(scene: BakedScene, angle: float | None) -> BakedScene:
    """Return the scene as one that names this angle of a pixel of its photos."""
    manifest = replace(scene.manifest, pixel_angle=angle)
    return BakedScene(scene.params, scene.mlp, manifest, scene.load, scene.root, cache_size=1)


def smaller(camera: Camera, factor: int) -> Camera:
    """Return the camera of the picture that has one pixel for each square."""
    lens = camera.intrinsics
    scale = (1.0 / factor, 1.0 / factor)
    return replace(
        camera, intrinsics=scale_intrinsics(lens, lens.width // factor, lens.height // factor, scale)
    )


def boxes(picture: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of pixels, as photos are scaled down."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    return picture.reshape(height, factor, width, factor, 3).mean((1, 3))


def measure_scene(
    name: str, scene: BakedScene, options: argparse.Namespace, report: Report
) -> list[np.ndarray]:
    """Measure a scene at every size; return the first view's rows of pictures: wanted, one ray, as many as it takes."""
    views = cameras(scene, options.views)
    trained = scene.manifest.pixel_angle or pixel_angle(views[0].intrinsics)
    plain, fine = with_angle(scene, None), with_angle(scene, trained)
    large = [render_camera(plain, view) for view in views]
    untouched = all(np.array_equal(render_camera(fine, view), one) for view, one in zip(views, large))
    rows = []
    for factor in FACTORS:
        psnr, seconds = np.zeros((2, len(views))), np.zeros(2)
        for i, (view, whole) in enumerate(zip(views, large)):
            wanted, small, drawn = boxes(whole, factor), smaller(view, factor), []
            for j, each in enumerate((plain, fine)):
                since = time.perf_counter()
                drawn.append(render_camera(each, small))
                seconds[j] += time.perf_counter() - since
                psnr[j, i] = min(mse_to_psnr(float(np.mean((drawn[-1] - wanted) ** 2))), _BEST)
            if i == 0:
                rows.append(np.concatenate([wanted, *drawn], 1))
        (one, many), size = psnr.mean(1), small.intrinsics
        rays = rays_per_axis(pixel_angle(size), trained) ** 2
        print(
            f"{name} 1/{factor} ({size.width}x{size.height}): {one:.2f} dB with one ray a pixel, "
            f"{many:.2f} dB with {rays}; {1e3 * seconds[0] / len(views):.0f} and "
            f"{1e3 * seconds[1] / len(views):.0f} ms",
            flush=True,
        )
        report.add(
            f"{name}, 1/{factor}",
            factor=factor,
            size=[size.width, size.height],
            views=len(views),
            peer="one ray a pixel",
            peer_psnr=float(one),
            psnr=float(many),
            gain_db=float(many - one),
            rays_a_pixel=rays,
            peer_ms=1e3 * seconds[0] / len(views),
            ms=1e3 * seconds[1] / len(views),
            same_at_trained_size=untouched,
        )
    return rows


def write_sheet(path: Path, rows: list[np.ndarray]) -> None:
    """Write rows of pictures below each other, all as large as the first."""
    from PIL import Image

    height, width = rows[0].shape[:2]
    large = [Image.fromarray(np.rint(255 * row).astype(np.uint8)).resize((width, height), 0) for row in rows]
    sheet = Image.new("RGB", (width, len(rows) * height))
    for i, row in enumerate(large):
        sheet.paste(row, (0, i * height))
    sheet.save(path)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scene", type=Path, nargs="*", default=[])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="write the pictures of the last scene here"
    )


def measure(options: argparse.Namespace, report: Report) -> None:
    scenes = [(name_of(path), load_scene(scene_folder(path))) for path in options.scene]
    for name, scene in scenes or [("room", example_scene(256))]:
        rows = measure_scene(name, scene, options, report)
    if options.sheet:
        write_sheet(options.sheet, rows)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--views", "1"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
