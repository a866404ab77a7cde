"""What depth maps are worth to the teacher: trained without them, with exact ones, and with ones as poor as a phone's.

    python -m benchmarks.depth_maps [CAPTURE...] [--steps 1500] [--side 320] [--json FILE]

Each CAPTURE has exact depth maps (``smerf synth``); a small tabletop without any. *phone*: a quarter of the pixels
along each axis, averaged across edges, 1 % of noise, nothing farther than 5 units. The teacher of preset ``preview`` is
trained for the same number of steps each time. PSNR is the mean over at most eight held-out photos; ``error`` is the
median difference of the median distance of their rays from the truth, relative to it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Benchmark, Report, write_tabletop
from benchmarks.sparse_points import train
from smerf.capture import load_capture, load_depth
from smerf.capture.rays import pixel_rays
from smerf.capture.types import Capture, Frame
from smerf.teacher.model import FieldTeacher
from smerf.teacher.residuals import view_photo

_FACTOR, _NOISE, _REACH = 4, 0.01, 5.0


def without_depth(capture: Capture) -> Capture:
    """Return a capture whose photos have no depth maps."""
    return replace(capture, frames=tuple(replace(frame, depth_path=None) for frame in capture.frames))


def as_a_phone(capture: Capture, folder: Path) -> Capture:
    """Return a capture with poor depth maps, written to ``folder``."""
    folder.mkdir()
    return replace(
        capture, frames=tuple(_poor(frame, index, folder) for index, frame in enumerate(capture.frames))
    )


def _poor(frame: Frame, index: int, folder: Path) -> Frame:
    depth = load_depth(frame)
    assert depth is not None
    random = np.random.default_rng(index)
    height, width = (side // _FACTOR for side in depth.shape)
    whole = depth[: height * _FACTOR, : width * _FACTOR]
    small = whole.reshape(height, _FACTOR, width, _FACTOR).mean((1, 3))
    small = small * (1.0 + _NOISE * random.normal(size=small.shape))
    path = folder / f"{index:04d}.npy"
    np.save(path, np.where(small < _REACH, small, 0.0).astype(np.float32))
    return replace(frame, depth_path=path, depth_scale=1.0)


def distance_error(teacher: FieldTeacher, frames: tuple[Frame, ...]) -> float:
    """Return the median relative error of distances in photos, where the truth is known."""
    errors = []
    for frame in frames:
        depth = load_depth(frame)
        assert depth is not None
        _, _, distances = view_photo(teacher, frame.camera, 0, torch.device("cpu"), None)
        truth = depth.reshape(-1) * np.linalg.norm(pixel_rays(frame.camera)[1], axis=1)
        errors.append((np.abs(distances - truth) / np.maximum(truth, 1e-9))[truth > 0])
    return float(np.median(np.concatenate(errors)))


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captures", type=Path, nargs="*", metavar="CAPTURE")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--side", type=int, default=320, help="pixels of the photos' longer side")


def measure(options: argparse.Namespace, report: Report) -> None:
    print(f"{'capture':12} {'depth maps':10} {'PSNR':>6} {'error':>7} {'CPU s':>6}")
    with tempfile.TemporaryDirectory(prefix="smerf_depth_") as temporary:
        captures = options.captures or [write_tabletop(Path(temporary), views=24, width=160, height=120)]
        for path in captures:
            exact = load_capture(path, max_side=options.side)
            kinds = {"none": without_depth(exact), "exact": exact}
            kinds["phone"] = as_a_phone(exact, Path(temporary) / f"phone_{path.name}")
            for kind, capture in kinds.items():
                teacher, found = train(capture, options.steps)
                found["error"] = distance_error(teacher, exact.split("test")[:8])
                report.add(f"depth_maps/{path.name}/{kind}", steps=options.steps, **found)
                print(
                    f"{path.name:12} {kind:10} {found['psnr']:6.2f} {found['error']:7.4f} {found['cpu_seconds']:6.0f}",
                    flush=True,
                )


BENCHMARK = Benchmark(__doc__, measure, options, short=["--steps", "200"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
