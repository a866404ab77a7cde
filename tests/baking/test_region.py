"""The known region of a baked scene: what photos see is known, the rest fades, floaters go, first views are covered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from smerf.baking import BakeConfig, bake
from smerf.baking.bake import lone_order, walk_order
from smerf.baking.known import Sightings, known_grid
from smerf.baking.starts import Look, calm_colours, choose_mode, choose_starts, known_share
from smerf.capture.synth import rigs
from smerf.capture.types import Camera, Frame, Intrinsics
from smerf.fields.ray_bank import camera_rays
from smerf.render.march import render_camera, render_depth
from smerf.scene import load_scene
from smerf.scene.region import Region, choose_start, contract, support
from smerf.scene.types import VIEWER_FROM_TRAINING
from tests.baking.test_bake import mark
from tests.helpers.imports import ROOT
from tests.helpers.toy_room import CONFIG, Room, look_at, make_capture, make_student

WHITE = ((1.0, 1.0, 1.0),) * 3
FLOATER = np.array([0.0, 0.0, 0.98])
"""Above the heads of the photos, none of which looks up."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A ring of photos that look at coloured balls, and its scene, baked without the region and with it."""
    folder = tmp_path_factory.mktemp("toy")
    capture, student = (
        make_capture(folder, count=12),
        make_student(Room(), replace(CONFIG, plane_resolution=256)),
    )
    mark(student, capture)
    # Something that distillation has left where no photo looks.
    occupied = student.submodels[0].occupied
    where = contract((FLOATER @ VIEWER_FROM_TRAINING.T)[None])[0]
    cell = tuple(((where + 2.0) / 4.0 * occupied.size).astype(int))
    assert not occupied.grid()[cell]
    for grid in (occupied._visible, occupied._surface):
        grid[cell] = True
    bare = bake(student, capture, BakeConfig(region=False, coarse_bytes=0), folder=folder / "bare")
    known = bake(student, capture, BakeConfig(coarse_bytes=0), folder=folder / "known")
    return capture, bare, known, cell


def look_away(eye):
    pose = look_at(eye)
    pose[:, [0, 2]] *= -1.0
    return pose


def is_occupied(scene, cell):
    x, y, z = cell
    byte = scene.submodel(0).occupancy[8][x >> 1, y >> 1, z >> 1]
    return bool(byte >> (4 * (x & 1) + 2 * (y & 1) + (z & 1)) & 1)


def at(scene, point, view):
    """How well photos support a point in training space, seen along a direction."""
    where = contract(np.array([point], float) @ VIEWER_FROM_TRAINING.T)
    toward = np.array(view, float) @ VIEWER_FROM_TRAINING.T
    return float(support(scene.submodel(0).known, where, toward / np.linalg.norm(toward))[0])


def test_what_photos_see_is_known_and_the_world_behind_it_is_not(toy):
    capture, _, scene, _ = toy
    for frame in capture.split("train")[::3]:
        depth = render_depth(scene, frame.camera)
        middle = depth.shape[0] // 2
        centre, toward = frame.camera.world_from_cam[:, 3], -frame.camera.world_from_cam[:, 2]
        assert at(scene, centre + depth[middle, middle] * toward, toward) > 0.9
    assert at(scene, (-20.0, 0.0, 0.0), (-1, 0, 0)) < 0.05
    assert at(scene, (0.0, 0.0, 20.0), (0, 0, 1)) < 0.05


def test_a_surface_is_known_from_the_side_that_photos_see():
    # Three photos on one side: along x, and 30 degrees to either hand.
    views = np.array([[1.0, 0.0, 0.0], [np.cos(0.5), np.sin(0.5), 0.0], [np.cos(0.5), -np.sin(0.5), 0.0]])
    sightings = Sightings(np.full((4, 4, 4), 3), np.broadcast_to(views.sum(0), (4, 4, 4, 3)), np.zeros(0))
    known = known_grid(sightings, 2)
    turns = np.radians([0.0, 45.0, 120.0, 180.0])
    view = np.stack([np.cos(turns), np.sin(turns), np.zeros(4)], -1)
    assert np.allclose(support(known, np.zeros((4, 3)), view), [1, 1, 0, 0], atol=1e-6)
    # Photos from all around know it from everywhere.
    around = Sightings(np.full((4, 4, 4), 3), np.zeros((4, 4, 4, 3)), np.zeros(0))
    assert np.allclose(support(known_grid(around, 2), np.zeros((4, 3)), view), 1.0, atol=1e-6)


def test_the_end_of_space_is_known_no_farther_than_photos_look():
    count = np.zeros((8, 8, 8), int)
    count[4, 4, 4] = count[0, 4, 4] = 3
    known = known_grid(Sightings(count, np.zeros((8, 8, 8, 3)), count), 3)[..., 3] / 255.0
    assert known[4, 4, 4] == 1.0 and known[4, 4, 5] > 0.7
    assert known[0, 4, 4] > 0.1 and known[0, 4, 5] < 0.1


def test_photos_look_as_without_the_region(toy):
    capture, bare, scene, _ = toy
    for frame in capture.split("train")[::4]:
        one, other = (
            render_camera(bare, frame.camera),
            render_camera(scene, frame.camera, near=bare.manifest.near),
        )
        assert np.abs(one - other).mean() < 0.02


def test_unknown_views_have_one_calm_colour(toy):
    _, _, scene, _ = toy
    lens = Intrinsics("PINHOLE", 24, 24, 20.0, 20.0, 12.0, 12.0)
    # Outward, above the heads of all photos.
    outside = render_camera(scene, Camera(lens, look_away([0.1, 0.8, 0.9])))
    assert np.abs(outside - np.array(scene.manifest.region.colours[0])).max() < 0.08
    # The grey photos of this capture: their colour is what unknown places fade into.
    assert np.allclose(scene.manifest.region.colours, 128 / 255, atol=0.01)


def test_what_is_unknown_is_bright_above_and_dark_below(tmp_path):
    frames = []
    for i in range(8):
        eye = np.zeros(3)
        pose = rigs.look_at(eye, np.array([np.cos(i), np.sin(i), 0.0]))[:3]
        lens = Intrinsics("PINHOLE", 32, 32, 16.0, 16.0, 16.0, 16.0)
        pixels = np.full((32, 32, 3), 128, np.uint8)
        pixels[:8], pixels[24:] = 230, 40
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        frames.append(Frame(f"{i}.png", tmp_path / f"{i}.png", Camera(lens, pose), "train"))
    ahead, above, below = np.array(calm_colours(frames, None)).mean(1)
    assert above > 0.8 > 0.6 > ahead > 0.4 > 0.25 > below
    assert np.ptp(calm_colours(frames, "white"), axis=0).max() == 0.0


def test_floaters_that_no_photo_confirms_are_pruned(toy):
    _, bare, scene, cell = toy
    assert is_occupied(bare, cell) and not is_occupied(scene, cell)


def test_first_views_are_covered_for_every_shape_of_canvas(toy):
    _, _, scene, _ = toy
    for width, height in ((96, 45), (60, 60), (30, 64)):
        pose, fov = choose_start(scene.manifest.region, width / height)
        focal = 0.5 * height / np.tan(np.radians(0.5 * fov))
        camera = Camera(Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2), pose)
        assert (known_share(scene, camera) > 0.5).mean() > 0.95
        assert fov > 25


@pytest.mark.parametrize("aspect", [0.46, 1.0, 2.2])
def test_a_lone_object_is_seen_whole_at_first(aspect):
    # A tall thing, a little aside of the axis: 0.1 to 0.3 across, 0.8 up and down.
    line = (np.arange(64) + 0.5 - 32) / 32 * 1.3
    across, up = np.meshgrid(line, line)
    solid = (np.abs(across - 0.2) < 0.1) & (np.abs(up) < 0.8)
    cut = np.abs(across) < 0.1
    looks = [
        Look(np.eye(4)[:3] + i, mask, mask, 1.0, 0.0, (0.4, 0.4), 0.0) for i, mask in enumerate((cut, solid))
    ]
    starts = choose_starts(looks, is_alone=True)
    region = Region(32, WHITE, "orbit", None, 0.0, starts)
    pose, fov = choose_start(region, aspect)
    half = np.tan(np.radians(0.5 * fov))
    # The view that cuts it off is not taken.
    assert pose[0, 3] == 1.0
    assert half > 0.8 and half * aspect > 0.3 and min(half / 0.8, half * aspect / 0.3) < 1.35


def test_a_walk_begins_where_a_level_photo_shows_much(tmp_path):
    rng, frames = np.random.default_rng(0), []
    for i in range(60):
        # Photo 18 shows most, from a tilted camera; 33 shows things; the others show walls.
        pixels = np.full((24, 24, 3), 200, np.uint8)
        if i in (18, 33):
            pixels[4:20, 4:20] = rng.integers(0, 2, (16, 16, 1)) * (250 if i == 18 else 200)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        eye = np.array([0.1 * i, 0.0, 1.0])
        pose = rigs.look_at(eye, eye + (0.0, 1.0 if i % 2 else -1.0, 0.0))[:3]
        if i == 18:
            pose[:, :2] = np.stack([pose[:, 1], -pose[:, 0]], axis=1)
        lens = Intrinsics("PINHOLE", 24, 24, 30.0, 30.0, 12.0, 12.0)
        frames.append(Frame(f"{i}.png", tmp_path / f"{i}.png", Camera(lens, pose), "train"))
    order = walk_order(frames, None)
    assert len(order) <= 24 and frames[order[0]].name == "33.png"


@pytest.mark.parametrize("aspect", [0.46, 1.8])
def test_a_walk_does_not_begin_before_a_wall(aspect):
    whole = np.ones((64, 64), bool)
    looks = [
        Look(np.eye(4)[:3] + i, whole, whole, distance, 0.0, (0.6, 0.6), 0.0)
        for i, distance in enumerate((0.3, 2.0, 1.0, 0.9, 1.1))
    ]
    start = choose_start(Region(32, WHITE, "walk", 1.6, 0.0, choose_starts(looks)), aspect)
    assert start[0][0, 3] == 1.0


def test_a_lone_object_is_seen_from_the_side_that_shows_most(tmp_path):
    rng, frames = np.random.default_rng(0), []
    for i in range(26):
        turn, far = 2.0 * np.pi * i / 26, 4.0 if i == 5 else 2.0
        # Photo 5 shows the front from twice as far; 4 and 6 show as much, from high above.
        eye = np.array([np.cos(turn), np.sin(turn), 3.0 if i in (4, 6) else 0.3])
        eye *= far / np.linalg.norm(eye)
        pixels = np.full((24, 24, 3), 255, np.uint8)
        half = 3 if i == 5 else 6
        part = pixels[12 - half : 12 + half, 12 - half : 12 + half]
        part[:] = 90
        if i in (4, 5, 6):
            part[:] = rng.integers(0, 2, (2 * half, 2 * half, 1)) * 255
        path = tmp_path / f"{i}.png"
        Image.fromarray(pixels).save(path)
        lens = Intrinsics("PINHOLE", 24, 24, 30.0, 30.0, 12.0, 12.0)
        frames.append(Frame(path.name, path, Camera(lens, look_at(eye)), "train"))
    assert frames[lone_order(frames, "white")[0]].name == "5.png"


def test_the_region_is_kept_on_disk(toy):
    _, _, scene, _ = toy
    again = load_scene(scene.root)
    assert again.manifest.region.cells == 32 and again.manifest.region.mode == "orbit"
    assert np.array_equal(again.submodel(0).known, scene.submodel(0).known)
    assert again.submodel(0).solid.any()
    assert {"sm_000/known_grid.png", "sm_000/solid_grid.png"} <= set(again.manifest.files)


def test_the_manifest_follows_its_schema(toy):
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed: pip install -e '.[dev]'"
    )
    _, _, scene, _ = toy
    schema = json.loads((ROOT / "docs" / "schema" / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads((scene.root / "manifest.json").read_text()))


def test_depths_are_where_half_of_the_light_is_spent(toy):
    capture, bare, _, _ = toy
    camera = capture.frames[2].camera
    rays = camera_rays(camera)
    answer = Room().query(rays)
    spent = answer.weights.cumsum(-1) >= 0.5
    expected = answer.edges.gather(1, spent.int().argmax(-1, keepdim=True))[:, 0] * rays.directions.norm(
        dim=-1
    )
    depth = render_depth(bare, camera).reshape(-1)
    assert np.median(np.abs(depth - expected.numpy())) < 0.06


def test_the_kind_of_capture_decides_how_visitors_move():
    ring = np.stack([look_at([np.cos(a), np.sin(a), 0.3]) for a in np.linspace(0, 5, 12)])
    outward = ring.copy()
    outward[:, :, [0, 2]] *= -1.0
    assert choose_mode(ring, 0.5) == "orbit"
    assert choose_mode(outward, 0.5) == "walk" and choose_mode(outward, None) == "fly"
