"""Edits: what they change, and only that."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from smerf.capture.types import Camera
from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import look_at, pose_and_fov, view_rays
from smerf.objects.editing.operations import apply_operations, rigid_transform
from smerf.objects.editing.rendering import (
    SlotRenderer,
    arc_cameras,
    background_slot,
    paint_masks,
    palette,
    turntable,
)
from smerf.objects.editing.slots import SavedSlots, save_slots
from smerf.objects.model.store import load_model, model_digest, shipped_model
from tests.helpers.tiny_objects import encode, tiny_model, tiny_scenes

KINDS = ["mixer", "broadcast"]


def moved_camera(camera, motion):
    pose = np.vstack([camera.world_from_cam, [0.0, 0.0, 0.0, 1.0]])
    return Camera(camera.intrinsics, (motion.numpy() @ pose)[:3])


def saved_slots(model, scenes, *operations):
    return SavedSlots(
        encode(model, scenes)[0], (scenes.camera(0, 0),), model_digest(model), "m.safetensors", operations
    )


def render(model, saved, view=0, folder=None, **options):
    renderer = SlotRenderer(model, saved, *([folder] if folder else []))
    return renderer.render(tiny_scenes(1).camera(0, view), (12, 16), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_no_edit_draws_what_the_model_sees(kind):
    model, scenes = tiny_model(f"decoder.kind={kind}"), tiny_scenes(1)
    rendered = render(model, saved_slots(model, scenes))
    rays = view_rays(scenes.world_from_cam[0, 0], scenes.fov_x[0, 0], (12, 16))
    with torch.no_grad():
        expected = model.decode(model.prepare(encode(model, scenes)), *(x.reshape(1, -1, 3) for x in rays))
    assert torch.allclose(rendered.colour.flatten(0, 1), expected.colour[0], atol=1e-6)
    assert rendered.mask.shape == (12, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_a_removed_slot_owns_nothing_and_the_others_share_its_place(kind):
    model, scenes = tiny_model(f"decoder.kind={kind}"), tiny_scenes(1)
    before = render(model, saved_slots(model, scenes))
    saved = saved_slots(model, scenes, {"op": "remove", "slot": 2})
    after = render(model, saved)
    assert after.weights.shape[-1] == 3 and torch.allclose(
        after.weights.sum(-1), torch.ones(12, 16), atol=1e-5
    )
    # The rest is renormalised, and rays of which the slot had no share stay as they were.
    rest = before.weights[..., [0, 2, 3]]
    assert torch.allclose(after.weights, rest / rest.sum(-1, keepdim=True), atol=1e-5)
    change = (after.colour - before.colour).abs().amax(-1)
    assert (change <= 3.0 * before.weights[..., 1] + 1e-5).all() and change.max() > 0


def test_a_removed_slot_stays_away_while_another_moves():
    model, scenes = tiny_model(), tiny_scenes(1)
    move = {"op": "move", "slot": 4, "translate": [0.5, 0.0, 0.0]}
    moved = render(model, saved_slots(model, scenes, move))
    after = render(model, saved_slots(model, scenes, move, {"op": "remove", "slot": 1}), layers=True)
    rest = moved.weights[..., 1:]
    assert torch.allclose(after.weights, rest / rest.sum(-1, keepdim=True), atol=1e-5)
    assert after.layers.shape == (12, 16, 3, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_moving_every_slot_is_moving_the_camera_back(kind):
    model, scenes = tiny_model(f"decoder.kind={kind}"), tiny_scenes(1)
    move = {"op": "move", "translate": [0.7, -0.4, 0.1], "turn": 25.0, "centre": [0.5, 0.0, 0.0]}
    saved = saved_slots(model, scenes, *({**move, "slot": slot} for slot in range(1, 5)))
    moved = render(model, saved)
    inverse = torch.linalg.inv(rigid_transform(move["translate"], 25.0, move["centre"]))
    camera = moved_camera(scenes.camera(0, 0), inverse)
    plain = SlotRenderer(model, saved_slots(model, scenes)).render(camera, (12, 16))
    assert torch.allclose(moved.colour, plain.colour, atol=1e-4)


def test_moving_one_slot_of_a_broadcast_scene_moves_its_logit_alone():
    model, scenes = tiny_model("decoder.kind=broadcast"), tiny_scenes(1)
    rest = render(model, saved_slots(model, scenes)).weights
    moved = render(
        model, saved_slots(model, scenes, {"op": "move", "slot": 3, "translate": [1.0, 0.0, 0.0]})
    ).weights
    assert not torch.allclose(rest[..., 2], moved[..., 2], atol=1e-3)
    others = [0, 1, 3]
    share = rest[..., others] / rest[..., others].sum(-1, keepdim=True)
    again = moved[..., others] / moved[..., others].sum(-1, keepdim=True)
    assert torch.allclose(share, again, atol=1e-4)


def test_moves_add_up_and_can_be_taken_back():
    model, scenes = tiny_model(), tiny_scenes(1)
    there, back = ({"op": "move", "slot": 2, "translate": [s, 0.0, 0.0]} for s in (1.0, -1.0))
    twice = apply_operations(saved_slots(model, scenes, there, there), None)
    assert twice.motions[1, :3, 3].tolist() == [2.0, 0.0, 0.0] and twice.group.tolist() == [0, 1, 0, 0]
    none = apply_operations(saved_slots(model, scenes, there, back), None)
    assert not none.is_moved


def test_a_slot_is_copied_from_another_scene(tmp_path):
    model = tiny_model()
    one, other = saved_slots(model, tiny_scenes(1)), saved_slots(model, tiny_scenes(1, seed=9))
    save_slots(other, tmp_path / "other.safetensors")
    copy = {"op": "copy", "from": "other.safetensors", "slot": 4}
    scene = apply_operations(
        dataclasses.replace(one, operations=(copy, {"op": "remove", "slot": 1})), tmp_path
    )
    assert scene.numbers == (2, 3, 4, 5)
    assert torch.equal(scene.slots[-1], other.slots[3]) and torch.equal(scene.slots[0], one.slots[1])
    foreign = dataclasses.replace(other, model="another")
    save_slots(foreign, tmp_path / "other.safetensors")
    with pytest.raises(InvalidDataError, match="another model"):
        apply_operations(dataclasses.replace(one, operations=(copy,)), tmp_path)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "paint", "slot": 1}, "remove, move, copy"),
        ({"op": "remove"}, "slot must be given"),
        ({"op": "remove", "slot": 5}, "no slot 5"),
        ({"op": "remove", "slot": 0}, "number from 1"),
        ({"op": "remove", "slot": 1.5}, "number from 1"),
        ({"op": "move", "slot": 1, "translate": [1, 2]}, "three numbers"),
        ({"op": "move", "slot": 1, "turn": float("nan")}, "degrees"),
        ({"op": "remove", "slot": 1, "by": 2}, "takes slot"),
        ("remove 1", "is not one of"),
    ],
)
def test_operations_that_make_no_sense_are_refused(operation, words):
    model = tiny_model()
    with pytest.raises(UsageError, match=words):
        apply_operations(saved_slots(model, tiny_scenes(1), operation), None)


def test_a_scene_keeps_one_slot_and_no_slot_goes_twice():
    model, scenes = tiny_model(), tiny_scenes(1)
    with pytest.raises(UsageError, match="every slot"):
        apply_operations(
            saved_slots(model, scenes, *({"op": "remove", "slot": s} for s in range(1, 5))), None
        )
    with pytest.raises(UsageError, match="removed before"):
        apply_operations(saved_slots(model, scenes, *({"op": "remove", "slot": 1} for _ in range(2))), None)


def test_slots_of_another_model_are_refused():
    scenes = tiny_scenes(1)
    with pytest.raises(InvalidDataError, match="--model"):
        SlotRenderer(tiny_model(seed=1), saved_slots(tiny_model(), scenes))


def test_the_reference_frame_draws_the_same_view_wherever_the_world_is():
    model = tiny_model("encoder.posed=false", "encoder.positions=[4,4]", "frame=reference")
    scenes = tiny_scenes(1)
    saved = saved_slots(model, scenes)
    rendered = render(model, saved, view=1)
    motion = rigid_transform([3.0, -1.0, 0.5], 60.0)
    first, second = (moved_camera(scenes.camera(0, view), motion) for view in (0, 1))
    again = SlotRenderer(model, dataclasses.replace(saved, cameras=(first,))).render(second, (12, 16))
    assert torch.allclose(rendered.colour, again.colour, atol=1e-4)


def test_cameras_go_round_and_to_and_fro():
    saved = saved_slots(tiny_model(), tiny_scenes(1))
    first = pose_and_fov(saved.cameras[0])[0][:, 3]
    places = torch.stack([pose_and_fov(camera)[0][:, 3] for camera in turntable(saved, 8)])
    assert torch.allclose(places[0], first, atol=1e-5)
    assert torch.allclose(places[4, :2], -first[:2], atol=1e-4)
    assert torch.allclose(places.norm(dim=1), first.norm().expand(8), atol=1e-4)
    swing = torch.stack([pose_and_fov(camera)[0][:, 3] for camera in arc_cameras(saved, 3, 30.0)])
    angles = torch.rad2deg(torch.atan2(swing[:, 1], swing[:, 0]))
    assert angles.tolist() == pytest.approx([-30.0, 0.0, 30.0], abs=1e-3)
    for camera in turntable(saved, 3):
        pose, fov_x = pose_and_fov(camera)
        assert torch.allclose(pose, look_at(pose[:, 3])) and fov_x == pytest.approx(math.pi / 4)


def test_masks_keep_the_colour_of_a_slot():
    model, scenes = tiny_model(), tiny_scenes(1)
    rendered = render(model, saved_slots(model, scenes, {"op": "remove", "slot": 1}), layers=True)
    assert rendered.layers.shape == (12, 16, 3, 3)
    painted = paint_masks(rendered, (1, 2, 3))
    assert (painted == palette(4)[rendered.mask.numpy() + 1]).all()
    assert len({tuple(colour) for colour in palette(12).tolist()}) == 12
    weights = torch.zeros(1, 4, 4, 2)
    weights[..., 0] = 1.0
    weights[:, 1:3, 1:3] = torch.tensor([0.0, 1.0])
    assert background_slot(weights) == 0


def test_removing_an_object_of_the_shipped_model_leaves_the_rest_alone():
    """The object goes, and pixels of which the removed slot owned nothing keep their colour."""
    model, record = load_model(shipped_model())
    scenes = tiny_scenes(1, seed=77, size=tuple(record["data"]["recipe"]["size"]))
    saved = saved_slots(model, scenes)
    camera = scenes.camera(0, 1)
    before = SlotRenderer(model, saved).render(camera)
    sizes = torch.bincount(scenes.seg[0, 1].flatten().long())
    inside = scenes.seg[0, 1] == 1 + int(sizes[1:].argmax())
    slot = int(before.weights[inside].mean(0).argmax())
    edited = dataclasses.replace(saved, operations=({"op": "remove", "slot": slot + 1},))
    after = SlotRenderer(model, edited).render(camera)
    change = (after.colour - before.colour).abs().amax(-1)
    assert change[inside].mean() > 0.1
    assert change[before.weights[..., slot] < 0.02].mean() < 0.02


def test_the_shipped_model_gives_the_slots_and_images_that_it_gave():
    model, _ = load_model(shipped_model())
    scenes = tiny_scenes(3, seed=5, size=(24, 24))
    move = {"op": "move", "slot": 2, "translate": [0.6, 0.1, 0.0], "turn": 20.0}
    saved = saved_slots(model, scenes, move, {"op": "remove", "slot": 3})
    first = [-0.7785, 1.25923, 1.81779, -0.93269, -1.06868, 0.04985]
    assert saved.slots[1, :6].tolist() == pytest.approx(first, abs=1e-3)
    view = SlotRenderer(model, saved).render(scenes.camera(0, 1), (40, 48))
    pixels = [[0.59726, 0.58782, 0.58076], [0.60579, 0.58556, 0.58294], [0.37801, 0.44542, 0.36787]]
    for (row, column), colour in zip(((20, 10), (25, 24), (30, 40)), pixels):
        assert view.colour[row, column].tolist() == pytest.approx(colour, abs=1e-3)
    assert view.colour.mean((0, 1)).tolist() == pytest.approx([0.52798, 0.5441, 0.51136], abs=1e-4)
    assert view.weights.mean((0, 1)).tolist() == pytest.approx([0.8394, 0.06, 0.1006], abs=1e-3)
