"""How far what is shown is from what it was learnt from: photos, teacher, simulated student and baked scene of a run.

    python -m benchmarks.agreement RUN [--views 8] [--data CAPTURE] [--json FILE]

The same held-out cameras are drawn by every stage; a row is the mean PSNR of a stage against each of the others.
*simulated* is the student over the teacher's intervals, *halved* the same with each interval in two (what smerf eval
measures), *quartered* in four: the baked scene is marched with a step that is about half an interval.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, HeldOut, Report
from smerf.capture.types import Camera
from smerf.cli.options import scene_folder
from smerf.engine.folder import RunFolder
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import load_scene
from smerf.student.store import load_student
from smerf.teacher import load_teacher


def images_of(run: RunFolder, views: HeldOut) -> dict[str, list[np.ndarray]]:
    """Return the photos and what every stage renders at their cameras."""
    teacher, student = load_teacher(run.folder("teacher")), load_student(run.folder("student"))
    student.teacher = teacher
    scene = load_scene(scene_folder(run.path), cache_size=1)
    # Submodels are read one at a time: their cameras follow each other.
    home = [scene.params.choose_submodel(camera.world_from_cam[:, 3]) for camera in views.cameras]
    order = np.argsort(home, kind="stable")
    views.cameras = [views.cameras[i] for i in order]
    views.photos = [views.photos[i] for i in order]
    renderers: dict[str, Callable[[Camera], np.ndarray]] = {
        "teacher": teacher.render_image,
        "simulated": lambda camera: student.render_image(camera, halvings=0),
        "halved": lambda camera: student.render_image(camera, halvings=1),
        "quartered": lambda camera: student.render_image(camera, halvings=2),
        "baked": scene.render,
    }
    return {"photos": views.photos, **{name: views.render(render) for name, render in renderers.items()}}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run folder whose scene is baked")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--data", type=Path, help="the capture, if it has moved")


def measure(options: argparse.Namespace, report: Report) -> None:
    run = RunFolder.open(options.run)
    config = load_config(run)
    capture = load_run_capture(run, config, options.data)
    views = HeldOut(capture, options.views)
    images = images_of(run, views)
    common = {"preset": config.preset, "data": capture.root.name, "views": len(views.cameras)}
    print(f"{common['data']}, {common['views']} views")
    print(f"{'PSNR':10}", *(f"{name:>10}" for name in images))
    for one in images:
        cells = []
        for other in images:
            if one == other:
                cells.append(" " * 10)
                continue
            value = views.psnr(images[one], images[other])
            report.add(f"agreement/{one}/{other}", **common, psnr=value)
            cells.append(f"{value:10.2f}")
        print(f"{one:10}", *cells)


BENCHMARK = Benchmark(__doc__, measure, options, needs="a run")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
