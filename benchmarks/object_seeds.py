"""How well a training separates objects, for several seeds, all of them reported.

    python -m benchmarks.object_seeds SCENES -o RUNS [--preset cpu-easy] [--seeds 0 1 2] [--test 64] [--json FILE]
        [--set training.background=0.005]

SCENES is a set that smerf objects synth made. Each seed is trained in RUNS/seed-N, continued where it stopped, and
measured on scenes of the same recipe and another seed (99). The table has every seed, the stuck ones as well, and
the time of each: on a machine that does other work, the seconds of the processor say more than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from pathlib import Path

from benchmarks.common import Benchmark, Report
from smerf.engine.settings import apply_overrides
from smerf.objects.config import PRESETS, ObjectsConfig, make_config
from smerf.objects.data.generate import Recipe, generate_scenes
from smerf.objects.data.readers import open_scenes
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.store import MODEL_FILE, load_model
from smerf.objects.training.evaluate import evaluate_scenes
from smerf.objects.training.stage import train_objects

SCORES = ("psnr", "fg_ari", "ari", "miou")


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def train(scenes: SceneSet, config: ObjectsConfig, folder: Path, device: str) -> float | None:
    """Train unless the folder holds a model; return the processor's seconds over all parts, ``None`` if unknown."""
    note = folder / "processor_seconds.json"
    before = json.loads(note.read_text()) if note.is_file() else 0.0
    if (folder / MODEL_FILE).is_file():
        return before or None
    began = processor_seconds()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        train_objects(scenes, config, folder=folder, device=device)
    finally:
        spent = before + processor_seconds() - began
        note.write_text(json.dumps(spent))
    return spent


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenes", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--preset", default="cpu-easy", choices=sorted(PRESETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--test", type=int, default=64)
    parser.add_argument("--device", default="cpu")


def measure(options: argparse.Namespace, report: Report) -> None:
    scenes = open_scenes(options.scenes)
    values = scenes.source["recipe"]
    recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    test = generate_scenes(recipe, options.test, seed=99)
    titles = " ".join(f"{score:>8s}" for score in SCORES)
    print(f"{'seed':>6s} {'steps':>7s} {'clock s':>8s} {'cpu s':>7s} {titles}", flush=True)
    for seed in options.seeds:
        config = apply_overrides(make_config(options.preset, (), seed), tuple(options.set))
        folder = options.output / f"seed-{seed}"
        spent = train(scenes, config, folder, options.device)
        model, record = load_model(folder / MODEL_FILE)
        scores = evaluate_scenes(model, test, config.training.input_views)
        report.add(
            f"{options.preset} seed {seed}", settings=options.set, steps=record["steps"],
            seconds=record["seconds"], processor_seconds=spent, **scores,
        )  # fmt: skip
        shown = " ".join(f"{scores[name]:8.3f}" for name in SCORES)
        taken = "unknown" if spent is None else f"{spent:.0f}"
        print(f"{seed:6d} {record['steps']:7d} {record['seconds']:8.0f} {taken:>7s} {shown}", flush=True)
    for name, choose in (("min", min), ("median", statistics.median), ("max", max)):
        shown = " ".join(f"{choose([r[score] for r in report.records]):8.3f}" for score in SCORES)
        print(f"{name:>6s} {'':24s} {shown}")


BENCHMARK = Benchmark(__doc__, measure, options, needs="a set of object scenes and a folder for the runs")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
