"""Ids of objects in baked scenes, against true instance masks at cameras that no training photo has.

    python -m benchmarks.object_ids RUN... [--hide teapot,vase] [--sheet FILE.png] [--json FILE]

Each RUN is of a built-in capture and was labelled by the capture's own masks (smerf synth SCENE -o CAPTURE, smerf run
CAPTURE -o RUN, smerf label RUN). At the held-out cameras the object of every pixel is compared with the true mask: the
intersection over union of each object over all views, and the mean of the objects. Then objects are hidden: how many
pixels outside their true masks, and outside the masks grown by some pixels, change by 2/255 or more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

from benchmarks.common import Benchmark, Report
from benchmarks.free_views import scene_name
from smerf.capture.types import Camera
from smerf.engine.folder import RunFolder
from smerf.errors import UsageError
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.pipeline.label import read_instances
from smerf.render.march import render_camera, render_ids
from smerf.render.scene import RenderableScene, load_scene
from smerf.scene.objects import choose_objects
from smerf.scene.view import MarchOptions
from smerf.vision.label_files import read_labels

_GROWN = (0, 1, 2, 4)
"""Pixels by which true masks are grown."""
_CHANGE = 2 / 255


@dataclass(frozen=True)
class View:
    """A held-out camera, and the id of the object that each of its pixels truly shows (H, W)."""

    camera: Camera
    truth: np.ndarray


def open_run(path: Path) -> tuple[str, RenderableScene, list[View]]:
    """Return the name of a run's scene, the baked scene, and its held-out views."""
    run = RunFolder.open(path)
    capture = load_run_capture(run, load_config(run), None)
    scene, masks = load_scene(run.folder("baked")), read_instances(capture)
    if masks is None or not scene.manifest.objects:
        raise UsageError(
            f"{path}: needs instance masks beside its photos, and ids of objects: smerf label {path}"
        )
    table = np.zeros(1 << 16, np.uint8)
    for entry in read_labels(path / "labels").objects:
        table[entry["instance"]] = entry["id"]
    views = []
    for index, frame in enumerate(capture.frames):
        if frame.split == "test":
            size = frame.camera.intrinsics.width, frame.camera.intrinsics.height
            views.append(View(frame.camera, table[masks.read(index, size)]))
    return scene_name(capture), scene, views


def unions(scene: RenderableScene, views: Sequence[View]) -> tuple[dict[int, float], float, list[np.ndarray]]:
    """Return the intersection over union of each object, the share of equal pixels, and the pictures of ids."""
    found = [render_ids(scene, view.camera) for view in views]
    ours, true = np.stack(found), np.stack([view.truth for view in views])
    values = {}
    for each in scene.manifest.objects:
        a, b = ours == each.id, true == each.id
        if b.any():
            values[each.id] = float((a & b).sum() / (a | b).sum())
    return values, float((ours == true).mean()), found


def changes(
    scene: RenderableScene, views: Sequence[View], ids: Sequence[int]
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Return which share of the pixels outside the objects' true masks changes where they are hidden, and pictures."""
    options = MarchOptions(hidden=frozenset(ids))
    counts = {grown: [0, 0, 0.0] for grown in _GROWN}
    pictures = []
    for view in views:
        pictures.append(render_camera(scene, view.camera, options=options))
        change = np.abs(pictures[-1] - render_camera(scene, view.camera)).max(-1)
        mask = np.isin(view.truth, ids)
        for grown, count in counts.items():
            elsewhere = ~(binary_dilation(mask, np.ones((3, 3)), iterations=grown) if grown else mask)
            count[0] += int((change[elsewhere] >= _CHANGE).sum())
            count[1] += int(elsewhere.sum())
            count[2] = max(count[2], 255.0 * float(change[elsewhere].max()))
    found = {}
    for grown, (changed, total, most) in counts.items():
        found |= {f"changed_{grown}px": changed / total, f"most_{grown}px": most}
    return found, pictures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", help="labelled runs of built-in captures")
    parser.add_argument("--hide", default="teapot,vase", help="names or ids of objects")
    parser.add_argument(
        "--sheet", type=Path, help="draw every view: as it is, ids, true ids, with the objects hidden"
    )


def measure(options: argparse.Namespace, report: Report) -> None:
    for path in options.runs:
        name, scene, views = open_run(path)
        values, equal, found = unions(scene, views)
        names = {each.id: each.name for each in scene.manifest.objects}
        for number, value in values.items():
            report.add(f"object_ids/{name}/{names[number]}", iou=value, views=len(views))
            print(f"{name:12}{names[number]:24}{value:8.3f}")
        mean = float(np.mean(list(values.values())))
        voxels = scene.params.sparse_grid_resolution
        report.add(f"object_ids/{name}", mean_iou=mean, equal=equal, objects=len(values), voxels=voxels)
        print(f"{name:12}{'mean of the objects':24}{mean:8.3f}  equal pixels {equal:.4f}")
        wanted = [word.strip() for word in options.hide.split(",") if word.strip()]
        ids = choose_objects(scene.manifest.objects, wanted, "--hide")
        shares, pictures = changes(scene, views, ids)
        report.add(f"object_ids/{name}/hidden", hidden=[names[each] for each in ids], **shares)
        for grown in _GROWN:
            share, most = shares[f"changed_{grown}px"], shares[f"most_{grown}px"]
            print(f"{name:12}changed beyond {grown} px{1e2 * share:12.4f} %  at most {most:.1f}/255")
        if options.sheet:
            draw_sheet(options.sheet, scene, views, found, pictures)


def draw_sheet(
    path: Path,
    scene: RenderableScene,
    views: Sequence[View],
    found: Sequence[np.ndarray],
    pictures: Sequence[np.ndarray],
) -> None:
    """Draw a row a view."""
    from PIL import Image

    colours = np.zeros((256, 3))
    for each in scene.manifest.objects:
        colours[each.id] = each.colour
    rows = [
        np.concatenate([render_camera(scene, view.camera), colours[ids], colours[view.truth], picture], 1)
        for view, ids, picture in zip(views, found, pictures, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255.0 * np.concatenate(rows, 0)).astype(np.uint8)).save(path)


BENCHMARK = Benchmark(__doc__, measure, options, needs="labelled runs of built-in captures")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
