"""Generated scenes against analytic values, and sets on disk."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import view_rays
from smerf.objects.config import TrainingConfig
from smerf.objects.data.batches import local_contrast, sample_batch
from smerf.objects.data.generate import RECIPES, Recipe, generate_scenes, place_bodies
from smerf.objects.data.meshes import MESH_RECIPES, generate_mesh_scenes, random_object
from smerf.objects.data.raycast import BOX, CYLINDER, SPHERE, Bodies, Look, cast, shade
from smerf.objects.data.scenes import load_scenes, save_scenes
from tests.helpers.tiny_objects import tiny_scenes


def body(kind, centre=(0.0, 0.0, 1.0), half=(1.0, 1.0, 1.0), yaw=0.0):
    return Bodies(
        torch.tensor([[kind]]), torch.tensor([[centre]]), torch.tensor([[half]]), torch.tensor([[yaw]]),
        torch.tensor([[[1.0, 0.0, 0.0]]]),
    )  # fmt: skip


def ray(origin, direction):
    direction = torch.nn.functional.normalize(torch.tensor(direction), dim=0)
    return torch.tensor([[origin]]), direction[None, None]


@pytest.mark.parametrize(
    ("kind", "yaw", "origin", "direction", "distance"),
    [
        (SPHERE, 0.0, (5.0, 0.0, 1.0), (-1.0, 0.0, 0.0), 4.0),
        (SPHERE, 0.0, (0.0, 0.0, 6.0), (0.0, 0.0, -1.0), 4.0),
        (BOX, 0.0, (5.0, 0.5, 1.0), (-1.0, 0.0, 0.0), 4.0),
        (BOX, math.pi / 4, (5.0, 0.0, 1.0), (-1.0, 0.0, 0.0), 5.0 - math.sqrt(2.0)),
        (CYLINDER, 0.0, (5.0, 0.6, 1.0), (-1.0, 0.0, 0.0), 5.0 - 0.8),
        (CYLINDER, 0.0, (0.5, 0.0, 6.0), (0.0, 0.0, -1.0), 4.0),
    ],
)
def test_rays_meet_shapes_where_geometry_says(kind, yaw, origin, direction, distance):
    hit = cast(body(kind, yaw=yaw), *ray(origin, direction))
    assert hit.label.item() == 1 and hit.t.item() == pytest.approx(distance, abs=1e-5)


@pytest.mark.parametrize("kind", [SPHERE, BOX, CYLINDER])
def test_rays_that_miss_meet_the_floor_or_the_sky(kind):
    hit = cast(body(kind), *ray((3.0, 0.0, 4.0), (0.0, 0.0, -1.0)))
    assert hit.label.item() == 0 and hit.t.item() == pytest.approx(4.0)
    assert cast(body(kind), *ray((3.0, 0.0, 4.0), (0.0, 0.0, 1.0))).t.item() > 1e8


def test_the_shadow_lies_opposite_to_the_light():
    look = Look(
        torch.nn.functional.normalize(torch.tensor([[1.0, 0.0, 1.0]]), dim=1),
        torch.full((1, 3), 0.6),
        torch.ones(1, 3),
    )
    floor = []
    for x in (-2.0, 2.5):
        rays = ray((x, 0.0, 9.0), (0.0, 0.0, -1.0))
        bodies = body(SPHERE, half=(0.9, 0.9, 0.9))
        floor.append(shade(bodies, look, *rays, cast(bodies, *rays))[0, 0, 0].item())
    assert floor[0] == pytest.approx(0.6 * 0.35, abs=1e-3)
    assert floor[1] == pytest.approx(0.6 * (0.35 + 0.75 * math.sqrt(0.5)), abs=1e-3)


def test_depth_and_masks_agree_with_the_geometry():
    scenes = tiny_scenes(3)
    origins, directions = view_rays(scenes.world_from_cam, scenes.fov_x, scenes.size)
    point = origins + directions * scenes.depth.float()[..., None]
    floor = (scenes.seg == 0) & torch.isfinite(scenes.depth)
    # The floor lies at z = 0, and spheres of radius 0.9 stand on it; half precision leaves some hundredths.
    assert point[floor][:, 2].abs().max() < 0.05
    on_object = point[scenes.seg > 0]
    assert on_object[:, 2].min() > 0 and on_object[:, 2].max() < 1.85
    assert 0.1 < (scenes.seg > 0).float().mean() < 0.4


def test_a_seed_gives_the_same_scenes_again():
    first, second, other = tiny_scenes(3, 5), tiny_scenes(3, 5), tiny_scenes(3, 6)
    for name in ("rgb", "seg", "world_from_cam"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(first.rgb, other.rgb)


def test_objects_of_the_clevr_recipe_stand_apart_on_the_floor():
    recipe = RECIPES["clevr"]
    bodies = place_bodies(recipe, 50, torch.Generator().manual_seed(0))
    number = (bodies.kind >= 0).sum(1)
    assert number.min() >= 3 and number.max() <= 5 and set(bodies.kind.unique().tolist()) == {-1, 0, 1, 2}
    assert torch.allclose(bodies.centre[..., 2], bodies.half[..., 2])
    for i in range(50):
        centre = bodies.centre[i, : number[i]]
        radius = centre[:, 2]
        apart = torch.cdist(centre[:, :2], centre[:, :2]) - radius[:, None] - radius[None] - recipe.gap
        assert (apart + 99 * torch.eye(len(centre))).min() > -1e-5


def test_objects_that_cannot_fit_are_refused():
    with pytest.raises(UsageError, match="do not fit"):
        generate_scenes(Recipe(objects=(9, 9), spread=0.5, size=(8, 8)), 1)


def test_a_set_survives_the_disk(tmp_path, monkeypatch):
    import smerf.objects.data.scenes as module

    monkeypatch.setattr(module, "_SHARD", 2)
    scenes = tiny_scenes(5)
    save_scenes(scenes, tmp_path / "set")
    assert len(list((tmp_path / "set").glob("*.npz"))) == 3
    again = load_scenes(tmp_path / "set")
    for name in ("rgb", "seg", "world_from_cam", "fov_x", "depth"):
        assert torch.equal(getattr(scenes, name), getattr(again, name)), name
    assert again.source["recipe"]["name"] == "easy"
    assert len(load_scenes(tmp_path / "set", limit=3)) == 3


def test_damaged_sets_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"set\.json"):
        load_scenes(tmp_path)
    save_scenes(tiny_scenes(2), tmp_path)
    shard = tmp_path / "scenes_00000.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:200])
    with pytest.raises(InvalidDataError, match="scenes_00000"):
        load_scenes(tmp_path)
    arrays = dict(np.load(__import__("io").BytesIO(whole)))
    np.savez(shard, **{**arrays, "seg": arrays["seg"].astype(np.int32)})
    with pytest.raises(InvalidDataError, match="seg is int32"):
        load_scenes(tmp_path)
    shard.unlink()
    with pytest.raises(InvalidDataError, match="holds 0 scenes"):
        load_scenes(tmp_path)


def test_target_rays_see_the_pixels_of_the_images():
    scenes = tiny_scenes(4)
    training = TrainingConfig(input_views=1, rays=200, targets="others")
    batch = sample_batch(scenes, torch.tensor([2, 0]), training, torch.Generator().manual_seed(3))
    assert batch.images.shape == (2, 1, 16, 16, 3) and batch.colours.shape == (2, 200, 3)
    # Casting a target ray again gives its colour and its label.
    for row, scene in enumerate((2, 0)):
        origins, directions = view_rays(scenes.world_from_cam[scene], scenes.fov_x[scene], scenes.size)
        same = (directions[None] - batch.directions[row][:, None, None, None]).norm(dim=-1)
        same = same + (origins[None] - batch.origins[row][:, None, None, None]).norm(dim=-1)
        index = same.flatten(1).argmin(1)
        assert same.flatten(1).min(1).values.max() < 1e-5
        assert torch.equal(scenes.rgb[scene].flatten(0, 2)[index] / 255.0, batch.colours[row])
        assert torch.equal(scenes.seg[scene].flatten()[index].long(), batch.labels[row])
        # The input view is none of the targets.
        assert (batch.origins[row] - batch.world_from_cam[row, 0, :, 3]).norm(dim=-1).min() > 1e-3


def test_contrast_samples_rays_near_objects():
    scenes = tiny_scenes(8)
    contrast = local_contrast(scenes)
    fractions = []
    for fraction in (0.0, 1.0):
        training = TrainingConfig(input_views=1, rays=400, targets="all", contrast=fraction)
        generator = torch.Generator().manual_seed(0)
        batch = sample_batch(scenes, torch.arange(8), training, generator, contrast=contrast)
        fractions.append((batch.labels > 0).float().mean().item())
    assert fractions[1] > 1.5 * fractions[0]


def test_a_part_of_a_batch_is_that_part_of_the_whole():
    scenes = tiny_scenes(6)
    training = TrainingConfig(input_views=1, rays=40, targets="all", contrast=0.5)
    which, contrast = torch.tensor([4, 0, 2, 5]), local_contrast(scenes)
    generators = [torch.Generator().manual_seed(3) for _ in range(3)]
    whole, *parts = (
        sample_batch(scenes, which, training, generator, contrast=contrast, rows=rows)
        for generator, rows in zip(generators, (slice(None), slice(0, 2), slice(2, 4)))
    )
    for field in dataclasses.fields(whole):
        joined = torch.cat([getattr(part, field.name) for part in parts])
        assert torch.equal(joined, getattr(whole, field.name)), field.name
    assert all(torch.equal(generators[0].get_state(), other.get_state()) for other in generators[1:])


def test_too_few_views_are_refused():
    with pytest.raises(InvalidDataError, match="3 views"):
        training = TrainingConfig(input_views=3, rays=4, targets="others")
        sample_batch(tiny_scenes(2), torch.tensor([0]), training, torch.Generator())


def test_mesh_scenes_have_objects_masks_and_a_floor():
    recipe = dataclasses.replace(MESH_RECIPES["msn"], views=2, size=(32, 32), objects=(4, 5))
    scenes = generate_mesh_scenes(recipe, 2, seed=3, depth=True)
    again = generate_mesh_scenes(recipe, 1, seed=3)
    assert torch.equal(scenes.rgb[:1], again.rgb) and torch.equal(scenes.seg[:1], again.seg)
    assert scenes.seg.max() >= 3 and (scenes.seg == 0).float().mean() > 0.3
    origins, directions = view_rays(scenes.world_from_cam, scenes.fov_x, scenes.size)
    depth = scenes.depth.float()
    floor = (scenes.seg == 0) & (depth < 30)
    height = (origins + directions * depth[..., None])[..., 2]
    assert height[floor].abs().max() < 0.1
    assert height[scenes.seg > 0].min() > -0.1


def test_a_random_object_stands_on_the_floor():
    mesh = random_object(np.random.default_rng(0), 2.0)
    assert mesh.bounds[0, 2] == pytest.approx(0.0, abs=1e-9) and mesh.extents.max() == pytest.approx(2.0)
