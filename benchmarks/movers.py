"""What masks of moving things are worth: walkers and passers-by in synthetic captures, against true masks and none.

    python -m benchmarks.movers [--scenes tabletop flat courtyard] [--side 100] [--steps 600] [--json FILE]

Each capture of ``smerf synth`` is trained as it is (still), with three walkers in every training photo, occluded by
exact depth (walkers), and with somebody before the camera in a fifth of the training photos (passers); with
``teacher.robust`` off and auto, and with true masks (dilated by a pixel). The rules were tuned on tabletop, with
looks at courtyard; flat is reported alone. PSNR is the mean over the clean held-out photos; ``recall`` is of the
figures' pixels, ``lost`` the share of all training pixels that are left out and show none within four pixels. The
teacher is a small one that learns in a quarter of a CPU minute.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation

from benchmarks.common import Benchmark, HeldOut, Report
from benchmarks.figures import Walk, write_passers, write_walkers
from smerf.capture import load_capture
from smerf.capture.synth import render_capture
from smerf.capture.types import Capture
from smerf.fields.grid_field import FieldConfig
from smerf.kernels import HashSpec
from smerf.teacher.config import PRESETS
from smerf.teacher.plan import resolve_config
from smerf.teacher.trainer import TeacherTrainer

WALKS = {
    "tabletop": Walk(0.42, radius=0.5),
    "courtyard": Walk(1.7, radius=2.6),
    "flat": Walk(1.7),
}
HELD_OUT = "flat"
CONFIG = replace(
    PRESETS["preview"],
    field=FieldConfig(HashSpec(6, 4, 14, 16, 512), width=32, colour_width=32),
    cache_resolution=64,
    proposal_samples=48,
    samples=24,
)
OPEN = 16.0
"""``near_gradient`` in an open scene: in so few steps a teacher fills the air before the cameras with less."""
NEAR = 4


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", nargs="*", default=list(WALKS), choices=list(WALKS))
    parser.add_argument("--kinds", nargs="*", default=["still", "walkers", "passers"])
    parser.add_argument("--side", type=int, default=100, help="width of the photos; they are 4 to 3")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rays", type=int, default=1024)
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="where the captures are made and found again"
    )


def figures_of(capture: Capture) -> list[np.ndarray] | None:
    """Return where each training photo shows a figure (H, W), or None where none was drawn."""
    if not (capture.root / "truth").is_dir():
        return None
    paths = [capture.root / "truth" / frame.image_path.name for frame in capture.split("train")]
    return [np.array(Image.open(path)) == 0 for path in paths]


def train(path: Path, robust: str, steps: int, rays: int) -> dict[str, float]:
    """Train on a capture; return the PSNR of its held-out photos, and what was left out."""
    capture = load_capture(path)
    near_gradient = CONFIG.near_gradient if capture.bounded else OPEN
    config = replace(CONFIG, robust=robust, steps=steps, rays=rays, near_gradient=near_gradient)
    trainer = TeacherTrainer(capture, resolve_config(config, capture, "cpu", 1))
    began, looks = time.process_time(), 0.0
    for _ in range(steps):
        before, known = time.process_time(), trainer.watch.looks
        trainer.advance()
        if trainer.watch.looks > known:
            looks += time.process_time() - before
    spent = time.process_time() - began
    views = HeldOut(capture, count=1000)
    found = {"psnr": views.psnr(views.render(trainer.model.render_image))}
    found |= {"cpu_seconds": spent, "look_cpu_seconds": looks}
    left_out = [~used for used in trainer.watch.used()]
    total = sum(len(own) for own in left_out) and sum(own.size for own in left_out)
    found["left_out"] = sum(int(own.sum()) for own in left_out) / max(1, total)
    truth = figures_of(capture)
    around = truth and [binary_dilation(own, iterations=NEAR) for own in truth]
    found["lost"] = found["left_out"]
    if truth and around and left_out:
        met = sum(int((a & b).sum()) for a, b in zip(left_out, truth))
        far = sum(int((a & ~b).sum()) for a, b in zip(left_out, around))
        found |= {"recall": met / sum(int(own.sum()) for own in truth), "lost": far / total}
    return found


def measure_scene(scene: str, folder: Path, options: argparse.Namespace, report: Report) -> None:
    """Train on one scene with and without figures."""
    still = folder / scene
    if not (still / "transforms.json").is_file():
        render_capture(scene, still, width=options.side, height=options.side * 3 // 4)
    role = "reported" if scene == HELD_OUT else "tuned on"
    for kind in options.kinds:
        path, share = folder / f"{scene}-{kind}", 0.0
        if kind == "walkers":
            share = write_walkers(still, path, WALKS[scene])
        elif kind == "passers":
            share = write_passers(still, path)
        variants = {"off": (path if share else still, "off"), "auto": (path if share else still, "auto")}
        if share:
            variants["true masks"] = (folder / f"{scene}-{kind}-masked", "off")
        results = {}
        for variant, (where, robust) in variants.items():
            results[variant] = result = train(where, robust, options.steps, options.rays)
            report.add(
                f"movers/{scene}/{kind}/{variant}",
                role=role,
                figures=share,
                steps=options.steps,
                rays=options.rays,
                **result,
            )
            print(
                f"{scene:10} {kind:8} {variant:10} {result['psnr']:6.2f} dB, left out "
                f"{100 * result['left_out']:5.2f} %, recall {result.get('recall', float('nan')):4.2f}, "
                f"lost {100 * result['lost']:5.2f} %, "
                f"{result['cpu_seconds']:5.1f} CPU s, of which looks {result['look_cpu_seconds']:4.1f}",
                flush=True,
            )
        gain = results["auto"]["psnr"] - results["off"]["psnr"]
        if share:
            whole = results["true masks"]["psnr"] - results["off"]["psnr"]
            print(f"{scene:10} {kind:8} auto gains {gain:+.2f} dB of {whole:+.2f} by true masks", flush=True)
        else:
            print(f"{scene:10} {kind:8} auto changes {gain:+.2f} dB", flush=True)


def measure(options: argparse.Namespace, report: Report) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for scene in options.scenes:
            measure_scene(scene, options.keep or Path(temporary), options, report)


BENCHMARK = Benchmark(
    __doc__,
    measure,
    options,
    short=["--scenes", "tabletop", "--kinds", "passers", "--side", "48", "--steps", "200"],
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
