"""What edits of slots change: removal against the object's own pixels, movement against the true moved scene.

    python benchmarks/object_edits.py [--model PATH] [--scenes 32] [--shift 0.6] [--sheet FILE.png] [--json FILE]

Scenes of the recipe that the model was trained on, of another seed. The slot of each true object is found by the
overlap of their masks. *Removal*: of the pixels that change by more than 0.05, the share that the slot owned, alone or
with a border of one pixel, and the share in which it had any part (0.1 or more); the mean change where it had none
(below 0.02); and the error against the true scene drawn without the object, in its own pixels. *Movement*: the slot
is moved along x and y, the true scene is drawn with the object moved likewise, and the masks of both are compared
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
import json
import os
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from smerf.engine.environment import describe_environment
from smerf.objects.data.generate import Recipe, place_bodies, place_cameras, render_bodies
from smerf.objects.data.raycast import Bodies, Look
from smerf.objects.data.scenes import SceneSet
from smerf.objects.editing.rendering import SlotRenderer, background_slot, paint_masks
from smerf.objects.editing.slots import SavedSlots, save_slots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import load_model, model_digest, shipped_model


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
    """Return colours (V, H, W, 3) and shares (V, H, W, K) of views."""
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
    """Return, for each view, the movement of a mask along the true movement, as a share of that."""
    wanted = middles(true_after) - middles(true_before)
    found = middles(after) - middles(before)
    share = (found * wanted).sum(-1) / wanted.square().sum(-1)
    usable = torch.isfinite(share) & (wanted.norm(dim=-1) > 0.5)
    usable &= (true_before.sum((1, 2)) > 5) & (true_after.sum((1, 2)) > 5)
    return share[usable].tolist()


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


def draw_sheet(model: Osrt, saved: SavedSlots, others: list[SavedSlots], scene: SceneSet, path: Path) -> None:
    """Draw the rows of the sheet at 96 pixels a side, with a line of text above each."""
    from PIL import Image, ImageDraw

    views = range(1, min(5, scene.views))
    cameras = [scene.camera(0, v) for v in views]
    side, gap, line = 96, 6, 18

    def row(operations: tuple = (), masks: bool = False) -> list[np.ndarray]:
        renderer = SlotRenderer(model, dataclasses.replace(saved, operations=operations), path.parent)
        drawn = [renderer.render(camera, (side, side)) for camera in cameras]
        if masks:
            background = background_slot(torch.stack([p.weights for p in drawn]))
            return [paint_masks(p, renderer.scene.numbers, background) for p in drawn]
        return [np.rint(255 * p.colour.clamp(0, 1).numpy()).astype(np.uint8) for p in drawn]

    plain = SlotRenderer(model, saved)
    weights = torch.stack([plain.render(camera).weights for camera in cameras])
    background = background_slot(weights)
    changes = []
    for slot in range(len(saved.slots)):
        gone = SlotRenderer(model, dataclasses.replace(saved, operations=({"op": "remove", "slot": slot},)))
        change = [gone.render(c).colour - plain.render(c).colour for c in cameras]
        changes.append(float(torch.stack(change).abs().sum()) if slot != background else -1.0)
    # The two slots whose absence changes most are objects.
    first, second = sorted(range(len(changes)), key=lambda slot: -changes[slot])[:2]
    beside = path.with_name(path.stem + "-other.safetensors")
    other, copied = farthest_object(model, saved, others, scene)
    save_slots(other, beside)
    truth = [
        np.asarray(Image.fromarray(scene.rgb[0, v].numpy()).resize((side, side), 0)) for v in (0, *views)
    ]
    rows = [
        ("input, and the true novel views", truth),
        ("novel views", row()),
        ("masks", row(masks=True)),
        (f"slot {first} removed", row(({"op": "remove", "slot": first},))),
        (f"slot {second} moved by 0.8", row(({"op": "move", "slot": second, "translate": [0.0, 0.8, 0.0]},))),
        ("a slot of another scene copied in", row(({"op": "copy", "from": beside.name, "slot": copied},))),
    ]
    sheet = Image.new("RGB", (5 * (side + gap) + gap, len(rows) * (side + line + gap)), (250, 250, 250))
    pen = ImageDraw.Draw(sheet)
    for index, (name, images) in enumerate(rows):
        top = index * (side + line + gap)
        pen.text((gap, top + 3), name, fill=(20, 20, 20))
        for column, image in enumerate(images):
            left = gap + (column + 5 - len(images)) * (side + gap)
            sheet.paste(Image.fromarray(image), (left, top + line))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    beside.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--shift", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model, record = load_model(args.model or shipped_model())
    values = record["data"]["recipe"]
    recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    inputs = model.config.training.input_views
    views = range(inputs, recipe.views)
    generator = torch.Generator().manual_seed(args.seed)
    began = time.perf_counter()
    own, near, part, elsewhere, filled, present = [], [], [], [], [], []
    still, unmoved, after, progress = [], [], [], []
    kept: list[tuple[SavedSlots, SceneSet]] = []
    for _ in range(args.scenes):
        bodies = place_bodies(recipe, 1, generator)
        cameras = place_cameras(recipe, 1, generator)
        look = plain_look(recipe, 1)
        scene = render_bodies(bodies, look, *cameras, recipe)
        given = slice(0, inputs)
        with torch.no_grad():
            slots = model.encode(scene.images(given), scene.world_from_cam[:, given], scene.fov_x[:, given])[
                0
            ]
        given_cameras = tuple(scene.camera(0, v) for v in range(inputs))
        saved = SavedSlots(slots, given_cameras, model_digest(model), "")
        kept.append((saved, scene))
        colour, weights = pictures(SlotRenderer(model, saved), scene, views)
        mask = weights.argmax(-1)
        truth = scene.seg[0, inputs:]
        for index in range(int((bodies.kind[0] >= 0).sum())):
            object_mask = truth == index + 1
            if object_mask.sum() < 10:
                continue
            slot = max(range(len(slots)), key=lambda k: iou(mask == k, object_mask))
            still.append(iou(mask == slot, object_mask))
            gone = dataclasses.replace(saved, operations=({"op": "remove", "slot": slot},))
            alone = pictures(SlotRenderer(model, gone), scene, views)[0]
            difference = (alone - colour).abs().amax(-1)
            change = difference > 0.05
            empty = render_bodies(without(bodies, index), look, *cameras, recipe).images(slice(inputs, None))[
                0
            ]
            filled.append(float((alone - empty).abs()[object_mask].mean()))
            present.append(float((colour - empty).abs()[object_mask].mean()))
            elsewhere.append(float(difference[weights[..., slot] < 0.02].mean()))
            if change.any():
                part.append(float((change & (weights[..., slot] >= 0.1)).sum() / change.sum()))
                own.append(float((change & (mask == slot)).sum() / change.sum()))
                near.append(float((change & grown(mask == slot)).sum() / change.sum()))
            # Towards the middle of the scene, where the model has seen objects stand.
            shift = torch.zeros(3)
            shift[:2] = -args.shift * torch.nn.functional.normalize(bodies.centre[0, index, :2], dim=0)
            operation = {"op": "move", "slot": slot, "translate": shift.tolist()}
            edited = dataclasses.replace(saved, operations=(operation,))
            new_colour, new_weights = pictures(SlotRenderer(model, edited), scene, views)
            new_mask = new_weights.argmax(-1) == slot
            new_truth = (
                render_bodies(moved(bodies, index, shift), look, *cameras, recipe).seg[0, inputs:]
                == index + 1
            )
            after.append(iou(new_mask, new_truth))
            unmoved.append(iou(mask == slot, new_truth))
            new_change = (alone - new_colour).abs().amax(-1) > 0.05
            moves = progress_along(change & (mask == slot), new_change & new_mask, object_mask, new_truth)
            progress.extend(moves)

    if args.sheet:
        draw_sheet(model, kept[0][0], [each for each, _ in kept[1:]], kept[0][1], args.sheet)

    def mean(values: list) -> float:
        return sum(values) / max(len(values), 1)

    results = {
        "removal: changed pixels that the slot owned": mean(own),
        "removal: the same with a border of one pixel": mean(near),
        "removal: changed pixels in which it had a part": mean(part),
        "removal: mean change of pixels in which it had none": mean(elsewhere),
        "removal: error in the object's pixels, true scene without it": mean(filled),
        "the same without the removal": mean(present),
        "mask of the slot against the object, no edit (IoU)": mean(still),
        f"moved by {args.shift}: mask against the moved object (IoU)": mean(after),
        f"moved by {args.shift}: unmoved mask against the moved object (IoU)": mean(unmoved),
        f"moved by {args.shift}: mask's movement over the true one, median of views": median(progress),
        f"moved by {args.shift}: views where it is between 0.5 and 1.5": mean(
            [0.5 < x < 1.5 for x in progress]
        ),
    }
    print(
        f"{args.scenes} scenes, {len(still)} objects, recipe {recipe.name}, {time.perf_counter() - began:.0f} s"
    )
    for name, value in results.items():
        print(f"{name:62s} {value:6.3f}")
    if args.json:
        device = f"{describe_environment()['processor']}, {os.cpu_count()} CPUs"
        facts = {"scenes": args.scenes, "device": device, "versions": {"torch": torch.__version__}}
        args.json.write_text(
            json.dumps([{"name": n, "value": v, **facts} for n, v in results.items()], indent=1)
        )


if __name__ == "__main__":
    main()
