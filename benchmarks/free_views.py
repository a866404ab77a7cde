"""Views that a visitor of the page can reach, against our own ray tracer: with the known region, and without.

    python -m benchmarks.free_views RUN... [--views 200] [--size 160x120] [--seconds 8] [--sheet FOLDER] [--json FILE]

A visitor starts where the page opens, presses random keys and drags for some seconds by the rules of the viewers'
controls, and what is seen then, behind the page's near plane, is rendered natively and by the ray tracer. *without*:
the same student baked without the region, where nothing holds the visitor back. Columns: mean PSNR, that of the worst
tenth, and the share of pixels that photos support. Of runs that are not of a built-in capture (smerf synth) the truth
is not known: only the share is measured, and the pictures drawn.
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
from smerf.scene.view import choose_near
from smerf.scene.walk import Place
from smerf.student.store import load_student

_DT = 1 / 20
_KEYS = ("W", "S", "A", "D", "Q", "E", "UP", "DOWN", "LEFT", "RIGHT")


@dataclass(frozen=True)
class Visit:
    """Where a visitor ends up: a pose (3, 4), the vertical field of view in degrees, and the near plane."""

    pose: np.ndarray
    fov: float
    near: float


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
    return Visit(controls.pose, fov, visitor.near_plane(choose_near(scene, None)))


def camera_of(visit: Visit, lens: tuple[int, int]) -> Camera:
    focal = 0.5 * lens[1] / float(np.tan(np.radians(0.5 * visit.fov)))
    return Camera(Intrinsics("PINHOLE", *lens, focal, focal, lens[0] / 2, lens[1] / 2), visit.pose)


def source_pose(capture: Capture, pose: np.ndarray) -> np.ndarray:
    """Return a camera's pose (3, 4) of training space in the units of the capture, (4, 4)."""
    similarity = capture.training_from_source
    found = np.eye(4)
    found[:3, :3] = similarity.rotation.T @ pose[:, :3]
    found[:3, 3] = similarity.rotation.T @ (pose[:, 3] - similarity.translation) / similarity.scale
    return found


def truth_of(lit: LitScene, capture: Capture, visit: Visit, lens: tuple[int, int]) -> np.ndarray:
    """Return what the ray tracer shows of a view in training space, (H, W, 3) in [0, 1]."""
    pose = source_pose(capture, visit.pose)
    view = render_view(lit, pose, Lens.from_fov(*lens, visit.fov), np.random.default_rng(0))
    return view.rgb.astype(np.float32) / 255.0


def find_scene_name(capture: Capture) -> str | None:
    """Return which built-in scene a capture is of, ``None`` for others."""
    path = capture.root / "transforms.json"
    name = json.loads(path.read_text()).get("scene") if path.is_file() else None
    return str(name) if name else None


def scene_name(capture: Capture) -> str:
    """Return which built-in scene a capture is of."""
    name = find_scene_name(capture)
    if name is None:
        raise InvalidDataError(f"{capture.root}: not a capture of a built-in scene; smerf synth makes one")
    return name


def pictures_of(scene: RenderableScene, visits: Sequence[Visit], lens: tuple[int, int]) -> list[np.ndarray]:
    return [scene.render(camera_of(visit, lens), visit.near) for visit in visits]


def known_of(scene: RenderableScene, visits: Sequence[Visit], lens: tuple[int, int]) -> list[float]:
    """Return the share of each visit's pixels that photos support."""
    return [float(known_share(scene, camera_of(visit, lens)).mean()) for visit in visits]


def figures(
    pictures: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> tuple[dict[str, float], np.ndarray]:
    """Return mean and worst-tenth PSNR of pictures, and the order of the pictures, the worst first."""
    values = np.array([psnr(picture, truth) for picture, truth in zip(pictures, truths, strict=True)])
    order = np.argsort(values)
    worst = values[order[: max(1, len(values) // 10)]]
    return {"psnr": float(values.mean()), "worst_tenth": float(worst.mean())}, order


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", help="runs, of built-in captures for figures")
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--size", type=size, default=(160, 120))
    parser.add_argument("--seconds", type=float, default=8.0, help="that a visitor wanders before each view")
    parser.add_argument(
        "--sheet",
        type=Path,
        help="draw here, for each run, the 24 worst views beside the truth, or the first 24 where it is not known",
    )


def measure(options: argparse.Namespace, report: Report) -> None:
    print(f"{'scene':12}{'':10}{'PSNR':>8}{'worst 10 %':>12}{'known':>8}")
    for path in options.runs:
        run = RunFolder.open(path)
        config = load_config(run)
        capture = load_run_capture(run, config, None)
        name = find_scene_name(capture)
        student = load_student(run.folder("student"))
        with tempfile.TemporaryDirectory() as folder:
            ours = bake(student, capture, replace(config.bake, region=True), folder=Path(folder) / "ours")
            ours = load_scene(ours.root or "", cache_size=len(ours.params.params_to_sm))
            if name is None:
                name, rows = path.name, {"with": look_only(ours, path.name, options)}
            else:
                bare = bake(
                    student, capture, replace(config.bake, region=False), folder=Path(folder) / "bare"
                )
                rows = compare(ours, bare, capture, name, options)
        for kind, values in rows.items():
            report.add(f"free_views/{name}/{kind}", views=options.views, preset=config.preset, **values)
            cells = (("psnr", 8), ("worst_tenth", 12), ("known", 8))
            print(
                f"{name:12}{kind:10}"
                + "".join(f"{values.get(key, np.nan):{width}.2f}" for key, width in cells)
            )


def compare(
    ours: RenderableScene, bare: RenderableScene, capture: Capture, name: str, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the figures with the region and without."""
    # The light of smerf synth, to the ray.
    lit = light_scene(load_scene_spec(name), workers=1, rays=81)
    rows = {}
    for kind, scene in (("with", ours), ("without", bare)):
        visits = [
            wander(scene, scene is ours, options.size, options.seconds, i) for i in range(options.views)
        ]
        truths = [truth_of(lit, capture, visit, options.size) for visit in visits]
        pictures = pictures_of(scene, visits, options.size)
        rows[kind], order = figures(pictures, truths)
        if scene is ours:
            rows[kind]["known"] = float(np.mean(known_of(ours, visits, options.size)))
        if options.sheet:
            pairs = [np.concatenate([pictures[i], truths[i]], 1) for i in order]
            draw_sheet(options.sheet / f"{name}_{kind}.png", pairs)
    return rows


def look_only(ours: RenderableScene, name: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the mean and the smallest share that photos support of what a visitor sees, and draw the views."""
    visits = [wander(ours, True, options.size, options.seconds, seed) for seed in range(options.views)]
    known = known_of(ours, visits, options.size)
    if options.sheet:
        draw_sheet(options.sheet / f"{name}_with.png", pictures_of(ours, visits, options.size))
    return {"known": float(np.mean(known)), "min_known": float(np.min(known))}


def draw_sheet(path: Path, pictures: Sequence[np.ndarray], count: int = 24, columns: int = 4) -> None:
    """Draw the first pictures, row by row."""
    from PIL import Image

    shown = list(pictures[:count])
    shown += [np.ones_like(shown[0])] * (-len(shown) % columns)
    rows = [np.concatenate(shown[i : i + columns], 1) for i in range(0, len(shown), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255.0 * np.concatenate(rows, 0)).astype(np.uint8)).save(path)


BENCHMARK = Benchmark(__doc__, measure, options, needs="runs of built-in captures")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
