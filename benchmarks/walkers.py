"""How much of what moves ``smerf mask --by motion`` finds before poses exist: the model against its own input.

    python -m benchmarks.walkers [--video FILE] [--person FILE] [--model FILE] [--json FILE]

Recall of moving pixels where a fixed share of the pixels of still clips is marked, for the model and for a threshold on
the smallest difference after stabilisation (3 x 3 mean), which is the model's own input. In a rendered scene that was
never trained on (courtyard), with figures; and, with ``--video``, in a real clip that shows nobody, without and with
somebody pasted in who moves: a rendered figure, and with ``--person`` the person whom the segmenter cuts out of a photo
as well. Clips of both kinds are stabilised on their own frames, with whoever walks there in the way.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import label
from torch import Tensor
from torch.nn import functional

from benchmarks.common import Benchmark, Report
from smerf.vision.clips import FRAMES, Clips, clip_inputs, half_size, make_clips, reduced_size
from smerf.vision.figures import draw, person
from smerf.vision.motion import BY_DIFFERENCE, BY_MODEL, mark_motion, measure_motion, shipped_walkers
from smerf.vision.stabilise import differences
from smerf.vision.walkers import Walkers, input_score, load_walkers

SHARES = (0.005, 0.01, 0.02, 0.05)
HEIGHTS = (0.95, 0.6, 0.4, 0.25)
"""Of whoever is pasted in, as a fraction of the frame's."""
SCENE, SEED = "courtyard", 77
RATE = 10.0
"""Frames a second that a real clip is looked at."""


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--video", type=Path, help="a clip of a still place")
    parser.add_argument("--person", type=Path, help="a photo of a person, cut out and pasted in")
    parser.add_argument("--model", type=Path, help="weights; those of the package if not given")
    parser.add_argument("--rooms", type=int, default=20, help="places of the camera in the rendered scene")
    parser.add_argument("--clips", type=int, default=40, help="clips of the video")


def cut_out(path: Path) -> np.ndarray:
    """Return the largest person of a photo, uint8 (H, W, 4)."""
    from smerf.vision.people import find_people

    pixels = np.asarray(Image.open(path).convert("RGB"))
    parts, count = label(find_people(pixels))
    if not count:
        raise SystemExit(f"{path}: shows no person that the segmenter finds")
    largest = parts == 1 + np.bincount(parts[parts > 0] - 1).argmax()
    y, x = np.flatnonzero(largest.any(1)), np.flatnonzero(largest.any(0))
    whole = np.dstack([pixels, 255 * largest.astype(np.uint8)])
    return whole[y[0] : y[-1] + 1, x[0] : x[-1] + 1]


def walk(
    frames: np.ndarray, height: float, random: np.random.Generator, cut: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (T, H, W, 3) in which somebody of a height walks, and where, bool (T, H, W)."""
    rows, columns = frames.shape[1:3]
    tall = height * rows
    step = random.uniform(0.03, 0.3) * tall * random.choice([-1, 1])
    middle = random.uniform(0.25, 0.75) * columns
    foot = rows * random.uniform(max(height, 0.6), max(1.0, height))
    clothes, phase = random.uniform(0.05, 0.95, (2, 3)), random.uniform(0, 6)
    result, where = frames.copy(), np.zeros(frames.shape[:3], bool)
    for index in range(len(frames)):
        x = middle + step * (index - len(frames) // 2)
        if cut is None:
            colours, shown = _figure(rows, columns, x, foot, tall, phase + 0.9 * index, step, clothes)
            alpha = shown.astype(float)[..., None]
        else:
            colours, alpha = _paste(rows, columns, x, foot, tall, cut)
        result[index] = np.round(frames[index] * (1 - alpha) + 255 * alpha * colours)
        where[index] = alpha[..., 0] > 0.5
    return result, where


def _figure(
    rows: int,
    columns: int,
    x: float,
    foot: float,
    tall: float,
    phase: float,
    step: float,
    clothes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (H, W, 3) and places (H, W) of a figure before a camera that looks along y."""
    across, down = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    rays = np.stack([across / rows, np.ones_like(down), -down / rows], -1)
    place, heading = np.array([x / rows, 1.0, -foot / rows]), 0.0 if step > 0 else np.pi
    capsules = person(place, heading, phase, tall / rows, clothes)
    colours, number = draw([capsules], np.zeros(3), rays, np.full((rows, columns), np.inf))
    return colours.clip(0, 1), number >= 0


def _paste(
    rows: int, columns: int, x: float, foot: float, tall: float, cut: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (H, W, 3) and opacity (H, W, 1) of a picture of somebody whose feet are at a place."""
    width = max(1, round(cut.shape[1] * tall / cut.shape[0]))
    small = Image.fromarray(cut).resize((width, max(1, round(tall))), Image.Resampling.BOX)
    canvas = Image.new("RGBA", (columns, rows))
    canvas.paste(small, (round(x - width / 2), round(foot - tall)))
    pixels = np.asarray(canvas).astype(float) / 255.0
    return pixels[..., :3], pixels[..., 3:]


@dataclass(frozen=True)
class Film:
    """Frames uint8 (T, H, W, 3), where somebody walks, bool (T, H, W), and what differs once they are aligned."""

    frames: np.ndarray
    where: np.ndarray
    differing: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray, where: np.ndarray) -> Film:
        return cls(frames, where, differences(frames))

    def clip(self) -> Clips:
        moving = functional.interpolate(
            torch.from_numpy(self.where.astype(np.float32))[:, None],
            half_size(),
            mode="bilinear",
            antialias=True,
        )
        return Clips(
            clip_inputs(self.frames, self.differing)[None],
            (moving[:, 0] * 254.0).round().to(torch.uint8)[None],
            torch.zeros(1, FRAMES, 1, 4),
            torch.zeros(1, FRAMES, 1, dtype=torch.bool),
            torch.zeros(1, FRAMES, dtype=torch.bool),
        )


def real_films(video: Path, cut: np.ndarray | None, count: int) -> Iterator[tuple[Film, Film]]:
    """Yield clips of a video as it is, and with somebody who walks through."""
    from smerf.prepare.video import extract_frames, probe

    clip = probe(video)
    stride = max(1, round(clip.rate / RATE))
    last = int(clip.seconds * clip.rate) - stride * FRAMES - 2
    starts = np.linspace(0, last, count).round().astype(int).tolist()
    wanted = sorted({start + stride * index for start in starts for index in range(FRAMES)})
    size = reduced_size(clip.width, clip.height)
    known = {
        number: np.asarray(image.resize(size, Image.Resampling.BOX))
        for number, image in extract_frames(clip, wanted, max(clip.width, clip.height), lambda done: None)
    }
    for number, start in enumerate(starts):
        random = np.random.default_rng([SEED, number])
        frames = np.stack([known[start + stride * index] for index in range(FRAMES)])
        nobody = np.zeros(frames.shape[:3], bool)
        yield Film.of(frames, nobody), Film.of(*walk(frames, HEIGHTS[number % len(HEIGHTS)], random, cut))


@torch.no_grad()
def scores(clips: Clips, model: Walkers | None) -> Tensor:
    """Return how much each pixel moves (N, T, 36, 48), by the model or by its input alone."""
    found = []
    for start in range(0, len(clips), 8):
        inputs = clips[slice(start, start + 8)].inputs.float() / 255.0
        if model is None:
            plain = functional.avg_pool2d(input_score(inputs.flatten(0, 1)), 2)
            found.append(plain[:, 0].unflatten(0, inputs.shape[:2]))
        else:
            found.append(model(inputs, model.config.sets[0]).moving)
    return torch.cat(found)


def recalls(still: Tensor, walked: Tensor, moving: Tensor) -> dict[str, float]:
    """Return the recall of moving pixels where each share of the still clips' pixels is marked."""
    levels = np.quantile(still.numpy(), [1.0 - share for share in SHARES])
    found = walked[moving > 127].numpy()
    return {
        f"recall_at_{100 * share:g}": float((found > level).mean()) for share, level in zip(SHARES, levels)
    }


def compare(name: str, still: Clips, walked: Clips, model: Walkers, report: Report) -> None:
    """Measure the model and its input on the same clips."""
    ways: dict[str, Walkers | None] = {"model": model, "its input": None}
    for way, own in ways.items():
        began = time.process_time()
        measured = recalls(scores(still, own), scores(walked, own), walked.moving)
        spent = (time.process_time() - began) / (FRAMES * (len(still) + len(walked)))
        report.add(
            f"walkers/{name}/{way}", clips=len(walked), moving=float((walked.moving > 127).float().mean()),
            cpu_ms_a_frame=1e3 * spent, **measured,
        )  # fmt: skip
        figures = " ".join(
            f"{100 * share:g} %: {measured[f'recall_at_{100 * share:g}']:.3f}" for share in SHARES
        )
        print(f"{name:28} {way:10} recall at {figures}", flush=True)


def compare_masks(name: str, pairs: list[tuple[Film, Film]], model: Walkers, report: Report) -> None:
    """Measure the masks that the command would write of the same clips."""
    for way, own, rule in (("model", model, BY_MODEL), ("its input", None, BY_DIFFERENCE)):
        still, walked = (
            [mark_motion(measure_motion(film.frames, film.differing, own), rule) for film in films]
            for films in zip(*pairs)
        )
        where = [pair[1].where for pair in pairs]
        met = sum(int((found & true).sum()) for found, true in zip(walked, where))
        measured = {
            "recall": met / sum(int(true.sum()) for true in where),
            "recall_of_frames": float(np.mean([
                (found & true).sum() > 0.5 * true.sum()
                for clip, places in zip(walked, where) for found, true in zip(clip, places) if true.any()
            ])),
            "marked_of_still": float(np.mean(still)),
        }  # fmt: skip
        report.add(f"walkers/{name}/masks by {way}", clips=len(pairs), **measured)
        print(
            f"{name:28} masks by {way:10} recall {measured['recall']:.3f}, half of whom is masked in "
            f"{100 * measured['recall_of_frames']:.0f} % of the frames; of still clips "
            f"{100 * measured['marked_of_still']:.2f} % marked",
            flush=True,
        )


def measure(options: argparse.Namespace, report: Report) -> None:
    model = load_walkers(options.model or shipped_walkers())
    rendered = Clips.join(list(make_clips(SCENE, range(options.rooms), 4, SEED)))
    walks = rendered.shown.flatten(1).any(1)
    compare(f"{SCENE}, rendered", rendered[~walks], rendered[walks], model, report)
    if options.video is None:
        return
    cuts = {"figure": None} | ({} if options.person is None else {"person": cut_out(options.person)})
    for name, cut in cuts.items():
        pairs = list(real_films(options.video, cut, options.clips))
        still, walked = (Clips.join([pair[k].clip() for pair in pairs]) for k in (0, 1))
        compare(f"{options.video.stem} + {name}", still, walked, model, report)
        compare_masks(f"{options.video.stem} + {name}", pairs, model, report)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--rooms", "4"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
