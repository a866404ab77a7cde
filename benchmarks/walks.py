"""Random walks through a run of a built-in scene: nobody goes through a wall, nobody is stuck for good.

    python -m benchmarks.walks RUN [--walks 10000] [--steps 200] [--json FILE]

Walkers start at the photos' places and go 0.3 m a step, turning at random. The true mesh says whether a step has gone
through a surface: the way of the chest, from above what a visitor may step on. *Stuck* is one who gets nowhere (less
than a metre in all) over the last half of the walk, though he tries 16 directions then.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Benchmark, Report
from benchmarks.free_views import scene_name
from smerf.capture.synth.assemble import build_world
from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.tracer import Caster
from smerf.capture.types import Capture
from smerf.cli.options import scene_folder
from smerf.engine.folder import RunFolder
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import load_scene
from smerf.scene.types import BakedScene
from smerf.scene.walk import Body, Place, Walker

_STEP_METRES = 0.3
_DT = 0.2


def random_walk(
    place: Place, body: Body, start: np.ndarray, step: float, steps: int, seed: int
) -> tuple[np.ndarray, bool]:
    """Return the chest's positions (steps + 1, 3) in training space, and whether the walker is stuck at the end."""
    random = np.random.default_rng(seed)
    walker = Walker(place, body, start)
    walker.spawn()
    chest = np.array([0.0, 0.0, 0.5 * (body.eye - body.step)])
    heading, way = random.uniform(0.0, 2.0 * np.pi), [walker.position - chest]
    for _ in range(steps):
        before = walker.position
        walker.move(step * float(np.cos(heading)), step * float(np.sin(heading)), _DT)
        way.append(walker.position - chest)
        went = float(np.hypot(*(walker.position - before)[:2]))
        heading += random.normal(0.0, 0.3) if went > 0.5 * step else random.uniform(0.5, np.pi)
    places = np.array(way)
    half = places[steps // 2 :]
    is_stuck = float(np.linalg.norm(np.diff(half[:, :2], axis=0), axis=-1).sum()) < step / _STEP_METRES
    if is_stuck:
        for turn in np.arange(16) * np.pi / 8:
            before = walker.position
            walker.move(step * float(np.cos(turn)), step * float(np.sin(turn)), _DT)
            if float(np.hypot(*(walker.position - before)[:2])) > 0.5 * step:
                is_stuck = False
                break
    return places, is_stuck


def crossings(caster: Caster, capture: Capture, way: np.ndarray) -> int:
    """Return how many steps of a way (N, 3) in training space cross the true mesh."""
    similarity = capture.training_from_source
    source = (way - similarity.translation) @ similarity.rotation / similarity.scale
    steps = np.diff(source, axis=0)
    moved = np.linalg.norm(steps, axis=-1) > 1e-6
    hits = caster.cast(source[:-1][moved].astype(np.float32), steps[moved].astype(np.float32))
    return int((hits.distance < 1.0).sum())


def run_walks(
    scene: BakedScene, caster: Caster, capture: Capture, walks: int, steps: int
) -> dict[str, float]:
    """Walk and count."""
    region = scene.manifest.region
    eye = region.eye if region is not None and region.eye is not None else 0.3
    metre = capture.training_from_source.scale
    starts: Sequence[np.ndarray] = [frame.camera.world_from_cam[:, 3] for frame in capture.split("train")]
    places = {k: Place.of(scene, k) for k in range(len(scene.params.params_to_sm))}
    through, stuck, length, began = 0, 0, 0.0, time.perf_counter()
    for seed in range(walks):
        start = starts[seed % len(starts)]
        place = places[scene.params.choose_submodel(start)]
        way, is_stuck = random_walk(place, Body.of_eye(eye), start, _STEP_METRES * metre, steps, seed)
        through += crossings(caster, capture, way) > 0
        stuck += is_stuck
        length += float(np.linalg.norm(np.diff(way, axis=0), axis=-1).sum()) / metre
    seconds = time.perf_counter() - began
    found = {"walks": walks, "steps": steps, "through": through, "stuck": stuck}
    return found | {"metres": length / max(1, walks), "seconds": seconds}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a run of a built-in capture")
    parser.add_argument("--walks", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=200)


def measure(options: argparse.Namespace, report: Report) -> None:
    run = RunFolder.open(options.run)
    capture = load_run_capture(run, load_config(run), None)
    name = scene_name(capture)
    world = build_world(load_scene_spec(name))
    scene = load_scene(scene_folder(run.path), cache_size=64)
    found = run_walks(scene, Caster(world.vertices, world.faces), capture, options.walks, options.steps)
    report.add(f"walks/{name}", **found)
    print(
        f"{name}: {found['walks']} walks of {found['steps']} steps, {found['metres']:.1f} m each: "
        f"{found['through']} through a surface, {found['stuck']} stuck, {found['seconds']:.0f} s"
    )


BENCHMARK = Benchmark(__doc__, measure, options, needs="a run of a built-in capture")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
