"""Ids of objects in baked scenes, against true instance masks at cameras that no training photo has.

    python -m benchmarks.object_ids RUN... [--hide teapot,vase] [--sheet FILE.png] [--json FILE]

Each RUN is of a built-in capture and was labelled by the capture's own masks (smerf synth SCENE -o CAPTURE, smerf run
CAPTURE -o RUN, smerf label RUN). At the held-out cameras the object of every pixel is compared with the true mask: the
intersection over union of each object over all views, and the mean of the objects. Then objects are hidden: how many
pixels outside their true masks, and outside the masks grown by some pixels, change by 2/255 or more. A mask has the
object at a pixel's centre, so pixels outside may show some of it: *untouched* are those that none of the ray tracer's
6 x 6 rays through the pixel sees it in. Where such a pixel changes, the object's soft edge reached into it: its mean
error against the photo, objects shown and hidden, says which of the two is right.
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
from benchmarks.free_views import scene_name, source_pose
from smerf.capture.images import load_composited
from smerf.capture.synth.assemble import build_world
from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.render import Lens
from smerf.capture.synth.tracer import Caster
from smerf.capture.types import Camera, Capture
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
_RAYS = 6
"""Rays along a pixel's edge that say what it shows some of."""


@dataclass(frozen=True)
class View:
    """A held-out camera, its photo (H, W, 3) in [0, 1], and the id of the object at each pixel's centre (H, W).

    ``touching`` (H, W, 256) bool says which ids some ray of a pixel meets.
    """

    camera: Camera
    photo: np.ndarray
    truth: np.ndarray
    touching: np.ndarray


class Eye:
    """Sees which objects are in the pixels of a capture's cameras; ``table`` turns instances into ids."""

    def __init__(self, capture: Capture, table: np.ndarray) -> None:
        self.capture, self.table = capture, table
        self.world = build_world(load_scene_spec(scene_name(capture)), 1.0)
        self.caster = Caster(self.world.vertices, self.world.faces)

    def touching(self, camera: Camera) -> np.ndarray:
        """Return which ids (H, W, 256) bool some of a pixel's rays meet."""
        size, pose = camera.intrinsics, source_pose(self.capture, camera.world_from_cam)
        lens, origin = Lens(size.width, size.height, size.fx), pose[:3, 3].astype(np.float32)
        y, x = (grid.ravel().astype(np.float64) for grid in np.mgrid[0 : size.height, 0 : size.width])
        found = np.zeros((len(x), 256), bool)
        for row, column in np.ndindex(_RAYS, _RAYS):
            directions = lens.directions(pose, x + (column + 0.5) / _RAYS, y + (row + 0.5) / _RAYS)
            face = self.caster.cast(origin, directions).face
            found[np.arange(len(x)), np.where(face < 0, 0, self.table[self.world.face_instance[face]])] = True
        return found.reshape(size.height, size.width, 256)


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
    views, eye = [], Eye(capture, table)
    for index, frame in enumerate(capture.frames):
        if frame.split == "test":
            size = frame.camera.intrinsics.width, frame.camera.intrinsics.height
            photo = load_composited(frame, capture.background)
            truth = table[masks.read(index, size)]
            views.append(View(frame.camera, photo, truth, eye.touching(frame.camera)))
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
    pictures: list[np.ndarray] = []
    untouched, shown_error, hidden_error = 0, [], []
    for view in views:
        shown = render_camera(scene, view.camera)
        pictures.append(render_camera(scene, view.camera, options=options))
        change = np.abs(pictures[-1] - shown).max(-1)
        is_free = ~view.touching[..., list(ids)].any(-1)
        changed = is_free & (change >= _CHANGE)
        untouched += int(is_free.sum())
        shown_error.append(255.0 * np.abs(shown - view.photo).mean(-1)[changed])
        hidden_error.append(255.0 * np.abs(pictures[-1] - view.photo).mean(-1)[changed])
        mask = np.isin(view.truth, ids)
        for grown, count in counts.items():
            elsewhere = ~(binary_dilation(mask, np.ones((3, 3)), iterations=grown) if grown else mask)
            count[0] += int((change[elsewhere] >= _CHANGE).sum())
            count[1] += int(elsewhere.sum())
            count[2] = max(count[2], 255.0 * float(change[elsewhere].max()))
    found = {}
    for grown, (count, total, most) in counts.items():
        found |= {f"changed_{grown}px": count / total, f"most_{grown}px": most}
    shown_errors, hidden_errors = np.concatenate(shown_error), np.concatenate(hidden_error)
    found["changed_untouched"] = len(shown_errors) / untouched
    if len(shown_errors):
        found |= {"error_shown": float(shown_errors.mean()), "error_hidden": float(hidden_errors.mean())}
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
        print(
            f"{name:12}changed, untouched{1e2 * shares['changed_untouched']:11.4f} %  error against the photo there "
            f"{shares.get('error_shown', 0.0):.1f}/255, objects hidden {shares.get('error_hidden', 0.0):.1f}/255"
        )
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
