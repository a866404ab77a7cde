"""Our page beside OpenSplat (Gaussian splats, its CPU build) at equal processor time: quality on held-out photos.

    python -m benchmarks.opensplat CAPTURE... --binary OPENSPLAT [--steps 300] [--side 400] [--json FILE]

OpenSplat (https://github.com/pierotofy/OpenSplat) trains ``--steps`` steps on the training photos at ``--side`` pixels,
all of it with its own settings but for the number of steps, after which its resolution schedule ends. ``smerf run``
is then granted the processor time that this took. Both are compared with the held-out photos at that size: the page as
it is baked, the splats through the project's rasteriser, which tests hold to the published formulas. Captures without
sparse points start from random ones in a ball around what the cameras look at; give it a capture of ``smerf prepare``
where structure from motion is to be had. One thread each.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, Report
from benchmarks.minutes import METRICS, quality, run
from benchmarks.pipeline import size_of
from smerf.capture.types import Camera

_POINTS, _REACH = 20_000, 0.4
"""Random points, and how far from the middle they lie, of the cameras' distance: for synthetic scenes 3DGS takes about
as much."""
_BACKGROUND = (0.6130, 0.0101, 0.3984)
"""What OpenSplat trains before: photos with transparency are laid over it, so that no splat has to show it."""


def write_project(data: Path, folder: Path, side: int) -> None:
    """Write the training photos of a capture, at ``side`` pixels and in training space, as OpenSplat reads them."""
    from PIL import Image

    from smerf.capture import load_capture, load_composited, save_transforms
    from smerf.capture.types import Frame, Similarity

    capture, frames = load_capture(data, max_side=side), []
    for index, frame in enumerate(capture.split("train")):
        over_black, over_white = (load_composited(frame, name) for name in ("black", "white"))
        opacity = 1.0 - (over_white - over_black).mean(-1, keepdims=True)
        image = over_black + (1.0 - opacity) * np.asarray(_BACKGROUND, np.float32)
        path = folder / f"photo_{index:04d}.png"
        Image.fromarray(np.rint(255.0 * image.clip(0.0, 1.0)).astype(np.uint8)).save(path)
        frames.append(Frame(path.name, path, frame.camera, "train"))
    points = capture.points if len(capture.points) else random_points([frame.camera for frame in frames])
    capture = dataclasses.replace(
        capture, root=folder, frames=tuple(frames), training_from_source=Similarity(), points=points
    )
    save_transforms(capture, folder / "transforms.json")
    write_grey_points(folder / "sparse_pc.ply", points)


def write_grey_points(path: Path, points: np.ndarray) -> None:
    """Write positions (N, 3) as OpenSplat reads them: a binary PLY of floats with colours."""
    kinds = [*((axis, "<f4") for axis in "xyz"), *((name, "u1") for name in ("red", "green", "blue"))]
    rows = np.full(len(points), 128, np.dtype(kinds))
    for axis, values in zip("xyz", points.T, strict=True):
        rows[axis] = values
    names = {"<f4": "float", "u1": "uchar"}
    header = "".join(f"property {names[kind]} {name}\n" for name, kind in kinds)
    start = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{header}end_header\n"
    path.write_bytes(start.encode("ascii") + rows.tobytes())


def random_points(cameras: list[Camera]) -> np.ndarray:
    """Return points (N, 3) in a ball around what cameras look at, away from the cameras, whose view they would hide."""
    from smerf.capture.normalise import focus_point

    poses = np.stack([camera.world_from_cam for camera in cameras])
    centre, _ = focus_point(poses)
    radius = _REACH * np.linalg.norm(poses[:, :, 3] - centre, axis=-1).mean()
    random = np.random.default_rng(0)
    directions = random.normal(size=(_POINTS, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return np.asarray(centre + radius * random.random((_POINTS, 1)) ** (1.0 / 3.0) * directions)


def train_splats(binary: Path, project: Path, steps: int) -> float:
    """Run OpenSplat, which writes ``splat.ply`` into the project; return its CPU seconds.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [binary, project, "-o", project / "splat.ply", "-n", steps, "--cpu", "--keep-crs"]
    words += ["--resolution-schedule", max(1, steps // 4)]
    subprocess.run(
        [str(word) for word in words],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def splat_quality(data: Path, splats: Path, side: int) -> dict[str, float]:
    """Return the metrics of splats in training space, means over all held-out photos."""
    from smerf.capture import load_capture, load_mask
    from smerf.evaluation.metrics import image_metrics
    from smerf.pipeline.evaluate import truth_of
    from smerf.teacher.asset import open_asset

    capture, asset, rows = load_capture(data, max_side=side), open_asset(splats), []
    background = np.ones(3) if capture.background == "white" else np.asarray(_BACKGROUND)
    for frame in capture.split("test"):
        drawn = asset.render(frame.camera)
        image = drawn[..., :3] + (1.0 - drawn[..., 3:]) * background.astype(np.float32)
        rows.append(image_metrics(image.clip(0.0, 1.0), truth_of(frame, capture), load_mask(frame)))
    return {key: float(np.mean([row[key] for row in rows])) for key in METRICS}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captures", type=Path, nargs="+", metavar="CAPTURE")
    parser.add_argument("--binary", type=Path, required=True, metavar="OPENSPLAT", help="its executable")
    parser.add_argument("--steps", type=int, default=300, help="of OpenSplat")
    parser.add_argument("--side", type=int, default=400, help="pixels of the longer side")


def measure(options: argparse.Namespace, report: Report) -> None:
    print(f"{'capture':10} {'':9} {'CPU s':>7} {'MB':>6} {'PSNR':>6} {'SSIM':>6} {'FLIP':>6}")
    os.environ["OMP_NUM_THREADS"] = "1"
    for data in options.captures:
        with tempfile.TemporaryDirectory(prefix="smerf_opensplat_") as temporary:
            project, folder = Path(temporary) / "project", Path(temporary) / data.name
            project.mkdir()
            write_project(data, project, options.side)
            seconds = train_splats(options.binary, project, options.steps)
            splats = project / "splat.ply"
            theirs = {
                "cpu_seconds": seconds,
                "megabytes": splats.stat().st_size / 1e6,
                "steps": options.steps,
            }
            theirs |= splat_quality(data, splats, options.side)
            minutes = max(1.0, seconds / (os.cpu_count() or 1) / 60.0)
            ours = run(data, folder, minutes, [f"max_side={options.side}"], False)
            ours |= {"megabytes": size_of(folder / "site") / 1e6, "minutes": minutes}
            ours |= quality(data, folder, options.side)
        for name, values in (("OpenSplat", theirs), ("smerf", ours)):
            report.add(f"opensplat/{data.name}/{name}", capture=data.name, side=options.side, **values)
            print(
                f"{data.name:10} {name:9} {values['cpu_seconds']:7.0f} {values['megabytes']:6.1f} "
                f"{values['psnr']:6.2f} {values['ssim']:6.4f} {values['flip']:6.4f}",
                flush=True,
            )
        print(
            f"{data.name:10} smerf took {ours['cpu_seconds'] / theirs['cpu_seconds']:.2f} of the processor time"
        )


BENCHMARK = Benchmark(__doc__, measure, options, needs="a CPU build of OpenSplat and captures")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
