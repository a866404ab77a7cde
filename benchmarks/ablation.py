"""What each choice of the object encoder is worth: the ablation of packing, blocks, token drop and data sets.

    python -m benchmarks.ablation [--steps 2500] [--scenes 600] [--photos CAPTURE] [--only input drop] [--json FILE]
        [--set training.clip=0]

Every cell trains preset cpu-easy, all steps with the Spatial Broadcast decoder, on scenes of 24x24 pixels and measures
PSNR of novel views on 64 held-out scenes; one factor changes at a time. The peer of each is the cell ``off 1e-3``: one
size, no QK norm, blocks one after the other, no dropped tokens, easy scenes alone. Logit and entropy are the extremes
of four looks during the training; seconds are the processor's, of the steps alone. One seed, so differences of a few
tenths of a decibel say little. Without --photos the built-in tabletop stands in for photos.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Benchmark, Report, write_tabletop
from benchmarks.object_seeds import processor_seconds
from smerf.engine.loop import run_steps
from smerf.objects.config import ObjectsConfig, make_config
from smerf.objects.data.generate import RECIPES, generate_scenes
from smerf.objects.data.mixtures import Mixture
from smerf.objects.data.photos import scenes_of_capture
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.osrt import Osrt
from smerf.objects.training.evaluate import evaluate_scenes
from smerf.objects.training.trainer import ObjectsTrainer

HELD_OUT = 64
LOOKS = 4
SIZE = (24, 24)
MIXED = ((16, 32), SIZE, (32, 16))
UNSEEN = (20, 28)
QUOTAS = (("easy", 3), ("clevr", 2), ("photos", 1))
_QUOTAS = "training.quotas=[" + ",".join(f"[{name},{share}]" for name, share in QUOTAS) + "]"
_HEADS = "heads=[" + ",".join(name for name, _ in QUOTAS) + "]"


@dataclass(frozen=True)
class Cell:
    """One training: a level of a factor, with its settings, data and share of the steps."""

    factor: str
    level: str
    settings: tuple[str, ...] = ()
    data: str = "easy"
    share: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.factor}: {self.level}"


BASE = Cell("qk norm x rate", "off 1e-3", ("training.lr=1e-3",))
CELLS = (
    BASE,
    *(
        Cell("qk norm x rate", f"{word} {rate}", (f"encoder.qk_norm={norm}", f"training.lr={rate}"))
        for word, norm in (("off", "none"), ("on", "layer"))
        for rate in ("1e-3", "3e-3", "1e-2")
        if (word, rate) != ("off", "1e-3")
    ),
    Cell("block", "parallel", ("encoder.parallel=true",)),
    # 17 scenes of 33.3 tokens have the 576 tokens of 16 scenes of 36, to 2 %.
    Cell("input", "mixed", ("encoder.patch_ray=centre", "training.batch=17"), "mixed"),
    Cell("drop", ".5 to 0", ("training.drop=0.5",)),
    Cell("data", "together", (_QUOTAS, _HEADS), "together"),
    *(Cell("data", f"{name} alone", (), name, share / 6) for name, share in QUOTAS),
)


@dataclass
class Data:
    """The sets, made where a cell first needs them."""

    scenes: int
    photos: Path | None
    _made: dict[str, Mixture] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Mixture:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Mixture:
        if name == "together":
            return Mixture({each: self[each].sets[""] for each, _ in QUOTAS})
        if name == "mixed":
            # The same held-out scenes of 24x24 pixels as without the other sizes.
            third = HELD_OUT + self.scenes // 3
            sets = [make("easy", third, size, seed=1 + i) for i, size in enumerate(MIXED)]
            sets[MIXED.index(SIZE)] = self["easy"].first[-third:]
            return Mixture({"": tuple(sets)})
        if name == "photos":
            return Mixture({"": (self._photos(),)})
        return Mixture({"": (make(name, self.scenes + HELD_OUT, SIZE),)})

    def _photos(self) -> SceneSet:
        if self.photos is not None:
            return scenes_of_capture(self.photos, SIZE, HELD_OUT)
        with tempfile.TemporaryDirectory() as folder:
            return scenes_of_capture(write_tabletop(Path(folder), views=40), SIZE, HELD_OUT)


def make(recipe: str, count: int, size: tuple[int, int], seed: int = 0) -> SceneSet:
    """Generate scenes of any size with the focal length, in pixels, of the recipe's field of view over 24 pixels."""
    base = RECIPES[recipe]
    focal = 0.5 * SIZE[1] / math.tan(0.5 * math.radians(base.fov))
    fov = math.degrees(2.0 * math.atan(0.5 * size[1] / focal))
    return generate_scenes(dataclasses.replace(base, size=size, fov=fov), count, seed)


def configure(cell: Cell, steps: int, extra: tuple[str, ...]) -> ObjectsConfig:
    """Return the config of a cell."""
    taken = max(1, round(cell.share * steps))
    always = (
        f"training.steps={taken}",
        f"training.broadcast_steps={taken}",
        f"training.held_out={HELD_OUT}",
        f"image=[{SIZE[0]},{SIZE[1]}]",
    )
    return make_config("cpu-easy", (*always, *extra, *cell.settings))


def train(config: ObjectsConfig, mixture: Mixture) -> tuple[ObjectsTrainer, dict[str, float]]:
    """Train a cell; return the trainer with the loss of the last steps, the meters' extremes and the seconds."""
    trainer = ObjectsTrainer(mixture, config)
    losses: list[float] = []
    looks, seconds = [trainer.meters()], 0.0
    for look in range(1, LOOKS + 1):
        began = processor_seconds()
        run_steps(
            trainer,
            config.training.steps * look // LOOKS,
            report=lambda step, figures: losses.append(figures["loss"]),
        )
        seconds += processor_seconds() - began
        looks.append(trainer.meters())
    last = losses[-min(100, max(1, len(losses) // 4)) :]
    return trainer, {
        "steps": trainer.step,
        "loss": sum(last) / len(last),
        "loss_steps": len(last),
        "largest_logit": max(each["logit"] for each in looks),
        "least_entropy": min(each["entropy"] for each in looks),
        "processor_seconds": seconds,
    }


def measure_cell(cell: Cell, trainer: ObjectsTrainer, unseen: SceneSet) -> dict[str, float]:
    """Return the PSNR of each data set's held-out scenes, and that of photos of an unseen size where it matters."""
    model, decoder, result = trainer.averaged(), trainer.averaged_first(), {}
    for name, parts in trainer.sets.items():
        held_out = next(part.held_out for part in parts if part.scenes.size == SIZE)
        head = name if trainer.config.heads else None
        scores = evaluate_scenes(model, held_out, 1, decoder=decoder, head=head)
        result[f"psnr_{name}" if name else "psnr"] = scores["psnr"]
    if cell.data == "mixed":
        result["psnr_unseen"] = evaluate_scenes(model, unseen, 1, decoder=decoder)["psnr"]
    elif cell == BASE:
        result["psnr_unseen"] = evaluate_scenes(Resized(model), unseen, 1, decoder=decoder)["psnr"]
        result["psnr_unseen_native"] = evaluate_scenes(model, unseen, 1, decoder=decoder)["psnr"]
    return result


class Resized(torch.nn.Module):
    """A model of one size that is given photos of another: they are squeezed to its own."""

    def __init__(self, model: Osrt) -> None:
        super().__init__()
        self.model = model
        self.config, self.slots, self.decoder, self.toned = (
            model.config, model.slots, model.decoder, model.toned,
        )  # fmt: skip

    def encode(self, images: torch.Tensor, poses: torch.Tensor, fov: torch.Tensor, **others: Any):
        flat = images.flatten(0, 1).permute(0, 3, 1, 2)
        small = torch.nn.functional.interpolate(flat, SIZE, mode="bilinear", antialias=True)
        small = small.permute(0, 2, 3, 1).unflatten(0, images.shape[:2])
        return self.model.encode(small, poses, fov, **others)


def marks(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is asked of each factor, for the factors that were run: what was found, and whether it holds."""
    base, result = found.get(BASE.name), []

    def add(name: str, value: float, wanted: str, holds: bool) -> None:
        result.append({"name": f"mark: {name}", "value": value, "wanted": wanted, "holds": holds})

    if base and (on := found.get("qk norm x rate: on 1e-2")):
        gap = on["psnr"] - base["psnr"]
        add("qk norm at 1e-2 against off at 1e-3, dB", gap, ">= -0.5", gap >= -0.5)
        add("qk norm at 1e-2, largest logit", on["largest_logit"], "< 20", on["largest_logit"] < 20)
    if base and (parallel := found.get("block: parallel")):
        add("parallel block against sequential, dB", parallel["psnr"] - base["psnr"], "report", True)
        ratio = parallel["processor_seconds"] / base["processor_seconds"]
        add("parallel block, share of the time", ratio, "report", True)
    if base and (mixed := found.get("input: mixed")):
        gap = mixed["psnr"] - base["psnr"]
        add("mixed sizes on 24x24, dB", gap, ">= -0.2", gap >= -0.2)
        gap = mixed["psnr_unseen"] - base["psnr_unseen"]
        add("mixed sizes on unseen 28x20 against resizing, dB", gap, ">= 1", gap >= 1.0)
    if base and (drop := found.get("drop: .5 to 0")):
        gap = drop["psnr"] - base["psnr"]
        add("token drop, dB", gap, ">= -0.2", gap >= -0.2)
        ratio = drop["processor_seconds"] / base["processor_seconds"]
        add("token drop, share of the time", ratio, "<= 0.75", ratio <= 0.75)
    if together := found.get("data: together"):
        for name, _ in QUOTAS:
            if alone := found.get(f"data: {name} alone"):
                gap, least = together[f"psnr_{name}"] - alone["psnr"], 0.0 if name == "clevr" else -0.2
                add(f"{name} together against alone at equal steps, dB", gap, f">= {least:g}", gap >= least)
    return result


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=2500, help="steps of a cell")
    parser.add_argument("--scenes", type=int, default=600, help="scenes to train on")
    parser.add_argument("--photos", type=Path, metavar="CAPTURE", help="posed capture of 25 photos or more")
    parser.add_argument("--only", nargs="+", default=[], help="words that a cell's name must hold one of")
    parser.add_argument("--set", action="append", default=[], help="a setting of every cell")


def measure(options: argparse.Namespace, report: Report) -> None:
    data = Data(options.scenes, options.photos)
    unseen = make("easy", HELD_OUT, UNSEEN, seed=99)
    chosen = [c for c in CELLS if not options.only or c == BASE or any(w in c.name for w in options.only)]
    print(f"{'cell':32s} {'steps':>6s} {'loss':>7s} {'PSNR':>7s} {'logit':>7s} {'entropy':>8s} {'cpu s':>7s}")
    found = {}
    for cell in chosen:
        trainer, figures = train(configure(cell, options.steps, tuple(options.set)), data[cell.data])
        figures |= measure_cell(cell, trainer, unseen)
        found[cell.name] = report.add(
            cell.name, settings=list(cell.settings), data=cell.data, scenes=len(data[cell.data]),
            parameters=trainer.model.count_parameters()["encoder"], **figures,
        )  # fmt: skip
        decibels = " ".join(f"{value:7.2f}" for key, value in figures.items() if key.startswith("psnr"))
        print(
            f"{cell.name:32s} {figures['steps']:6d} {figures['loss']:7.4f} {decibels} "
            f"{figures['largest_logit']:7.2f} {figures['least_entropy']:8.3f} {figures['processor_seconds']:7.1f}",
            flush=True,
        )
    for mark in marks(found):
        report.add(**mark)
        print(
            f"{mark['name']:60s} {mark['value']:7.3f}  {mark['wanted']:8s} {'yes' if mark['holds'] else 'NO'}"
        )


BENCHMARK = Benchmark(__doc__, measure, options, short=["--steps", "8", "--scenes", "30", "--only", "drop"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
