"""Which way is up in splats whose file does not say: turned copies of scenes of which it is known."""

import itertools

import numpy as np
import pytest

from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import plan_cameras
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.splat.upright import find_up
from tests.helpers import splat_files as files

USUAL = np.array([0.0, -1.0, 0.0])
TURNS = [
    turn
    for order in itertools.permutations(np.eye(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
    if np.linalg.det(turn := np.array(signs)[:, None] * np.array(order)) > 0.0
]
# From z up to y down.
FROM_Z = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def plane(low, high, count=1500, seed=0):
    """Points, normals and areas of a rectangle whose lowest and highest corners agree along one axis."""
    low, high = np.array(low, float), np.array(high, float)
    random, axis = np.random.default_rng(seed), int(np.argmin(high - low))
    normals = random.normal(0.0, 0.03, (count, 3))
    normals[:, axis] = 1.0
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    area = np.prod(np.delete(high - low, axis))
    return random.uniform(low, high, (count, 3)), normals, np.full(count, area / count)


def ball(centre, radius, count=1500):
    unit = np.random.default_rng(1).normal(size=(count, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.array(centre) + radius * unit, unit, np.full(count, 4.0 * np.pi * radius**2 / count)


def box(low, high, count=300):
    sides = []
    for axis, side in itertools.product(range(3), (low, high)):
        first, last = list(low), list(high)
        first[axis] = last[axis] = side[axis]
        sides.append(plane(first, last, count, 2 * axis))
    return together(*sides)


def together(*parts):
    return tuple(np.concatenate(each) for each in zip(*parts))


GROUND = plane((-2, -2, 0), (2, 2, 0))
TABLE = together(
    box((-0.75, -0.45, 0.7), (0.75, 0.45, 0.74)),
    *(
        box((x - 0.03, y - 0.03, 0.0), (x + 0.03, y + 0.03, 0.7), 30)
        for x in (-0.7, 0.7)
        for y in (-0.4, 0.4)
    ),
)
ROOM = together(
    box((0, 0, 0), (5, 4, 2.5)), box((1, 1, 0), (2, 2, 0.8), 100), box((3, 0.2, 0), (4.5, 1, 0.5), 100),
    box((0.1, 2.5, 0), (0.6, 3.8, 1.9), 100),
)  # fmt: skip
TELLING = {
    "ball on the ground": together(GROUND, ball((0, 0, 0.6), 0.5)),
    "table on the ground": together(GROUND, TABLE),
    "tree on the ground": together(GROUND, ball((0, 0, 3), 1), box((-0.1, -0.1, 0), (0.1, 0.1, 2), 50)),
    "street": together(
        plane((-10, -3, 0), (10, 3, 0)), plane((-10, 3, 0), (10, 3, 6)), plane((-10, -3, 0), (10, -3, 6))
    ),
    "car on the ground": together(
        GROUND, box((-1, -0.4, 0.2), (1, 0.4, 0.5)), box((-0.5, -0.4, 0.5), (0.5, 0.4, 0.8))
    ),
    "furnished room": ROOM,
}
UNTELLING = {
    "ball": ball((0, 0, 0), 1),
    "box": box((0, 0, 0), (1, 1, 1)),
    "tree": together(ball((0, 0, 3), 1), box((-0.1, -0.1, 0), (0.1, 0.1, 2), 50)),
    "table": TABLE,
    "wall": plane((-2, 0, -1), (2, 0, 1)),
    "front of a house": together(plane((-5, 0, 0), (5, 0, 6)), plane((-5, -4, 0), (5, 0, 0))),
    "empty room": box((0, 0, 0), (5, 4, 2.5)),
    "low house from the air": together(plane((-5, -5, 0), (5, 5, 0)), box((-1, -1, 0), (1, 1, 0.8))),
}


def share_upright(scene):
    """Return the share of all turned copies of a scene with z up that are found upright."""
    points, normals, areas = scene
    found = []
    for turn in TURNS:
        turned = turn @ FROM_Z
        up = find_up(points @ turned.T, normals @ turned.T, areas, USUAL).direction
        found.append(np.allclose(up, turn @ USUAL))
    return np.mean(found)


@pytest.mark.parametrize("name", TELLING)
def test_what_stands_on_something_is_upright_however_its_file_is_turned(name):
    assert share_upright(TELLING[name]) == 1.0


@pytest.mark.parametrize("name", [*UNTELLING, *TELLING])
def test_a_file_as_most_are_stays_as_it_is(name):
    points, normals, areas = (UNTELLING | TELLING)[name]
    found = find_up(points @ FROM_Z.T, normals @ FROM_Z.T, areas, USUAL)
    np.testing.assert_array_equal(found.direction, USUAL)


def splats_of(scene, turn):
    points, normals, areas = scene
    splats = files.random_splats(len(points), 0, 0)
    axes = np.argmax(np.abs(normals), 1)
    splats.means = (points @ turn.T).astype(np.float32)
    splats.quaternions[:], splats.opacities[:] = (1.0, 0.0, 0.0, 0.0), 0.9
    sizes = np.repeat(0.5 * np.log(areas)[:, None], 3, 1)
    sizes[np.arange(len(points)), np.argmax(np.abs(turn), 0)[axes]] -= 3.0
    splats.log_scales = sizes.astype(np.float32)
    return splats


@pytest.mark.parametrize("turn", [np.eye(3), FROM_Z, FROM_Z @ FROM_Z @ FROM_Z])
def test_a_room_whose_file_says_nothing_is_walked_through_upright(tmp_path, turn):
    path = tmp_path / "room.ply"
    path.write_bytes(files.ply(splats_of(ROOM, turn)))
    asset = open_asset(path, AssetOptions(focal=200.0))
    plan = plan_cameras(asset, AssetOptions(focal=200.0), 6, 24)
    np.testing.assert_allclose(asset.content().rotation[2], turn @ [0.0, 0.0, 1.0], atol=0.02)
    assert (
        ", walk (" in plan.said and "what stands on the floor" in plan.said and "--up overrule" in plan.said
    )
    assert "--up overrules it" in asset.facts()["up_from"]


def test_what_the_file_or_the_user_says_is_not_doubted(tmp_path):
    splats = splats_of(TELLING["ball on the ground"], np.eye(3))
    path = tmp_path / "scene.ply"
    path.write_bytes(files.ply_bytes(files.ply_columns(splats), ("Vertical axis: y",)))
    stated = open_asset(path)
    assert abs(stated.content().rotation[2][1]) > 0.8 and "says" in stated.up_from
    asked = open_asset(path, AssetOptions(up=(1.0, 0.0, 0.0)))
    assert asked.content().rotation[2][0] > 0.8 and asked.up_from == "as asked for"
