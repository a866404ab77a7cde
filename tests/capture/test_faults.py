import numpy as np
import pytest
from PIL import Image

from smerf.capture import load_capture, load_image
from smerf.errors import InvalidDataError, UsageError
from tests.helpers.capture_layouts import (
    FOCAL,
    HEIGHT,
    NAMES,
    WIDTH,
    transforms,
    write_colmap,
    write_llff,
    write_nerfstudio,
    write_synthetic,
)


def fault(root, *parts):
    """Load, expect the data to be refused, and expect every part in the message."""
    with pytest.raises(InvalidDataError) as caught:
        load_capture(root)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    return str(caught.value)


def test_nothing_there(tmp_path):
    fault(tmp_path / "absent", "absent", "no such folder")
    fault(tmp_path, "transforms.json", "smerf prepare finds them")


def test_no_photo_left(tmp_path):
    root = write_nerfstudio(tmp_path)
    for path in (root / "images").iterdir():
        path.unlink()
    fault(root, "transforms.json", "none of its 10 images", "IMG_00.png")


def test_broken_json(tmp_path):
    root = write_nerfstudio(tmp_path)
    text = (root / "transforms.json").read_text()
    (root / "transforms.json").write_text(text[: len(text) // 2])
    fault(root, "transforms.json", "not valid JSON")
    (root / "transforms.json").write_text("[1, 2]")
    fault(root, "transforms.json", "expected a JSON object")
    (root / "transforms.json").write_bytes(b"\xff\xfe\x00{")
    fault(root, "transforms.json", "cannot be read")


@pytest.mark.parametrize("key", ["file_path", "transform_matrix"])
def test_frame_without_a_needed_key(tmp_path, key):
    content = transforms()
    del content["frames"][3][key]
    fault(write_nerfstudio(tmp_path, content), "frame 3", key)


def test_transforms_without_frames_or_focal_length(tmp_path):
    content = transforms()
    del content["fl_x"], content["fl_y"]
    fault(write_nerfstudio(tmp_path / "a", content), "fl_x", "camera_angle_x")
    fault(write_nerfstudio(tmp_path / "b", {"fl_x": 1.0}), "frames")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda pose: pose.__setitem__((0, 0), np.nan), "NaN"),
        (lambda pose: pose.__setitem__((slice(3), 0), 0.0), "singular"),
        (lambda pose: pose.__imul__(2.0), "scaled"),
        (lambda pose: pose.__setitem__((slice(3), 1), -pose[:3, 1]), "mirrored"),
    ],
)
def test_bad_poses(tmp_path, change, part):
    content = transforms()
    pose = np.array(content["frames"][2]["transform_matrix"], float)
    change(pose)
    content["frames"][2]["transform_matrix"] = pose.tolist()
    fault(write_nerfstudio(tmp_path, content), "IMG_02.png", part)


def test_pose_of_wrong_shape(tmp_path):
    content = transforms()
    content["frames"][2]["transform_matrix"] = [[1, 0], [0, 1]]
    fault(write_nerfstudio(tmp_path / "a", content), "IMG_02.png", "(2, 2)")
    content["frames"][2]["transform_matrix"] = [[1, 0], [0]]
    fault(write_nerfstudio(tmp_path / "b", content), "IMG_02.png", "not a matrix")


def test_image_of_another_size(tmp_path):
    root = write_nerfstudio(tmp_path)
    # Half the size, same aspect: still an error, for nothing says that images/ holds reduced photos.
    Image.new("RGB", (WIDTH // 2, HEIGHT // 2)).save(root / "images" / "IMG_05.png")
    fault(root, "IMG_05.png", "12x8", "24x16", "images_2")


def test_damaged_image(tmp_path):
    root = write_nerfstudio(tmp_path)
    (root / "images" / "IMG_05.png").write_bytes(b"not a picture")
    fault(root, "IMG_05.png", "not a readable image")


def test_image_cut_short_fails_when_read(tmp_path):
    root = write_nerfstudio(tmp_path)
    path = root / "images" / "IMG_05.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InvalidDataError, match=r"IMG_05\.png"):
        load_image(load_capture(root).frames[5])


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_truncated_colmap(tmp_path, name):
    root = write_colmap(tmp_path)
    path = root / "sparse/0" / f"{name}.bin"
    data = path.read_bytes()
    for length in (4, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:length])
        fault(root, f"{name}.bin", "ends early")


def test_colmap_text_that_does_not_parse(tmp_path):
    root = write_colmap(tmp_path, binary=False)
    path = root / "sparse/0/images.txt"
    path.write_text(path.read_text().replace(" 1 IMG_04.png", " one IMG_04.png"))
    fault(root, "images.txt", "cannot read the line")


def test_colmap_without_cameras_or_with_a_foreign_camera(tmp_path):
    root = write_colmap(tmp_path, binary=False)
    path = root / "sparse/0/cameras.txt"
    path.write_text(path.read_text().replace("1 OPENCV", "2 OPENCV"))
    fault(root, "images.txt", "camera 1", "cameras.txt")
    path.unlink()
    fault(root, "cameras.bin or cameras.txt is missing")


@pytest.mark.parametrize("binary", [True, False])
def test_unsupported_camera_models_are_named(tmp_path, binary):
    root = write_colmap(tmp_path / "a", binary=binary, model="FOV", params=(FOCAL, FOCAL, 12, 8, 0.5))
    fault(root, "FOV", "not supported", "undistort")
    content = transforms() | {"camera_model": "EQUIRECTANGULAR"}
    fault(write_nerfstudio(tmp_path / "b", content), "EQUIRECTANGULAR", "not supported")


def test_llff_with_another_number_of_images(tmp_path):
    root = write_llff(tmp_path)
    (root / "images" / "IMG_09.png").unlink()
    fault(root, "poses_bounds.npy", "10 poses", "9 images")
    np.save(root / "poses_bounds.npy", np.zeros((10, 5)))
    fault(root, "poses_bounds.npy", "(N, 17)")
    (root / "poses_bounds.npy").write_bytes(b"\x93NUMPY")
    fault(root, "poses_bounds.npy", "not a readable array")


def test_a_photo_listed_twice(tmp_path):
    content = transforms()
    content["frames"].append(content["frames"][0])
    fault(write_nerfstudio(tmp_path, content), "IMG_00.png", "more than once")


def test_mask_or_depth_that_does_not_exist(tmp_path):
    content = transforms()
    content["frames"][1]["mask_path"] = "masks/absent.png"
    fault(write_nerfstudio(tmp_path, content), "absent.png", "mask_path")


def test_senseless_bounds_and_values(tmp_path):
    fault(write_nerfstudio(tmp_path / "a", transforms(near=5.0, far=2.0)), "near", "far")
    fault(write_nerfstudio(tmp_path / "b", transforms() | {"fl_x": "wide"}), "fl_x", "wide")
    fault(write_nerfstudio(tmp_path / "c", transforms() | {"fl_x": -3.0}), "positive")


def test_a_split_without_training_photos(tmp_path):
    names = [f"images/{name}.png" for name in NAMES]
    fault(write_nerfstudio(tmp_path, transforms(test_filenames=names)), "training")


def test_synthetic_without_training_poses(tmp_path):
    root = write_synthetic(tmp_path)
    (root / "transforms_train.json").unlink()
    fault(root, "transforms_train.json", "missing")


def test_points_file_cut_short(tmp_path):
    root = write_nerfstudio(tmp_path, transforms(ply_file_path="points.ply"))
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    (root / "points.ply").write_text(header + "end_header\n0 0 0\n1 1 1\n")
    fault(root, "points.ply", "3 vertices")
    (root / "points.ply").write_text(header + "end_header\n0 0 0\n1 1 1\n1 2 3\n")
    assert len(load_capture(root).points) == 3


@pytest.mark.parametrize(
    "options", [{"downscale": 0}, {"max_side": 8, "downscale": 2}, {"normalise": "best"}]
)
def test_senseless_options(tmp_path, options):
    with pytest.raises(UsageError):
        load_capture(write_nerfstudio(tmp_path), **options)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"fl_x": 65536.0, "fl_y": 65536.0}, "field of view"),
        ({"fl_x": 0.05, "fl_y": 0.05}, "field of view"),
        ({"w": 70000}, "70000x16"),
        ({"w": 1e300}, "camera"),
        ({"k1": 1e300}, "distortion"),
        ({"cx": 10**400}, "cx"),
    ],
)
def test_impossible_cameras_are_refused(tmp_path, values, part):
    fault(write_nerfstudio(tmp_path, transforms() | values), "transforms.json", part)


@pytest.mark.parametrize("value", [1e300, float("inf"), 10**400])
def test_cameras_beyond_the_world_are_refused(tmp_path, value):
    content = transforms()
    content["frames"][2]["transform_matrix"][0][3] = value
    fault(write_nerfstudio(tmp_path, content), "transforms.json", "IMG_02")


def test_an_array_that_promises_more_than_it_holds(tmp_path):
    root = write_llff(tmp_path)
    data = (root / "poses_bounds.npy").read_bytes()
    (root / "poses_bounds.npy").write_bytes(data.replace(b"(10, 17)", b"(10000000000, 17)", 1))
    fault(root, "poses_bounds.npy")
