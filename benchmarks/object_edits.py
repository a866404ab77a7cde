"""What edits of slots change: removal against the object's own pixels, movement against the true moved scene.

    python -m benchmarks.object_edits [--model PATH] [--scenes 32] [--shift 0.6] [--sheet FILE.png] [--json FILE]

Scenes of the recipe that the model was trained on, of another seed. The slot of each true object is found by the
overlap of their masks. *Removal*: of the pixels that change by more than 0.05, the fraction that the slot owned, alone
or with a border of one pixel, and the fraction in which it had any part (0.1 or more); the mean change where it had
none (below 0.02); and the error against the true scene drawn without the object, in its own pixels. *Movement*: the
slot is moved along x and y, the true scene is drawn with the object moved likewise, and the masks of both are compared
(IoU) in views that were not given; beside it the IoU without any edit, and the IoU that one gets without moving the
mask. The mask alone: how far its middle goes against how far the true one goes, in pixels, in every view; 1 is right.
A slot's mask may hold floor that it draws as well, so both are taken over the pixels that it draws in another colour
than the scene without it.

--sheet draws the first scene: the input; novel views, their masks, and after three edits (an object removed, one
moved, one copied from another scene).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.common import Benchmark, Report
from smerf.objects.data.generate import Recipe, place_bodies, place_cameras, render_bodies
from smerf.objects.data.raycast import Bodies, Look
from smerf.objects.data.scenes import SceneSet
from smerf.objects.editing.rendering import SlotRenderer, background_slot, paint_masks
from smerf.objects.editing.slots import SavedSlots, save_slots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import load_model, model_digest, shipped_model

SIDE = 96
"""Pixels of an image's edge on the sheet."""


def plain_look(recipe: Recipe, count: int) -> Look:
    """Return the light of recipes without jitter."""
    light = torch.nn.functional.normalize(torch.tensor([[0.45, 0.35, 0.82]]), dim=-1).expand(count, 3)
    floor, sky = (torch.tensor([c]).expand(count, 3) for c in ([0.62, 0.61, 0.60], [0.75, 0.77, 0.80]))
    return Look(light, floor, sky, recipe.shadows, recipe.highlight)


def iou(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum().clamp_min(1))


def grown(mask: Tensor) -> Tensor:
    return torch.nn.functional.max_pool2d(mask[:, None].float(), 3, 1, 1)[:, 0] > 0


def moved(bodies: Bodies, index: int, shift: Tensor) -> Bodies:
    centre = bodies.centre.clone()
    centre[:, index] += shift
    return dataclasses.replace(bodies, centre=centre)


def without(bodies: Bodies, index: int) -> Bodies:
    kind = bodies.kind.clone()
    kind[:, index] = -1
    return dataclasses.replace(bodies, kind=kind)


def pictures(renderer: SlotRenderer, scene: SceneSet, views: range) -> tuple[Tensor, Tensor]:
    """Return colours (V, H, W, 3) and weights (V, H, W, K) of views."""
    drawn = [renderer.render(scene.camera(0, v)) for v in views]
    return torch.stack([p.colour for p in drawn]), torch.stack([p.weights for p in drawn])


def middles(mask: Tensor) -> Tensor:
    """Return the mean row and column (V, 2) of the masks of views; not finite where one is empty."""
    rows, columns = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in mask.shape[1:]), indexing="ij"
    )
    count = mask.sum((1, 2)).double()
    return torch.stack([(mask * x).sum((1, 2)) / count for x in (rows, columns)], -1)


def progress_along(before: Tensor, after: Tensor, true_before: Tensor, true_after: Tensor) -> list[float]:
    """Return, for each view, the movement of a mask along the true movement, as a fraction of that."""
    wanted = middles(true_after) - middles(true_before)
    found = middles(after) - middles(before)
    fraction = (found * wanted).sum(-1) / wanted.square().sum(-1)
    usable = torch.isfinite(fraction) & (wanted.norm(dim=-1) > 0.5)
    usable &= (true_before.sum((1, 2)) > 5) & (true_after.sum((1, 2)) > 5)
    return fraction[usable].tolist()


def farthest_object(
    model: Osrt, saved: SavedSlots, others: list[SavedSlots], scene: SceneSet
) -> tuple[SavedSlots, int]:
    """Return the scene and the slot of an object that covers least of this scene's objects in its first novel view."""
    camera = scene.camera(0, 1)

    def mask(which: SavedSlots) -> tuple[Tensor, int]:
        picture = SlotRenderer(model, which).render(camera)
        return picture.mask, background_slot(picture.weights[None])

    own, background = mask(saved)
    taken = grown((own != background)[None])[0]
    best = (others[0], 0, 2.0)
    for other in others:
        found, background = mask(other)
        for slot in range(len(other.slots)):
            covered = found == slot
            # A few pixels are an object that another slot hides, or none.
            if slot != background and covered.float().mean() > 0.03:
                overlap = float((covered & taken).sum() / covered.sum())
                best = min(best, (other, slot, overlap), key=lambda candidate: candidate[2])
    return best[:2]


def two_objects(model: Osrt, saved: SavedSlots, cameras: list) -> list[int]:
    """Return the two slots, not the background, whose absence changes most."""
    plain = SlotRenderer(model, saved)
    drawn = [plain.render(camera) for camera in cameras]
    background = background_slot(torch.stack([each.weights for each in drawn]))
    changes = []
    for slot in range(len(saved.slots)):
        gone = SlotRenderer(
            model, dataclasses.replace(saved, operations=({"op": "remove", "slot": slot + 1},))
        )
        change = [gone.render(c).colour - each.colour for c, each in zip(cameras, drawn, strict=True)]
        changes.append(float(torch.stack(change).abs().sum()) if slot != background else -1.0)
    return sorted(range(len(changes)), key=lambda slot: -changes[slot])[:2]


def sheet_rows(
    model: Osrt, saved: SavedSlots, others: list[SavedSlots], scene: SceneSet, folder: Path
) -> list[tuple[str, list[np.ndarray]]]:
    """Return the rows of the sheet: a title and images of ``SIDE`` pixels."""
    views = range(1, min(5, scene.views))
    cameras = [scene.camera(0, v) for v in views]

    def row(*operations: dict, masks: bool = False) -> list[np.ndarray]:
        renderer = SlotRenderer(model, dataclasses.replace(saved, operations=operations), folder)
        drawn = [renderer.render(camera, (SIDE, SIDE)) for camera in cameras]
        if masks:
            background = background_slot(torch.stack([p.weights for p in drawn]))
            return [paint_masks(p, renderer.scene.numbers, background) for p in drawn]
        return [np.rint(255 * p.colour.clamp(0, 1).numpy()).astype(np.uint8) for p in drawn]

    first, second = (slot + 1 for slot in two_objects(model, saved, cameras))
    other, copied = farthest_object(model, saved, others, scene)
    save_slots(other, folder / "other.safetensors")
    truth = [
        np.asarray(Image.fromarray(scene.rgb[0, v].numpy()).resize((SIDE, SIDE), 0)) for v in (0, *views)
    ]
    return [
        ("input, and the true novel views", truth),
        ("novel views", row()),
        ("masks", row(masks=True)),
        (f"slot {first} removed", row({"op": "remove", "slot": first})),
        (f"slot {second} moved by 0.8", row({"op": "move", "slot": second, "translate": [0.0, 0.8, 0.0]})),
        (
            "a slot of another scene copied in",
            row({"op": "copy", "from": "other.safetensors", "slot": copied + 1}),
        ),
    ]


def draw_sheet(rows: list[tuple[str, list[np.ndarray]]], path: Path) -> None:
    """Write the rows, with a line of text above each."""
    gap, line = 6, 18
    sheet = Image.new("RGB", (5 * (SIDE + gap) + gap, len(rows) * (SIDE + line + gap)), (250, 250, 250))
    pen = ImageDraw.Draw(sheet)
    for index, (name, images) in enumerate(rows):
        top = index * (SIDE + line + gap)
        pen.text((gap, top + 3), name, fill=(20, 20, 20))
        for column, image in enumerate(images):
            left = gap + (column + 5 - len(images)) * (SIDE + gap)
            sheet.paste(Image.fromarray(image), (left, top + line))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


class Scores:
    """The measurements of all objects, by what they measure."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def add(self, **values: float) -> None:
        """Keep one value of each."""
        for name, value in values.items():
            self.values[name].append(float(value))

    def mean(self, name: str) -> float:
        """Return the mean, 0 if there is none."""
        return sum(self.values[name]) / max(len(self.values[name]), 1)


@dataclasses.dataclass
class Edited:
    """A scene with its slots and its novel views as they are, and the object that is edited."""

    model: Osrt
    recipe: Recipe
    bodies: Bodies
    look: Look
    cameras: tuple[Tensor, ...]
    scene: SceneSet
    saved: SavedSlots
    views: range
    colour: Tensor
    weights: Tensor

    def edit(self, operation: dict) -> tuple[Tensor, Tensor]:
        """Return colours and weights of the novel views after an operation."""
        edited = dataclasses.replace(self.saved, operations=(operation,))
        return pictures(SlotRenderer(self.model, edited), self.scene, self.views)

    def truth(self, bodies: Bodies) -> SceneSet:
        """Return the true scene with other bodies."""
        return render_bodies(bodies, self.look, *self.cameras, self.recipe)


def make_scene(model: Osrt, recipe: Recipe, generator: torch.Generator) -> Edited:
    """Place a scene, encode its given views and render the others."""
    inputs = model.config.training.input_views
    bodies, cameras = place_bodies(recipe, 1, generator), place_cameras(recipe, 1, generator)
    look = plain_look(recipe, 1)
    scene = render_bodies(bodies, look, *cameras, recipe)
    given = slice(0, inputs)
    with torch.no_grad():
        slots = model.encode(scene.images(given), scene.world_from_cam[:, given], scene.fov_x[:, given])[0]
    saved = SavedSlots(slots, tuple(scene.camera(0, v) for v in range(inputs)), model_digest(model), "")
    views = range(inputs, recipe.views)
    colour, weights = pictures(SlotRenderer(model, saved), scene, views)
    return Edited(model, recipe, bodies, look, cameras, scene, saved, views, colour, weights)


def measure_object(edited: Edited, index: int, shift_length: float, scores: Scores) -> None:
    """Remove and move one object, unless it is hardly visible."""
    mask, weights, first = edited.weights.argmax(-1), edited.weights, edited.views.start
    true_mask = edited.scene.seg[0, first:] == index + 1
    if true_mask.sum() < 10:
        return
    slot = max(range(weights.shape[-1]), key=lambda k: iou(mask == k, true_mask))
    alone = edited.edit({"op": "remove", "slot": slot + 1})[0]
    difference = (alone - edited.colour).abs().amax(-1)
    change = difference > 0.05
    empty = edited.truth(without(edited.bodies, index)).images(slice(first, None))[0]
    scores.add(
        still=iou(mask == slot, true_mask),
        filled=(alone - empty).abs()[true_mask].mean(),
        present=(edited.colour - empty).abs()[true_mask].mean(),
        elsewhere=difference[weights[..., slot] < 0.02].mean(),
    )
    if change.any():
        scores.add(
            part=(change & (weights[..., slot] >= 0.1)).sum() / change.sum(),
            own=(change & (mask == slot)).sum() / change.sum(),
            near=(change & grown(mask == slot)).sum() / change.sum(),
        )
    # Towards the middle of the scene, where the model has seen objects stand.
    shift = torch.zeros(3)
    shift[:2] = -shift_length * torch.nn.functional.normalize(edited.bodies.centre[0, index, :2], dim=0)
    new_colour, new_weights = edited.edit({"op": "move", "slot": slot + 1, "translate": shift.tolist()})
    new_mask = new_weights.argmax(-1) == slot
    new_truth = edited.truth(moved(edited.bodies, index, shift)).seg[0, first:] == index + 1
    scores.add(after=iou(new_mask, new_truth), unmoved=iou(mask == slot, new_truth))
    new_change = (alone - new_colour).abs().amax(-1) > 0.05
    for progress in progress_along(change & (mask == slot), new_change & new_mask, true_mask, new_truth):
        scores.add(progress=progress, halfway=0.5 < progress < 1.5)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--shift", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--sheet", type=Path)


def measure(options: argparse.Namespace, report: Report) -> None:
    model, record = load_model(options.model or shipped_model())
    values = record["data"]["recipe"]
    recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    generator = torch.Generator().manual_seed(options.seed)
    scores, kept = Scores(), []
    for _ in range(options.scenes):
        edited = make_scene(model, recipe, generator)
        kept.append(edited)
        for index in range(int((edited.bodies.kind[0] >= 0).sum())):
            measure_object(edited, index, options.shift, scores)
    if options.sheet:
        with tempfile.TemporaryDirectory() as folder:
            others = [each.saved for each in kept[1:]]
            draw_sheet(sheet_rows(model, kept[0].saved, others, kept[0].scene, Path(folder)), options.sheet)
    moves = f"moved by {options.shift}"
    results = {
        "removal: changed pixels that the slot owned": scores.mean("own"),
        "removal: the same with a border of one pixel": scores.mean("near"),
        "removal: changed pixels in which it had a part": scores.mean("part"),
        "removal: mean change of pixels in which it had none": scores.mean("elsewhere"),
        "removal: error in the object's pixels, true scene without it": scores.mean("filled"),
        "the same without the removal": scores.mean("present"),
        "mask of the slot against the object, no edit (IoU)": scores.mean("still"),
        f"{moves}: mask against the moved object (IoU)": scores.mean("after"),
        f"{moves}: unmoved mask against the moved object (IoU)": scores.mean("unmoved"),
        f"{moves}: mask's movement over the true one, median of views": median(
            scores.values["progress"] or [0.0]
        ),
        f"{moves}: views where it is between 0.5 and 1.5": scores.mean("halfway"),
    }
    print(f"{options.scenes} scenes, {len(scores.values['still'])} objects, recipe {recipe.name}")
    for name, value in results.items():
        report.add(name, value=value, scenes=options.scenes)
        print(f"{name:62s} {value:6.3f}")


BENCHMARK = Benchmark(__doc__, measure, options, short=["--scenes", "2"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
