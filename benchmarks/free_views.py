"""Views that a visitor of the page can reach, against our own ray tracer: with the known region, and without.

    python -m benchmarks.free_views RUN... [--views 200] [--size 160x120] [--seconds 8] [--sheet FILE.png] [--json FILE]

Each RUN is of a built-in capture (smerf synth SCENE -o CAPTURE, smerf run CAPTURE -o RUN). A visitor starts where the
page opens, presses random keys and drags for some seconds by the rules of the viewers' controls, and what is seen then
is rendered natively and by the ray tracer. *without*: the same student baked without the region, where nothing holds
the visitor back; *free*: the views of that visitor in the scene with the region, which shows what fading alone does.
Columns: mean PSNR, that of the worst tenth, and the share of pixels that photos support.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, Report, size
from smerf.baking.bake import bake
from smerf.baking.starts import known_share
from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.render import Lens, LitScene, light_scene, render_view
from smerf.capture.types import Camera, Capture, Intrinsics
from smerf.engine.folder import RunFolder
from smerf.errors import InvalidDataError
from smerf.evaluation.metrics import psnr
from smerf.export.desktop import desktop_viewer
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import RenderableScene, load_scene
from smerf.scene.region import choose_start
from smerf.scene.walk import Place
from smerf.student.store import load_student

_DT = 1 / 20
_KEYS = ("W", "S", "A", "D", "Q", "E", "UP", "DOWN", "LEFT", "RIGHT")


@dataclass(frozen=True)
class Visit:
    """Where a visitor ends up: a pose (3, 4) and the vertical field of view in degrees."""

    pose: np.ndarray
    fov: float


def wander(scene: RenderableScene, is_held: bool, lens: tuple[int, int], seconds: float, seed: int) -> Visit:
    """Return what a visitor with random hands sees after some seconds; ``is_held`` by the known region."""
    random = np.random.default_rng(seed)
    region = scene.manifest.region
    start = choose_start(region, lens[0] / lens[1]) if region is not None else None
    if start is None:
        assert scene.manifest.start is not None
        start = scene.manifest.start.world_from_cam, scene.manifest.start.fov_degrees
    pose, fov = start
    tangent = float(np.tan(np.radians(0.5 * fov)))
    mode = region.mode if region is not None and is_held else str(random.choice(["orbit", "fly"]))
    visitor = desktop_viewer("visitor").Visitor(
        region.eye if region is not None else None, lambda: (tangent * lens[0] / lens[1], tangent)
    )
    k = scene.params.choose_submodel(pose[:, 3])
    place = Place.of(scene, k)

    def depth_at(u: float, v: float) -> float | None:
        now = controls.pose
        return place.cast(now[:, 3], -now[:, 2], 4.0)

    controls = desktop_viewer("controls").Controls(depth_at, lambda: fov, mode=mode, visitor=visitor)
    visitor.place, visitor.is_free = place, not is_held
    controls.set_pose(pose)
    for step in range(int(seconds / _DT)):
        if step % 12 == 0:
            controls.keys = set(random.choice(_KEYS, random.integers(0, 3), replace=False).tolist())
            drag = random.normal(0.0, 5.0, 2) * (1.0, 0.4)
        controls.rotate(*(float(pixels) for pixels in drag))
        if mode == "orbit" and step % 12 < 4:
            controls.dolly(float(random.normal(0.0, 0.05)))
        controls.update(_DT)
        # One submodel at a time is what the page shows too.
        k = scene.params.choose_submodel(controls.pose[:, 3])
        place = visitor.place = Place.of(scene, k)
    controls.keys = set()
    for _ in range(40):
        controls.update(_DT)
    return Visit(controls.pose, fov)


def camera_of(visit: Visit, lens: tuple[int, int]) -> Camera:
    focal = 0.5 * lens[1] / float(np.tan(np.radians(0.5 * visit.fov)))
    return Camera(Intrinsics("PINHOLE", *lens, focal, focal, lens[0] / 2, lens[1] / 2), visit.pose)


def truth_of(lit: LitScene, capture: Capture, visit: Visit, lens: tuple[int, int]) -> np.ndarray:
    """Return what the ray tracer shows of a view in training space, (H, W, 3) in [0, 1]."""
    similarity = capture.training_from_source
    pose = np.eye(4)
    pose[:3, :3] = similarity.rotation.T @ visit.pose[:, :3]
    pose[:3, 3] = similarity.rotation.T @ (visit.pose[:, 3] - similarity.translation) / similarity.scale
    view = render_view(lit, pose, Lens.from_fov(*lens, visit.fov), np.random.default_rng(0))
    return view.rgb.astype(np.float32) / 255.0


def scene_name(capture: Capture) -> str:
    """Return which built-in scene a capture is of."""
    path = capture.root / "transforms.json"
    name = json.loads(path.read_text()).get("scene") if path.is_file() else None
    if not name:
        raise InvalidDataError(f"{path}: not a capture of a built-in scene; smerf synth makes one")
    return str(name)


def figures(
    scene: RenderableScene, visits: Sequence[Visit], truths: Sequence[np.ndarray], lens: tuple[int, int]
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Return mean and worst-tenth PSNR of visits, and the pictures."""
    pictures = [scene.render(camera_of(visit, lens)) for visit in visits]
    values = np.sort([psnr(picture, truth) for picture, truth in zip(pictures, truths, strict=True)])
    found = {"psnr": float(values.mean()), "worst_tenth": float(values[: max(1, len(values) // 10)].mean())}
    if scene.manifest.region is not None:
        shares = [float(known_share(scene, camera_of(visit, lens)).mean()) for visit in visits]
        found["known"] = float(np.mean(shares))
    return found, pictures


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", help="runs of built-in captures")
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--size", type=size, default=(160, 120))
    parser.add_argument("--seconds", type=float, default=8.0, help="that a visitor wanders before each view")
    parser.add_argument("--sheet", type=Path, help="draw the first views: with the region, truth, without")


def measure(options: argparse.Namespace, report: Report) -> None:
    print(f"{'scene':12}{'':10}{'PSNR':>8}{'worst 10 %':>12}{'known':>8}")
    for path in options.runs:
        run = RunFolder.open(path)
        config = load_config(run)
        capture = load_run_capture(run, config, None)
        name = scene_name(capture)
        lit = light_scene(load_scene_spec(name), rays=36, workers=1, cell_scale=2.0)
        student = load_student(run.folder("student"))
        with tempfile.TemporaryDirectory() as folder:
            bare = bake(student, capture, replace(config.bake, region=False), folder=Path(folder) / "bare")
            ours = bake(student, capture, replace(config.bake, region=True), folder=Path(folder) / "ours")
            ours = load_scene(ours.root or "", cache_size=len(ours.params.params_to_sm))
            rows = compare(ours, bare, lit, capture, options)
        for kind, values in rows.items():
            report.add(f"free_views/{name}/{kind}", views=options.views, preset=config.preset, **values)
            known = f"{values['known']:8.2f}" if "known" in values else ""
            print(f"{name:12}{kind:10}{values['psnr']:8.2f}{values['worst_tenth']:12.2f}{known}")


def compare(
    ours: RenderableScene, bare: RenderableScene, lit: LitScene, capture: Capture, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the figures with the region, without, and of free visitors in the scene with it."""
    lens = options.size
    held = [wander(ours, True, lens, options.seconds, seed) for seed in range(options.views)]
    loose = [wander(bare, False, lens, options.seconds, seed) for seed in range(options.views)]
    truths = [[truth_of(lit, capture, visit, lens) for visit in visits] for visits in (held, loose)]
    with_region, pictures = figures(ours, held, truths[0], lens)
    without, bare_pictures = figures(bare, loose, truths[1], lens)
    free, free_pictures = figures(ours, loose, truths[1], lens)
    if options.sheet:
        draw_sheet(options.sheet, [pictures, truths[0], bare_pictures, free_pictures, truths[1]])
    return {"with": with_region, "without": without, "free": free}


def draw_sheet(path: Path, columns: Sequence[Sequence[np.ndarray]], rows: int = 24) -> None:
    """Draw the first views of each column, a row a view."""
    from PIL import Image

    lines = [np.concatenate(pictures[:rows], 0) for pictures in columns]
    sheet = np.rint(255.0 * np.concatenate(lines, 1)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


BENCHMARK = Benchmark(__doc__, measure, options, needs="runs of built-in captures")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
