import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from smerf.capture import fingerprint, load_capture, pixel_rays, save_transforms
from smerf.capture.readers.sightings import read_sightings, write_sightings
from smerf.errors import InvalidDataError
from tests.helpers.capture_layouts import (
    FOCAL,
    HEIGHT,
    NAMES,
    OPENCV,
    POINTS,
    WIDTH,
    poses,
    transforms,
    write_colmap,
    write_images,
    write_llff,
    write_nerfstudio,
    write_synthetic,
)
from tests.helpers.mutation import mutate_bytes

NO_LENS = (0.0, 0.0, 0.0, 0.0)
PINHOLE = (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2)


def source_rays(capture, index=3):
    """Rays of one frame, in source space."""
    frame = sorted(capture.frames, key=lambda frame: frame.name)[index]
    origins, directions, radii = pixel_rays(frame.camera)
    similarity = capture.training_from_source
    origins = (origins - similarity.translation) @ similarity.rotation / similarity.scale
    return origins, directions @ similarity.rotation, radii


@pytest.mark.parametrize("sparse", ["sparse/0", "colmap/sparse/0", "sparse"])
@pytest.mark.parametrize("binary", [True, False])
def test_colmap_gives_the_rays_of_transforms_json(tmp_path, binary, sparse):
    expected = source_rays(load_capture(write_nerfstudio(tmp_path / "a")))
    capture = load_capture(write_colmap(tmp_path / "b", binary=binary, sparse=sparse))
    assert capture.kind == "colmap"
    for ours, theirs in zip(source_rays(capture), expected):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_llff_gives_the_rays_of_transforms_json(tmp_path):
    expected = source_rays(load_capture(write_nerfstudio(tmp_path / "a", transforms(NO_LENS))))
    capture = load_capture(write_llff(tmp_path / "b"))
    assert capture.kind == "llff"
    for ours, theirs in zip(source_rays(capture), expected):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_synthetic_gives_the_rays_of_transforms_json(tmp_path):
    expected = source_rays(load_capture(write_nerfstudio(tmp_path / "a", transforms(NO_LENS))))
    capture = load_capture(write_synthetic(tmp_path / "b"))
    frames = {frame.name: frame for frame in capture.frames}
    origins, directions, radii = pixel_rays(frames["train/r_3.png"].camera)
    np.testing.assert_allclose(origins / capture.training_from_source.scale, expected[0], atol=2e-6)
    np.testing.assert_allclose(directions, expected[1], atol=2e-6)
    np.testing.assert_allclose(radii, expected[2], atol=2e-6)


def test_synthetic_keeps_its_origin_and_axes_and_scales_its_bounds(tmp_path):
    capture = load_capture(write_synthetic(tmp_path))
    similarity = capture.training_from_source
    assert capture.kind == "nerf-synthetic"
    assert capture.bounded
    assert capture.background == "white"
    assert np.array_equal(similarity.rotation, np.eye(3))
    assert not similarity.translation.any()
    assert capture.near == pytest.approx(2 * similarity.scale)
    assert capture.far == pytest.approx(6 * similarity.scale)
    assert [frame.split for frame in capture.frames] == ["train"] * 8 + ["test"] * 2


def test_synthetic_validation_is_the_test_only_without_a_test_file(tmp_path):
    root = write_synthetic(tmp_path)
    held_out = (root / "transforms_test.json").read_text()
    (root / "transforms_val.json").write_text(held_out.replace("r_0", "r_1"))
    assert {frame.name for frame in load_capture(root).split("test")} == {"test/r_0.png", "test/r_1.png"}
    (root / "transforms_test.json").unlink()
    (root / "transforms_val.json").write_text(held_out)
    assert {frame.name for frame in load_capture(root).split("test")} == {"test/r_0.png", "test/r_1.png"}


def test_every_eighth_by_name_is_test(tmp_path):
    for root in (write_nerfstudio(tmp_path / "a"), write_colmap(tmp_path / "b"), write_llff(tmp_path / "c")):
        capture = load_capture(root)
        assert [frame.name for frame in capture.frames] == [f"{name}.png" for name in NAMES]
        assert [frame.name for frame in capture.split("test")] == ["IMG_00.png", "IMG_08.png"]


def test_a_stated_split_wins(tmp_path):
    names = [f"images/{name}.png" for name in NAMES]
    content = transforms(train_filenames=names[:6], val_filenames=names[6:7], test_filenames=names[7:9])
    capture = load_capture(write_nerfstudio(tmp_path / "a", content))
    assert [frame.name for frame in capture.split("test")] == ["IMG_07.png", "IMG_08.png"]
    assert len(capture.split("train")) == 6  # what no list names is not used, nor is validation
    content = transforms(train_filenames=names[:6], val_filenames=names[6:7])
    capture = load_capture(write_nerfstudio(tmp_path / "b", content))
    assert [frame.name for frame in capture.split("test")] == ["IMG_06.png"]
    root = write_colmap(tmp_path / "c")
    (root / "sparse/0/test.txt").write_text("IMG_04.png\nIMG_05\n")
    assert [frame.name for frame in load_capture(root).split("test")] == ["IMG_04.png", "IMG_05.png"]


@pytest.mark.parametrize(
    ("model", "params", "expected"),
    [
        ("SIMPLE_PINHOLE", (FOCAL, 12, 8), ("PINHOLE", ())),
        ("PINHOLE", PINHOLE, ("PINHOLE", ())),
        ("SIMPLE_RADIAL", (FOCAL, 12, 8, 0.1), ("OPENCV", (0.1, 0, 0, 0))),
        ("RADIAL", (FOCAL, 12, 8, 0.1, 0.2), ("OPENCV", (0.1, 0.2, 0, 0))),
        ("OPENCV", (*PINHOLE, *OPENCV), ("OPENCV", OPENCV)),
        ("OPENCV_FISHEYE", (*PINHOLE, 0.1, 0.2, 0.3, 0.4), ("OPENCV_FISHEYE", (0.1, 0.2, 0.3, 0.4))),
        ("FULL_OPENCV", (*PINHOLE, *range(1, 9)), ("FULL_OPENCV", tuple(range(1, 9)))),
    ],
)
@pytest.mark.parametrize("binary", [True, False])
def test_colmap_camera_models(tmp_path, model, params, expected, binary):
    capture = load_capture(write_colmap(tmp_path, binary=binary, model=model, params=params))
    lens = capture.frames[0].camera.intrinsics
    assert (lens.model, lens.distortion) == expected
    assert (lens.width, lens.height, lens.fx, lens.fy, lens.cx, lens.cy) == (WIDTH, HEIGHT, *PINHOLE)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.1, "k3": 0.3}, ("OPENCV_FISHEYE", (0.1, 0, 0.3, 0))),
        ({"is_fisheye": True, "k1": 0.1}, ("OPENCV_FISHEYE", (0.1, 0, 0, 0))),
        ({"k1": 0.1, "k3": 0.2}, ("FULL_OPENCV", (0.1, 0, 0, 0, 0.2, 0, 0, 0))),
        ({"distortion_params": [0.1, 0.2, 0, 0, 0.3, 0.4]}, ("OPENCV", (0.1, 0.2, 0.3, 0.4))),
        ({"camera_model": "PINHOLE"}, ("PINHOLE", ())),
    ],
)  # fmt: skip
def test_transforms_camera_models(tmp_path, keys, expected):
    content = {**transforms(), "k1": 0, "k2": 0, "p1": 0, "p2": 0, **keys}
    lens = load_capture(write_nerfstudio(tmp_path, content)).frames[0].camera.intrinsics
    assert (lens.model, lens.distortion) == expected


def test_a_field_of_view_stands_in_for_focal_lengths(tmp_path):
    content = transforms(NO_LENS)
    for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
        del content[key]
    content["camera_angle_x"] = 2 * np.arctan(0.5 * WIDTH / FOCAL)
    for frame in content["frames"]:
        frame["file_path"] = frame["file_path"].removesuffix(".png")
    lens = load_capture(write_nerfstudio(tmp_path, content)).frames[0].camera.intrinsics
    assert (lens.width, lens.height) == (WIDTH, HEIGHT)
    np.testing.assert_allclose((lens.fx, lens.fy, lens.cx, lens.cy), PINHOLE)


def test_lenses_of_single_frames(tmp_path):
    content = transforms(NO_LENS)
    for index, frame in enumerate(content["frames"]):
        frame["fl_x"] = 20.0 + index
    del content["fl_x"]
    capture = load_capture(write_nerfstudio(tmp_path / "a", content))
    assert [frame.camera.intrinsics.fx for frame in capture.frames] == [20.0 + index for index in range(10)]
    del content["frames"][4]["fl_x"], content["fl_y"]
    with pytest.raises(InvalidDataError, match=r"IMG_04.*focal"):
        load_capture(write_nerfstudio(tmp_path / "b", content))


def test_stated_bounds_are_in_source_units(tmp_path):
    capture = load_capture(write_nerfstudio(tmp_path, transforms(near=1.5, far=7.0, bounded=True)))
    scale = capture.training_from_source.scale
    assert capture.bounded
    assert (capture.near, capture.far) == (pytest.approx(1.5 * scale), pytest.approx(7.0 * scale))


def test_near_of_unbounded_captures(tmp_path):
    from_points = load_capture(write_colmap(tmp_path / "a"))
    scale = from_points.training_from_source.scale
    # The points fill a cube of half side 0.5 about 4.1 units in front of the cameras.
    assert 0.5 * 3.3 * scale < from_points.near < 0.5 * 3.9 * scale
    assert from_points.far == np.inf
    from_bounds = load_capture(write_llff(tmp_path / "b"))
    assert from_bounds.near == pytest.approx(0.5 * 2.0 * from_bounds.training_from_source.scale)
    root = write_nerfstudio(tmp_path / "c")
    focus = load_capture(root)
    assert focus.near == pytest.approx(0.2 * 4.12 * focus.training_from_source.scale, rel=0.03)
    assert load_capture(root, normalise="pca").near == 0.05


def test_points_are_in_training_space(tmp_path):
    capture = load_capture(write_colmap(tmp_path))
    similarity = capture.training_from_source
    back = (capture.points - similarity.translation) @ similarity.rotation / similarity.scale
    np.testing.assert_allclose(back, POINTS, atol=1e-12)


@pytest.mark.parametrize("binary", [True, False])
def test_photos_know_which_points_they_show(tmp_path, binary):
    capture = load_capture(write_colmap(tmp_path, binary))
    # In the text form every other photo lists none.
    assert [frame.sees.tolist() for frame in capture.frames] == [
        [7] if binary or index % 2 == 0 else [] for index in range(10)
    ]
    (tmp_path / "sparse/0" / f"points3D.{'bin' if binary else 'txt'}").unlink()
    assert all(not len(frame.sees) for frame in load_capture(tmp_path).frames)


def test_mutated_sightings_are_refused_or_read(tmp_path):
    path, rng = tmp_path / "sightings.npz", np.random.default_rng(4)
    write_sightings(path, {"a.png": np.arange(50), "b.png": np.arange(20)})
    whole, refused = path.read_bytes(), 0
    for _ in range(600):
        path.write_bytes(mutate_bytes(whole, rng))
        try:
            found = read_sightings(path, 50)
        except InvalidDataError:
            refused += 1
        else:
            assert all(0 <= point < 50 for points in found.values() for point in points)
    assert refused > 300


def test_points_keep_their_order_and_numbers_that_no_point_can_have_are_refused(tmp_path):
    path = write_colmap(tmp_path, binary=False) / "sparse/0/points3D.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[::-1]) + "\n")
    capture = load_capture(tmp_path)
    similarity = capture.training_from_source
    seen = capture.points[capture.frames[0].sees]
    back = (seen - similarity.translation) @ similarity.rotation / similarity.scale
    np.testing.assert_allclose(back, POINTS[7:8], atol=1e-12)
    assert capture.frames[0].sees.tolist() == [len(lines) - 1 - 7]
    path.write_text(f"{10**20} 0 0 0 1 2 3 0.5 1 0\n")
    with pytest.raises(InvalidDataError, match="points3D"):
        load_capture(tmp_path)


@pytest.mark.parametrize("fault", ["cut off", "of other points"])
def test_damaged_sightings_are_refused_with_their_name(tmp_path, fault):
    save_transforms(load_capture(write_colmap(tmp_path)), tmp_path / "transforms.json")
    path = tmp_path / "sightings.npz"
    if fault == "cut off":
        path.write_bytes(path.read_bytes()[:200])
    else:
        write_sightings(path, {f"{NAMES[0]}.png": np.array([150])})
    with pytest.raises(InvalidDataError, match=r"sightings\.npz.*remove sightings_path"):
        load_capture(tmp_path)


def test_written_transforms_load_as_the_same_capture(tmp_path):
    capture = load_capture(write_colmap(tmp_path / "a"), downscale=2)
    save_transforms(capture, tmp_path / "a" / "transforms.json")
    again = load_capture(tmp_path / "a", downscale=2)
    assert again.kind == "nerfstudio"
    assert [(frame.name, frame.split) for frame in again.frames] == [
        (frame.name, frame.split) for frame in capture.frames
    ]
    for ours, theirs in zip(again.frames, capture.frames):
        np.testing.assert_allclose(ours.camera.world_from_cam, theirs.camera.world_from_cam, atol=1e-12)
        assert ours.camera.intrinsics == theirs.camera.intrinsics
    np.testing.assert_allclose(again.points, capture.points, atol=1e-12)
    assert [frame.sees.tolist() for frame in again.frames] == [[7]] * 10
    assert (again.near, again.far) == (pytest.approx(capture.near), np.inf)
    source = json.loads((tmp_path / "a" / "transforms.json").read_text())["frames"]
    np.testing.assert_allclose(np.array(source[3]["transform_matrix"])[:3], poses()[3], atol=1e-12)


def test_transforms_written_elsewhere_keep_names_split_and_reduced_folders(tmp_path):
    root = write_colmap(tmp_path / "a")
    (root / "images_2").mkdir()
    for name in NAMES:
        Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(root / "images_2" / f"{name}.png")
    capture = load_capture(root)
    (tmp_path / "run").mkdir()
    save_transforms(capture, tmp_path / "run" / "capture.json")
    again = load_capture(tmp_path / "run" / "capture.json", downscale=2)
    assert [(frame.name, frame.split) for frame in again.frames] == [
        (frame.name, frame.split) for frame in capture.frames
    ]
    assert {frame.image_path.parent.name for frame in again.frames} == {"images_2"}


def test_missing_photos_are_left_out_with_one_warning(tmp_path, caplog):
    root = write_nerfstudio(tmp_path)
    for name in NAMES[1:8]:
        (root / "images" / f"{name}.png").unlink()
    with caplog.at_level(logging.WARNING, logger="smerf"):
        capture = load_capture(root)
    assert [frame.name for frame in capture.frames] == ["IMG_00.png", "IMG_08.png", "IMG_09.png"]
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "7 of 10" in message
    assert "IMG_01.png" in message
    assert "and 2 more" in message


def test_a_path_may_be_the_file(tmp_path):
    root = write_nerfstudio(tmp_path / "a")
    assert len(load_capture(root / "transforms.json").frames) == 10
    assert load_capture(write_synthetic(tmp_path / "b") / "transforms_train.json").kind == "nerf-synthetic"


def test_transforms_win_over_a_sparse_model(tmp_path):
    write_colmap(tmp_path)
    write_nerfstudio(tmp_path)
    write_images(tmp_path / "images")
    assert load_capture(tmp_path).kind == "nerfstudio"


def test_a_fingerprint_follows_what_training_sees(tmp_path):
    root = write_nerfstudio(tmp_path / "a")
    first = fingerprint(load_capture(root))
    shutil.copytree(root, tmp_path / "b")
    assert fingerprint(load_capture(tmp_path / "b")) == first
    assert fingerprint(load_capture(root, downscale=2)) != first
    content = json.loads((root / "transforms.json").read_text())
    content["frames"][0]["transform_matrix"][0][3] += 1e-3
    (root / "transforms.json").write_text(json.dumps(content))
    assert fingerprint(load_capture(root)) != first
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "b" / "images" / "IMG_00.png")
    assert fingerprint(load_capture(tmp_path / "b")) != first
