"""Random walks through a run of a built-in scene: nobody goes through a wall, nobody is stuck for good.

    python -m benchmarks.walks RUN [--walks 10000] [--steps 200] [--json FILE]

The page's own walker (``viewer/web/walk.js``; tests hold the window's to it) runs in Chromium. Walkers start at the
photos' places and go 0.3 m a step, turning at random. The true mesh says whether a step has gone through a surface: the
way of the chest, from above what a visitor may step on. *Stuck* is one who gets nowhere (less than a metre in all) over
the last half of the walk, though he tries 16 directions then.
"""

from __future__ import annotations

import argparse
import base64
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np

from benchmarks.browser import chromium
from benchmarks.common import Benchmark, Report
from benchmarks.free_views import scene_name
from smerf.capture.synth.assemble import build_world
from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.tracer import Caster
from smerf.capture.types import Capture
from smerf.cli.options import scene_folder
from smerf.engine.folder import RunFolder
from smerf.export.serve import SceneServer
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture
from smerf.render.scene import load_scene
from smerf.scene.types import BakedScene
from smerf.scene.walk import Place

WALKER = "viewer/web/walk.js"
"""Where ``SceneServer`` has the page's walker."""
_STEP_METRES = 0.3
_DT = 0.2
_TOGETHER = 100
"""Walks that the page makes before it answers."""


@dataclass(frozen=True)
class Walk:
    """The chest's positions (steps + 1, 3) in training space, and whether the walker was stuck at the end."""

    way: np.ndarray
    is_stuck: bool


def random_walks(
    page: Any,
    place: Place,
    eye: float,
    metre: float,
    starts: Sequence[tuple[int, np.ndarray]],
    steps: int,
) -> Iterator[Walk]:
    """Let a page that has the viewer's modules walk from places (seed, (3,)), ``metre`` in training units."""
    script = Path(__file__).with_suffix(".js").read_text()
    step = _STEP_METRES * metre
    given = {"place": _plain(place), "eye": eye, "step": step, "steps": steps, "dt": _DT}
    for first in range(0, len(starts), _TOGETHER):
        some = [{"seed": seed, "start": start.tolist()} for seed, start in starts[first : first + _TOGETHER]]
        for found in page.evaluate(script, given | {"walks": some}):
            yield Walk(np.array(found["way"]), found["late"] < metre and not found["canGo"])


def _plain(place: Place) -> dict[str, Any]:
    """Return a place as the page's modules take it: grids with z slowest."""

    def grid(values: np.ndarray | None) -> dict[str, Any] | None:
        if values is None:
            return None
        axes = (2, 1, 0, 3)[: values.ndim]
        data = np.ascontiguousarray(values.transpose(axes)).tobytes()
        return {"cells": len(values), "data": base64.b64encode(data).decode()}

    return {
        "frame": {"centre": list(place.centre), "scale": place.scale},
        "solid": grid(place.occupancy),
        "known": grid(place.known),
        "stands": {"points": place.stands.tolist(), "reach": place.reach},
    }


def crossings(caster: Caster, capture: Capture, way: np.ndarray) -> int:
    """Return how many steps of a way (N, 3) in training space cross the true mesh."""
    similarity = capture.training_from_source
    source = (way - similarity.translation) @ similarity.rotation / similarity.scale
    steps = np.diff(source, axis=0)
    moved = np.linalg.norm(steps, axis=-1) > 1e-6
    hits = caster.cast(source[:-1][moved].astype(np.float32), steps[moved].astype(np.float32))
    return int((hits.distance < 1.0).sum())


def run_walks(
    page: Any, scene: BakedScene, caster: Caster, capture: Capture, walks: int, steps: int
) -> dict[str, float]:
    """Walk and count."""
    region = scene.manifest.region
    eye = region.eye if region is not None and region.eye is not None else 0.3
    metre = capture.training_from_source.scale
    places: Sequence[np.ndarray] = [frame.camera.world_from_cam[:, 3] for frame in capture.split("train")]
    by_submodel: dict[int, list[tuple[int, np.ndarray]]] = {}
    for seed in range(walks):
        start = places[seed % len(places)]
        by_submodel.setdefault(scene.params.choose_submodel(start), []).append((seed, start))
    through, stuck, length, began = 0, 0, 0.0, time.perf_counter()
    for k, starts in by_submodel.items():
        for walk in random_walks(page, Place.of(scene, k), eye, metre, starts, steps):
            through += crossings(caster, capture, walk.way) > 0
            stuck += walk.is_stuck
            length += float(np.linalg.norm(np.diff(walk.way, axis=0), axis=-1).sum()) / metre
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
    caster = Caster(world.vertices, world.faces)
    with SceneServer(scene_folder(run.path)) as server, chromium() as browser:
        page = browser.new_page()
        # The module alone: nothing draws beside the walks.
        page.goto(urljoin(server.url, WALKER))
        found = run_walks(page, scene, caster, capture, options.walks, options.steps)
    report.add(f"walks/{name}", **found)
    print(
        f"{name}: {found['walks']} walks of {found['steps']} steps, {found['metres']:.1f} m each: "
        f"{found['through']} through a surface, {found['stuck']} stuck, {found['seconds']:.0f} s"
    )


BENCHMARK = Benchmark(__doc__, measure, options, needs="a run of a built-in capture")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
