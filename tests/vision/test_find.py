"""Photos are found by what they show: hidden things do not count, and the best photo is the one with most pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smerf.cli.main import main
from smerf.errors import UsageError
from smerf.pipeline.find import find
from smerf.pipeline.sight import depth_of, open_sight
from smerf.scene.example import example_camera, example_scene
from smerf.vision.find import photos_showing
from smerf.vision.lift import VoxelGrid, VoxelSet, lift, pack_keys, reduced_camera, unpack_keys
from tests.helpers.known_things import THINGS, write_things


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return write_things(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def sight(truth):
    return open_sight(truth.folder, quiet=True)


def number(name):
    return int(name.removesuffix(".png"))


def test_pixels_are_lifted_onto_what_they_show(truth, sight):
    place = sight.capture.training_from_source
    for index, photo in enumerate(sight.photos):
        points, pixels = photo.points()
        source = (points - place.translation) @ place.rotation / place.scale
        ids = truth.ids[index][pixels[:, 0], pixels[:, 1]]
        for number, (centre, radius) in enumerate(THINGS.values(), 1):
            away = np.linalg.norm(source[ids == number] - centre, axis=-1)
            assert np.abs(away - radius).max(initial=0.0) < 2e-3
        assert np.abs(source[ids == len(THINGS) + 1, 2]).max() < 2e-3


@pytest.mark.parametrize("name", THINGS)
def test_a_region_of_one_photo_finds_the_photos_with_most_of_it(truth, sight, name):
    counts = truth.pixels(name)
    best = int(counts.argmax())
    rows, columns = np.nonzero(truth.ids[best] == list(THINGS).index(name) + 1)
    box = f"{columns.min()},{rows.min()},{columns.max() + 1},{rows.max() + 1}"
    matches = find(sight, f"{best:03d}.png:{box}", top=None).matches
    # The far side of a thing is another place: photos of that alone are not found.
    shown = [number(match.photo) for match in matches]
    assert best in shown[:3] and len(shown) > len(counts) // 2
    assert all(counts[index] > 0 for index in shown) and counts[shown[0]] >= 0.7 * counts.max()


def test_a_point_counts_only_where_nothing_hides_it(truth, sight):
    centre, radius = THINGS["vase"]
    top = f"{centre[0]},{centre[1]},{centre[2] + radius}"
    matches = find(sight, top, top=None).matches
    assert matches and matches[0].share > 0
    # A point within the vase is nowhere near what photos show.
    assert find(sight, ",".join(map(str, centre)), top=None).matches == []


def test_equal_shares_prefer_the_middle_of_the_photo(sight):
    photo = sight.photos[0]
    points, pixels = photo.points()
    middle = np.abs(pixels - [36, 48]).sum(-1).argmin()
    edge = pixels[:, 1].argmin()
    for chosen in (middle, edge):
        match = photos_showing([photo], VoxelSet(sight.grid, sight.grid.keys(points[[chosen]])), 1)[0]
        left, top, right, bottom = match.box
        row, column = pixels[chosen]
        assert left <= (column + 0.5) / 96 <= right and top <= (row + 0.5) / 72 <= bottom


def test_memory_is_that_of_one_photo(sight):
    alive, most = 0, 0

    class Photo:
        def __init__(self, photo):
            self.name, self.camera, self._read = photo.name, photo.camera, photo.read

        def points(self):
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            try:
                return lift(self.camera, self._read())
            finally:
                alive -= 1

    many = (Photo(sight.photos[index % len(sight.photos)]) for index in range(100))
    wanted = VoxelSet(sight.grid, sight.grid.keys(sight.photos[0].points()[0]))
    assert len(photos_showing(many, wanted, None)) == 100 and most == 1


def test_voxel_keys_survive_packing():
    keys = np.array([[0, 0, 0], [-5, 3, 1 << 19], [-(1 << 20), (1 << 20) - 1, -1]], np.int32)
    assert np.array_equal(unpack_keys(pack_keys(keys)), keys)
    grid = VoxelGrid(np.zeros(3), 0.5)
    voxels = VoxelSet(grid, grid.keys(np.array([[0.2, 0.2, 0.2], [-0.1, 0.0, 0.0]])))
    assert voxels.holds(np.array([[0.4, 0.4, 0.4], [0.6, 0, 0], [-0.4, 0.1, 0.1]])).tolist() == [
        True,
        False,
        True,
    ]
    assert not VoxelSet(grid, np.zeros((0, 3), np.int32)).holds(np.zeros((2, 3))).any()


def test_a_reduced_camera_sees_the_same(sight):
    camera = sight.capture.frames[0].camera
    small = reduced_camera(camera, 24)
    assert (small.intrinsics.width, small.intrinsics.height) == (24, 18)
    assert small.intrinsics.fx / 24 == pytest.approx(camera.intrinsics.fx / camera.intrinsics.width)
    assert reduced_camera(camera, 500).intrinsics == camera.intrinsics


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("000.png:5,5,4,9", "must lie within its 96x72 pixels"),
        ("900.png:1,1,4,9", "is no photo of"),
        ("000.png:0,0,1,1", "shows nothing at a known depth"),
    ],
)
def test_questions_that_cannot_be_answered(sight, query, message):
    with pytest.raises(UsageError, match=message):
        find(sight, query)


def test_the_command_prints_photos(truth, capsys):
    assert main(["find", str(truth.folder), "0.35,0,0.24", "--json", "--top", "3", "-q"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["photos"]) == 3 and answer["how"].startswith("by depth")
    assert main(["find", str(truth.folder), "9,9,9", "-q"]) == 0
    assert "no photo shows it" in capsys.readouterr().out


def test_depth_of_a_baked_scene_lies_on_its_surfaces():
    camera = example_camera(64, 48)
    depth = depth_of(example_scene(64), camera)
    points, _ = lift(camera, depth)
    # The floor's upper side is at -0.62, the ceiling's lower at 0.72; interpolation thickens both by up to two texels.
    texel = 4.0 / 64
    assert points[:, 2].min() > -0.62 - texel and points[:, 2].max() < 0.72 + texel
    floor = points[(np.abs(points[:, 0]) < 0.8) & (points[:, 2] < -0.5), 2]
    assert len(floor) > 10 and -texel / 2 <= float(np.median(floor)) + 0.62 < 2 * texel
    # Rays into the open meet nothing.
    assert (depth == 0).any() and depth.dtype == np.float32
