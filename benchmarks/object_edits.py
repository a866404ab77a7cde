"""What edits of slots change: removal against the object's own pixels, movement against the true moved scene.

    python benchmarks/object_edits.py [--model PATH] [--scenes 32] [--shift 0.6] [--json FILE]

Scenes of the recipe that the model was trained on, of another seed. The slot of each true object is found by the
overlap of their masks. *Removal*: of the pixels that change by more than 0.05, the share that the slot owned, alone or
with a border of one pixel. *Movement*: the slot is moved along x and y, the true scene is drawn with the object moved
likewise, and the masks of both are compared (IoU) in views that were not given; beside it the IoU without any edit,
and the IoU that one gets without moving the mask.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from pathlib import Path

import torch
from torch import Tensor

from smerf.objects.generate import Recipe, draw, place_bodies, place_cameras
from smerf.objects.raycast import Bodies, Look
from smerf.objects.rendering import SlotRenderer
from smerf.objects.scenes import SceneSet
from smerf.objects.store import SavedSlots, load_model, model_digest, shipped_model


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


def pictures(renderer: SlotRenderer, scene: SceneSet, views: range) -> tuple[Tensor, Tensor]:
    drawn = [
        renderer.draw(scene.cam_pos[0, v], scene.cam_R[0, v], scene.fov_x[0, v], scene.size) for v in views
    ]
    return torch.stack([p.colour for p in drawn]), torch.stack([p.mask for p in drawn])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--shift", type=float, default=0.6)
    parser.add_argument("--seed", type=int, default=4242)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model, record = load_model(args.model or shipped_model())
    values = record["data"]["recipe"]
    recipe = Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    inputs = model.config.training.input_views
    views = range(inputs, recipe.views)
    generator = torch.Generator().manual_seed(args.seed)
    began = time.perf_counter()
    own, near, still, unmoved, after = [], [], [], [], []
    for _ in range(args.scenes):
        bodies = place_bodies(recipe, 1, generator)
        cameras = place_cameras(recipe, 1, generator)
        look = plain_look(recipe, 1)
        scene = draw(bodies, look, *cameras, recipe)
        given = slice(0, inputs)
        with torch.no_grad():
            slots = model.encode(
                scene.images(given), scene.cam_pos[:, given], scene.cam_R[:, given], scene.fov_x[:, given]
            )[0]
        saved = SavedSlots(
            slots, scene.cam_pos[0, given], scene.cam_R[0, given], scene.fov_x[0, given], scene.size,
            model_digest(model), "",
        )  # fmt: skip
        colour, mask = pictures(SlotRenderer(model, saved), scene, views)
        truth = scene.seg[0, inputs:]
        for index in range(int((bodies.kind[0] >= 0).sum())):
            object_mask = truth == index + 1
            if object_mask.sum() < 10:
                continue
            slot = max(range(len(slots)), key=lambda k: iou(mask == k, object_mask))
            still.append(iou(mask == slot, object_mask))
            gone = dataclasses.replace(saved, operations=({"op": "remove", "slot": slot},))
            change = (pictures(SlotRenderer(model, gone), scene, views)[0] - colour).abs().amax(-1) > 0.05
            if change.any():
                own.append(float((change & (mask == slot)).sum() / change.sum()))
                near.append(float((change & grown(mask == slot)).sum() / change.sum()))
            # Towards the middle of the scene, where the model has seen objects stand.
            shift = torch.zeros(3)
            shift[:2] = -args.shift * torch.nn.functional.normalize(bodies.centre[0, index, :2], dim=0)
            operation = {"op": "move", "slot": slot, "translate": shift.tolist()}
            edited = dataclasses.replace(saved, operations=(operation,))
            new_mask = pictures(SlotRenderer(model, edited), scene, views)[1] == slot
            new_truth = draw(moved(bodies, index, shift), look, *cameras, recipe).seg[0, inputs:] == index + 1
            after.append(iou(new_mask, new_truth))
            unmoved.append(iou(mask == slot, new_truth))

    def mean(values: list[float]) -> float:
        return sum(values) / max(len(values), 1)

    results = {
        "removal: changed pixels that the slot owned": mean(own),
        "removal: the same with a border of one pixel": mean(near),
        "mask of the slot against the object, no edit (IoU)": mean(still),
        f"moved by {args.shift}: mask against the moved object (IoU)": mean(after),
        f"moved by {args.shift}: unmoved mask against the moved object (IoU)": mean(unmoved),
    }
    print(
        f"{args.scenes} scenes, {len(still)} objects, recipe {recipe.name}, {time.perf_counter() - began:.0f} s"
    )
    for name, value in results.items():
        print(f"{name:62s} {value:6.3f}")
    if args.json:
        device = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs"
        facts = {"scenes": args.scenes, "device": device, "versions": {"torch": torch.__version__}}
        args.json.write_text(
            json.dumps([{"name": n, "value": v, **facts} for n, v in results.items()], indent=1)
        )


if __name__ == "__main__":
    main()
