"""Captures whose numbers cannot be meant as they stand: lenses, bounds, outliers, exposure, depth."""

import json
import logging

import numpy as np
import pytest

from smerf.capture import load_capture
from smerf.capture.normalise import choose_similarity, find_outliers
from smerf.errors import InvalidDataError
from tests.helpers.capture_layouts import (
    FOCAL,
    HEIGHT,
    NAMES,
    WIDTH,
    poses,
    transforms,
    write_colmap,
    write_images,
    write_nerfstudio,
    write_synthetic,
)

PLAIN = (0.0, 0.0, 0.0, 0.0)


def refused(root, *parts):
    with pytest.raises(InvalidDataError) as caught:
        load_capture(root)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "equirectangular",
        "latlong",
        "orthographic",
        "ftheta_p0",
        "from_mitsuba",
        "normal_mts_args",
        "fix_premult",
    ],
)
@pytest.mark.parametrize("where", ["file", "frame"])
def test_keys_that_change_what_pixels_mean_are_refused(tmp_path, key, where):
    content = transforms(PLAIN)
    if where == "file":
        content[key] = True
    else:
        content["frames"][3][key] = True
    refused(write_nerfstudio(tmp_path / "a", content), "transforms.json", key, "not supported")
    content[key] = content["frames"][3][key] = False
    assert len(load_capture(write_nerfstudio(tmp_path / "b", content)).frames) == 10


def angle(focal, extent=WIDTH):
    return 2 * np.arctan(0.5 * extent / focal)


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        ({"fl_x": 22.0, "fl_y": 22.0}, {"camera_angle_x": angle(30)}, (30, 30, 12, 8)),
        ({"fl_x": 22.0, "fl_y": 22.0}, {"camera_angle_y": angle(30, HEIGHT)}, (30, 30, 12, 8)),
        ({"fl_x": 22.0, "fl_y": 22.0}, {"x_fov": np.degrees(angle(30))}, (30, 30, 12, 8)),
        ({"camera_angle_x": angle(22), "camera_angle_y": angle(22, HEIGHT)}, {"fl_x": 30.0}, (30, 30, 12, 8)),
        ({"camera_angle_x": angle(22), "camera_angle_y": angle(22, HEIGHT)}, {"camera_angle_x": angle(30)},
         (30, 30, 12, 8)),
        ({"fl_x": 22.0, "fl_y": 22.0}, {"fl_x": 30.0, "fl_y": 31.0}, (30, 31, 12, 8)),
        ({"fl_x": 22.0, "cx": 11.0, "cy": 7.0}, {"cx": 13.0}, (22, 22, 13, 7)),
    ],
)  # fmt: skip
def test_the_lens_of_a_frame_wins(tmp_path, shared, own, expected):
    content = transforms(PLAIN)
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del content[key]
    content |= shared
    content["frames"][3] |= own
    frames = load_capture(write_nerfstudio(tmp_path, content)).frames
    lens = frames[3].camera.intrinsics
    np.testing.assert_allclose((lens.fx, lens.fy, lens.cx, lens.cy), expected)
    assert frames[4].camera.intrinsics.fx == pytest.approx(22)


def test_a_frame_of_another_size_has_a_centre_of_its_own(tmp_path):
    content = transforms(PLAIN)
    content["frames"][3] |= {"w": WIDTH * 2, "h": HEIGHT * 2, "fl_x": 44.0, "fl_y": 44.0}
    root = write_nerfstudio(tmp_path, content)
    write_images(root / "images", names=NAMES)
    from PIL import Image

    Image.new("RGB", (WIDTH * 2, HEIGHT * 2)).save(root / "images" / "IMG_03.png")
    lens = load_capture(root).frames[3].camera.intrinsics
    assert (lens.cx, lens.cy) == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "values",
    [
        {"cx": HEIGHT / 2, "cy": WIDTH / 2, "h": 8, "w": 24},
        {"cx": 4 * WIDTH / 2, "cy": 4 * HEIGHT / 2, "fl_x": 4 * FOCAL, "fl_y": 4 * FOCAL},
        {"cx": WIDTH, "cy": HEIGHT, "fl_x": 2 * FOCAL, "fl_y": 2 * FOCAL},
        {"cx": -1.0},
        {"cy": 0.0},
    ],
)
@pytest.mark.parametrize("has_size", [True, False])
def test_a_principal_point_outside_the_image_is_refused(tmp_path, values, has_size):
    content = transforms(PLAIN) | values
    if not has_size:
        del content["w"], content["h"]
    root = write_nerfstudio(tmp_path, content)
    if "h" in values:
        from PIL import Image

        for name in NAMES:
            Image.new("RGB", (24, 8)).save(root / "images" / f"{name}.png")
    refused(root, "transforms.json", "principal point", "w and h")


@pytest.mark.parametrize(
    ("values", "is_odd"),
    [
        ({"cx": HEIGHT / 2, "cy": WIDTH / 2}, True),  # swapped
        ({"cx": 0.5, "cy": 0.5}, True),  # of a unit image
        ({"cx": 18.0, "cy": 12.0}, True),  # of photos one and a half times as large
        ({"cx": 12.9, "cy": 7.4}, False),
    ],
)
def test_a_principal_point_far_from_the_middle_is_worth_one_warning(tmp_path, values, is_odd, caplog):
    load_capture(write_nerfstudio(tmp_path, transforms(PLAIN) | values))
    assert len(caplog.records) == is_odd
    assert ("10 photos" in caplog.text and "swapped" in caplog.text) == is_odd


def test_a_principal_point_outside_the_image_of_a_model_is_refused(tmp_path):
    refused(write_colmap(tmp_path, model="PINHOLE", params=(FOCAL, FOCAL, 30, 8)), "cameras.bin", "(30, 8)")


@pytest.mark.parametrize("focal", [FOCAL / WIDTH, 1.0, 3.0])
def test_a_focal_length_in_other_units_is_refused(tmp_path, focal):
    content = transforms(PLAIN) | {"fl_x": focal, "fl_y": focal}
    refused(write_nerfstudio(tmp_path / "a", content), "transforms.json", "degrees", "millimetres")
    root = write_colmap(tmp_path / "b", model="PINHOLE", params=(focal, focal, WIDTH / 2, HEIGHT / 2))
    refused(root, "cameras.bin", "degrees")


@pytest.mark.parametrize("value", [0, 0.0, -2, -0.5, 1e9])
def test_impossible_exposures_are_refused_by_the_frame(tmp_path, value):
    content = transforms()
    for index, frame in enumerate(content["frames"]):
        frame["exposure"] = value if index == 2 else 1.0
    refused(write_nerfstudio(tmp_path, content), "transforms.json", "IMG_02.png", "exposure", "not stops")


def test_exposures_that_are_not_known_may_be_left_out(tmp_path):
    content = transforms()
    for index, frame in enumerate(content["frames"]):
        frame["exposure"] = None if index == 2 else 0.25
    frames = load_capture(write_nerfstudio(tmp_path, content)).frames
    assert [frame.exposure for frame in frames[1:4]] == [0.25, None, 0.25]


@pytest.mark.parametrize("key", ["depth_file_path", "depth_path"])
def test_depth_that_was_left_behind_is_worth_one_warning(tmp_path, key, caplog):
    content = transforms()
    for index, frame in enumerate(content["frames"]):
        frame[key] = f"depth\\{index}.png"
    root = write_nerfstudio(tmp_path, content)
    write_images(root / "depth", names=["0", "1"])
    frames = load_capture(root).frames
    assert [frame.depth_path is not None for frame in frames] == [True, True] + [False] * 8
    (record,) = caplog.records
    assert "8 depth files do not exist" in record.getMessage()


def placed(cameras, scale, offset=(0.0, 0.0, 0.0)):
    cameras = cameras.copy()
    cameras[:, :, 3] = cameras[:, :, 3] * scale + offset
    return cameras


def write_blender(root, cameras, **extra):
    """An own scene in the NeRF-synthetic layout, all cameras in the training file."""
    write_images(
        root / "train", channels=extra.pop("channels", 4), names=[f"r_{i}" for i in range(len(cameras))]
    )
    frames = [
        {"file_path": f"./train/r_{i}", "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]}
        for i, pose in enumerate(cameras)
    ]
    content = {"camera_angle_x": angle(FOCAL), "frames": frames, **extra}
    (root / "transforms_train.json").write_text(json.dumps(content))
    return root


def distances(capture):
    """Near, far and the distances of the cameras from the object, in training units."""
    centres = np.stack([frame.camera.world_from_cam[:, 3] for frame in capture.frames])
    return capture.near, capture.far, np.linalg.norm(centres, axis=1)


@pytest.mark.parametrize("scale", [0.01, 0.1, 0.5, 10, 1000])
@pytest.mark.parametrize("offset", [(0, 0, 0), (30, -20, 5)])
def test_an_own_rendered_set_of_any_scale_and_place_is_bounded(tmp_path, scale, offset, caplog):
    with caplog.at_level(logging.INFO, logger="smerf"):
        capture = load_capture(write_blender(tmp_path, placed(poses(), scale, np.array(offset) * scale)))
    near, far, reach = distances(capture)
    assert capture.bounded
    assert capture.background == "white"
    # The object may be half as large as it is far, in any direction.
    assert near <= 0.52 * reach.min()
    assert far >= 1.48 * reach.max()
    assert far - near < 1.5 * np.median(reach)
    assert "from the distance of the cameras" in caplog.text


def test_published_sets_keep_their_bounds(tmp_path):
    capture = load_capture(write_synthetic(tmp_path))
    scale = capture.training_from_source.scale
    assert (capture.near, capture.far) == (pytest.approx(2 * scale), pytest.approx(6 * scale))


def test_stated_bounds_of_a_rendered_set_win(tmp_path):
    capture = load_capture(write_blender(tmp_path, placed(poses(), 10), near=30.0, far=50.0))
    scale = capture.training_from_source.scale
    assert (capture.near, capture.far) == (pytest.approx(30 * scale), pytest.approx(50 * scale))


def test_cameras_at_different_distances_share_bounds(tmp_path):
    cameras = poses()
    cameras[::2, :, 3] *= 3
    near, far, reach = distances(load_capture(write_blender(tmp_path, placed(cameras, 10))))
    assert near < reach.min()
    assert far > reach.max()


def test_a_rendered_room_is_no_object(tmp_path, caplog):
    cameras = poses()
    cameras[:, :, 0] *= -1  # look outwards, from a small circle
    cameras[:, :, 2] *= -1
    capture = load_capture(write_blender(tmp_path, placed(cameras, 0.2), channels=3))
    assert not capture.bounded
    assert capture.far == np.inf
    assert "unbounded" in caplog.text


def moved(cameras, *outliers, by=5000.0):
    cameras = cameras.copy()
    for number, index in enumerate(outliers):
        cameras[index, number % 3, 3] += by
    return cameras


def outliers(cameras):
    return np.flatnonzero(find_outliers(choose_similarity(cameras, "auto")[0], cameras)).tolist()


@pytest.mark.parametrize("count", [4, 5, 8, 12, 30, 60, 200])
@pytest.mark.parametrize("by", [100.0, 5000.0, 1e8])
def test_a_camera_far_off_is_found_among_few_and_many(count, by):
    assert outliers(moved(poses(count), count // 2, by=by)) == [count // 2]
    assert outliers(poses(count)) == []


@pytest.mark.parametrize(("count", "chosen"), [(12, [1, 7]), (30, [3, 4, 5]), (100, [0, 50, 99])])
def test_several_cameras_far_off(count, chosen):
    assert outliers(moved(poses(count), *chosen)) == chosen
    far_apart = moved(moved(poses(count), *chosen[:1], by=200.0), *chosen[1:], by=1e6)
    assert outliers(far_apart) == chosen


def test_what_is_no_outlier():
    assert outliers(poses(3)) == []
    line = poses(40)
    line[:, :, 3] = np.linspace(0, 50, 40)[:, None] * (1, 0, 0)  # a walk
    assert outliers(line) == []
    overview = poses(30)
    overview[:5, :, 3] *= 6  # some views from further off
    assert outliers(overview) == []
    spot = poses(12)
    spot[:, :, 3] = (1, 2, 3)  # a panorama with a step to the side
    spot[5:7, 0, 3] += 0.5
    assert outliers(spot) == []
    spiral = poses(60)
    spiral[:, :, 3] *= np.geomspace(1, 300, 60)[:, None]  # no gap
    assert outliers(spiral) == []


@pytest.mark.parametrize("writer", [write_nerfstudio, write_colmap])
def test_an_outlier_of_ten_does_not_shrink_the_scene(tmp_path, writer, caplog, monkeypatch):
    cameras = moved(poses(), 6)
    monkeypatch.setattr("tests.helpers.capture_layouts.poses", lambda *_: cameras)
    capture = load_capture(writer(tmp_path))
    assert len(capture.frames) == 9
    assert "IMG_06.png" in caplog.text
    assert capture.training_from_source.scale == pytest.approx(0.25, rel=0.2)
