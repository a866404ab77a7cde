"""How far what is shown is from what it was learnt from: photos, teacher, simulated student and baked scene of a run.

    python benchmarks/agreement.py RUN [--views 8] [--data CAPTURE] [--json FILE]

The same held-out cameras are drawn by every stage; a row is the mean PSNR of a stage against each of the others.
*simulated* is the student over the teacher's intervals, *halved* the same with each interval in two (what smerf eval
measures), *quartered* in four: the baked scene is marched with a step that is about half an interval.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.quality import HeldOut, about
from smerf.capture.types import Camera
from smerf.cli.options import scene_folder
from smerf.engine.folder import RunFolder
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import load_scene
from smerf.student.store import load_student
from smerf.teacher import load_teacher


def measure(run: RunFolder, count: int, data: Path | None) -> list[dict]:
    """Return a record for each pair of stages."""
    config = load_config(run)
    capture = load_run_capture(run, config, data)
    teacher, student = load_teacher(run.folder("teacher")), load_student(run.folder("student"))
    student.teacher = teacher
    scene = load_scene(scene_folder(run.path), cache_size=1)
    views = HeldOut(capture, count)
    # Submodels are read one at a time: their cameras follow each other.
    home = [scene.params.choose_submodel(camera.world_from_cam[:, 3]) for camera in views.cameras]
    order = np.argsort(home, kind="stable")
    views.cameras = [views.cameras[i] for i in order]
    views.photos = [views.photos[i] for i in order]
    ways: dict[str, Callable[[Camera], np.ndarray]] = {
        "teacher": teacher.render_image,
        "simulated": lambda camera: student.render_image(camera, halvings=0),
        "halved": lambda camera: student.render_image(camera, halvings=1),
        "quartered": lambda camera: student.render_image(camera, halvings=2),
        "baked": scene.render,
    }
    images = {"photos": views.photos, **{name: views.draw(way) for name, way in ways.items()}}
    common = {**about(config.preset), "data": capture.root.name, "views": len(views.cameras)}
    return [
        {"name": f"agreement/{one}/{other}", **common, "psnr": views.score(images[one], images[other])}
        for one in images
        for other in images
        if one != other
    ]


def print_table(records: list[dict]) -> None:
    """Print the stages against each other."""
    values = {tuple(record["name"].split("/")[1:]): record["psnr"] for record in records}
    names = list(dict.fromkeys(one for one, _ in values))
    print(f"{records[0]['data']}, {records[0]['views']} views, {records[0]['device']}")
    print(f"{'PSNR':10}", *(f"{name:>10}" for name in names))
    for one in names:
        cells = (f"{values[one, other]:10.2f}" if one != other else f"{'':10}" for other in names)
        print(f"{one:10}", *cells)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a run folder whose scene is baked")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--data", type=Path, help="the capture, if it has moved")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    records = measure(RunFolder.open(options.run), options.views, options.data)
    print_table(records)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
