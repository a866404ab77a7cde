"""Splat and mesh files as teachers: their rays and pictures, and with --run the page that they become.

    python -m benchmarks.splats [FILE ...] [--ball] [--size 512] [--rays 20000] [--repeats 3] [--run] [--preset preview]
                                [--set KEY=VALUE] [--keep FOLDER] [--json FILE]

Rays go from outside through random points of the content; pictures are those of a camera that is chosen for the
file. For splats both are compared with the PyTorch reference, which answers some of the rays at its own pace. Times
are CPU time of all threads. Memory is how far the process rose while it read the file and built its teacher. --ball
measures a mesh of its own, a coloured ball of 82 thousand faces. With --run the file goes through ``smerf run``: PSNR
is of the page's scene against the file's own renders, over the whole picture and, for a lone object, over its own
pixels.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Benchmark, Report
from benchmarks.pipeline import measure_run
from smerf.capture import load_capture, load_composited, load_image
from smerf.capture.types import Camera, Intrinsics, Similarity
from smerf.evaluation.metrics import psnr
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays, Spacing
from smerf.kernels.reference import splats as reference
from smerf.render.scene import load_scene
from smerf.teacher.asset import Asset, open_asset
from smerf.teacher.asset_capture import plan_cameras
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.placed import Placement
from smerf.teacher.splat.teacher import SplatTeacher

PEER_PAIRS = 4_000_000
"""Rays times splats that the reference answers."""
SMALL = 64


def peak_mb() -> float:
    """Return the largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def cpu_ms(run: Callable[[], object], repeats: int) -> float:
    """Return the median of a call's CPU milliseconds, of all threads; the first call does not count."""
    times = []
    for _ in range(1 + repeats):
        began = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - began))
    return statistics.median(times[1:])


def rays_through(asset: Asset, count: int) -> Rays:
    """Return rays from a sphere around the content through random points of it, in no order."""
    content, random = asset.content(), np.random.default_rng(0)
    eyes = random.normal(size=(count, 3))
    eyes = content.centre + 2.2 * content.radius * eyes / np.linalg.norm(eyes, axis=1, keepdims=True)
    points = random.uniform(content.low, content.high, (count, 3)) @ content.rotation
    directions = points - eyes
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    radii = np.full(count, 1.0 / 1200.0)
    return Rays(*(torch.from_numpy(each.astype(np.float32)) for each in (eyes, directions, radii)))


def wide(camera: Camera, side: int) -> Camera:
    """Return the camera with a square picture of ``side`` pixels and the same field of view."""
    lens = camera.intrinsics
    focal = lens.fx * side / lens.width
    return replace(camera, intrinsics=Intrinsics("PINHOLE", side, side, focal, focal, 0.5 * side, 0.5 * side))


def measure_teacher(path: Path, options: argparse.Namespace, report: Report) -> None:
    """Measure reading, rays and pictures of a file."""
    before, began = peak_mb(), time.perf_counter()
    asset = open_asset(path)
    content = asset.content()
    spacing = Spacing(asset.near(), 6.0 * content.radius, linear=True)
    teacher = asset.teacher(Placement(Similarity(), spacing, 1.0 / content.radius, 1.0))
    opened, memory = time.perf_counter() - began, peak_mb() - before
    rays = rays_through(asset, options.rays)
    ray_ms = cpu_ms(lambda: teacher.query(rays), options.repeats)
    plan = plan_cameras(asset, AssetOptions(), 8, SMALL)
    camera = wide(plan.cameras[0], options.size)
    picture_ms = cpu_ms(lambda: teacher.render_image(camera), options.repeats)
    values = {
        "kind": asset.kind,
        "cameras": plan.said,
        "open_ms": 1e3 * opened,
        "memory_mb": memory,
        "us_per_ray": 1e3 * ray_ms / len(rays),
        "picture_ms": picture_ms,
        "size": options.size,
    }
    if isinstance(teacher, SplatTeacher):
        values |= peer(teacher, rays, wide(camera, SMALL))
    report.add(f"splats/{path.name}/teacher", **values)
    print(f"{path.name}: {asset.kind}, {plan.said}")
    print(f"  opened in {opened:.2f} s, {memory:.0f} MB; {values['us_per_ray']:.1f} us a ray, "
          f"{picture_ms:.0f} ms a picture of {options.size} x {options.size}")  # fmt: skip
    if "speedup" in values:
        print(f"  reference: {values['peer_us_per_ray']:.0f} us a ray, {values['rays_differ']:.1e} apart at most; rays "
              f"through the middle of a picture's pixels: {values['picture_psnr']:.1f} dB")  # fmt: skip


def peer(teacher: SplatTeacher, rays: Rays, camera: Camera) -> dict:
    """Return how the reference compares, on some of the rays and a small picture."""
    some = rays[: max(8, min(len(rays), PEER_PAIRS // (8 * len(teacher.tree.leaves))))]
    answer = teacher.query(some)
    ours = cpu_ms(lambda: teacher.query(some), 3)
    began = time.process_time()
    wanted = reference.splat_rays(
        teacher.tree, some.origins, some.directions, teacher.spacing, teacher.samples, 1 / 1024, 0.1
    )
    peer_ms = 1e3 * (time.process_time() - began)
    # Rays through a picture's pixels and the rasteriser are two ways to the same colours.
    image = teacher.render_image(camera)
    seen = teacher.query(camera_rays(camera))
    through = (seen.colour + 1.0 - seen.weights.sum(-1, keepdim=True)).clamp(0.0, 1.0)
    return {
        "peer": "PyTorch reference",
        "peer_ms": peer_ms,
        "peer_us_per_ray": 1e3 * peer_ms / len(some),
        "speedup": peer_ms / ours,
        "rays_differ": float((answer.colour - wanted[2]).abs().max()),
        "picture_psnr": psnr(through.view(image.shape).numpy(), image),
    }


def object_psnr(run: Path) -> float | None:
    """Return the PSNR of the baked scene over the object's own pixels of held-out renders, if there is an object."""
    capture = load_capture(run / "capture")
    if capture.background != "white":
        return None
    scene, error, count = load_scene(run / "baked"), 0.0, 0
    for frame in capture.split("test"):
        alpha = load_image(frame)[..., 3] > 0
        difference = scene.render(frame.camera) - load_composited(frame, capture.background)
        error, count = error + float((difference[alpha] ** 2).sum()), count + 3 * int(alpha.sum())
    return float(-10.0 * np.log10(max(error / max(count, 1), 1e-10)))


def measure_page(path: Path, options: argparse.Namespace, report: Report) -> None:
    """Run the whole pipeline on a file."""
    settings = [f"--set={setting}" for setting in options.set]
    with tempfile.TemporaryDirectory(prefix="smerf_splats_") as folder:
        run = (options.keep or Path(folder)) / path.name.replace(".", "_")
        is_continued = run.exists()
        records = measure_run(path, run, ["--preset", options.preset, "--device", "cpu", *settings])
        own = object_psnr(run)
    if is_continued:
        # What was done before is not in the times of the whole.
        records[-1] |= {"median_ms": sum(record["median_ms"] for record in records[:-1]), "cpu_seconds": None}
    for record in records:
        values = {key: value for key, value in record.items() if key != "name"}
        report.add(f"splats/{path.name}/{record['name']}", **values, preset=options.preset)
    report.add(f"splats/{path.name}/object", psnr=own)
    whole = next(record for record in records if "cpu_seconds" in record)
    scores = [record["psnr"] for record in records if "psnr" in record]
    quality = f"{scores[-1]:.2f} dB baked" if scores else "not measured"
    alone = "" if own is None else f", {own:.2f} over the object"
    cpu = "" if whole["cpu_seconds"] is None else f", {whole['cpu_seconds']:.0f} CPU s"
    print(f"  page: {quality}{alone}; {whole['median_ms'] / 1e3:.0f} s{cpu}, "
          f"{whole['bytes'] / 1e6:.1f} MB, peak {whole['peak_memory_mb']:.0f} MB")  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE")
    parser.add_argument("--ball", action="store_true", help="a mesh of 82 thousand faces as well")
    parser.add_argument("--size", type=int, default=512, help="pixels of a picture's side")
    parser.add_argument("--rays", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", action="store_true", help="make the page as well")
    parser.add_argument("--preset", default="preview")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the runs there")


def write_ball(path: Path) -> Path:
    """Write a ball of 82 thousand faces, whose corners have smoothly changing colours."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=6)
    x, y, z = ball.vertices.T
    waves = np.stack([np.sin(4.0 * x + 2.0 * y), np.sin(5.0 * y), np.cos(3.0 * z - 2.0 * x)], 1)
    colours = np.round(255.0 * (0.5 + 0.4 * waves)).astype(np.uint8)
    ball.visual = trimesh.visual.ColorVisuals(ball, vertex_colors=colours)
    ball.export(path)
    return path


def measure(options: argparse.Namespace, report: Report) -> int:
    with tempfile.TemporaryDirectory(prefix="smerf_ball_") as folder:
        own = [write_ball(Path(folder) / "ball.glb")] if options.ball else []
        for path in [*options.files, *own]:
            measure_teacher(path, options, report)
            if options.run:
                try:
                    measure_page(path, options, report)
                except subprocess.CalledProcessError as error:
                    return error.returncode
    return 0


BENCHMARK = Benchmark(__doc__, measure, options, needs="splat or mesh files")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
