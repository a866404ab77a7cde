import logging

import numpy as np
import pytest

from smerf.capture import load_capture
from smerf.capture.normalise import apply_similarity, choose_similarity, find_outliers, focus_point
from tests.helpers.capture_layouts import POINTS, poses, transforms, write_nerfstudio


def turned(cameras, seed=0):
    """The same cameras in a world that is turned, moved and scaled."""
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    result = rotation @ cameras
    result[:, :, 3] = 3.7 * result[:, :, 3] + [5, -2, 9]
    return result


def looking(centres, forwards):
    """Upright cameras at ``centres`` that look along ``forwards``."""
    result = []
    for centre, forward in zip(centres, forwards):
        back = -np.asarray(forward, float) / np.linalg.norm(forward)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        result.append(np.stack([right, np.cross(back, right), back, centre], axis=1))
    return np.stack(result)


def room_walk():
    angle = np.linspace(0, 6, 40)
    centres = np.stack([3 * np.cos(angle), 2 * np.sin(angle), 0.02 * np.sin(7 * angle)], axis=1)
    return looking(centres, centres + [0.0, 0.0, 0.1])


@pytest.mark.parametrize("method", ["auto", "focus", "pca", "up", "scale"])
@pytest.mark.parametrize("cameras", [poses(), poses(40, turn=1.0), room_walk(), turned(poses())])
def test_cameras_fill_the_unit_cube(method, cameras):
    similarity, _ = choose_similarity(cameras, method)
    placed = apply_similarity(similarity, cameras)
    assert np.abs(placed[:, :, 3]).max() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(similarity.rotation @ similarity.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(similarity.rotation) > 0


@pytest.mark.parametrize("method", ["focus", "up"])
def test_up_becomes_z(method):
    for cameras in (poses(), turned(poses()), turned(poses(), 3)):
        placed = apply_similarity(choose_similarity(cameras, method)[0], cameras)
        up = placed[:, :, 1].mean(axis=0)
        np.testing.assert_allclose(up / np.linalg.norm(up), [0, 0, 1], atol=1e-9)


def test_focus_puts_what_the_cameras_look_at_into_the_origin():
    cameras = turned(poses())
    similarity, method = choose_similarity(cameras, "auto")
    assert method == "focus"
    target = similarity.scale * similarity.rotation @ [5, -2, 9] + similarity.translation
    np.testing.assert_allclose(target, 0, atol=1e-9)


def test_focus_of_two_crossing_axes_by_hand():
    cameras = looking([[4.0, 1.0, 0.0], [1.0, 5.0, 0.0]], [[-1, 0, 0], [0, -1, 0]])
    point, condition = focus_point(cameras)
    np.testing.assert_allclose(point, [1, 1, 0], atol=1e-12)
    assert condition == pytest.approx(0.5)
    assert focus_point(looking([[0.0, 0, 0], [1, 0, 0]], [[0, 1, 0]] * 2))[1] == pytest.approx(0.0)


def test_a_walk_from_inside_out_takes_principal_axes():
    similarity, method = choose_similarity(turned(room_walk()), "auto")
    assert method == "pca"
    placed = apply_similarity(similarity, turned(room_walk()))
    # Long side along x, least along z, z up.
    spread = placed[:, :, 3].std(axis=0)
    assert spread[0] > spread[1] > 10 * spread[2]
    assert placed[:, 2, 1].mean() > 0.9


def test_parallel_views_and_far_focus_do_not_take_the_focus():
    centres = np.stack([np.linspace(-1, 1, 9), np.zeros(9), 0.3 * np.sin(np.arange(9))], axis=1)
    assert choose_similarity(looking(centres, [[0, 1, 0]] * 9), "auto")[1] != "focus"
    assert choose_similarity(looking(centres, np.array([0, 40, 0]) - centres), "auto")[1] != "focus"


def test_a_sweep_up_a_wall_stays_upright():
    # The plane of the camera centres is vertical, so the least direction is level: not an up axis.
    x, z = np.meshgrid(np.linspace(-2, 2, 5), np.linspace(0, 3, 4))
    centres = np.stack([x.ravel(), 0.01 * x.ravel() ** 2, z.ravel()], axis=1)
    cameras = looking(centres, [[0, 1, 0]] * 20)
    similarity, method = choose_similarity(cameras, "auto")
    assert method == "up"
    np.testing.assert_allclose(similarity.rotation[2], [0, 0, 1], atol=1e-6)


def test_axes_do_not_depend_on_the_order_of_frames():
    cameras = turned(room_walk())
    first, _ = choose_similarity(cameras, "pca")
    second, _ = choose_similarity(cameras[::-1], "pca")
    np.testing.assert_allclose(first.rotation, second.rotation, atol=1e-9)


def test_few_cameras_or_one_place():
    for cameras in (poses(2), poses(1), np.repeat(poses(1), 5, axis=0)):
        similarity, method = choose_similarity(cameras, "auto", POINTS)
        assert method == "scale"
        assert np.array_equal(similarity.rotation, np.eye(3))
        assert np.abs(apply_similarity(similarity, cameras)[:, :, 3]).max() <= 1 + 1e-9
    distance = np.median(np.linalg.norm(POINTS - poses(1)[0, :, 3], axis=1))
    assert similarity.scale == pytest.approx(1 / distance)
    assert choose_similarity(poses(1), "auto")[0].scale == 1.0


def test_a_camera_far_off_is_left_out(tmp_path, caplog):
    cameras = poses(100)
    similarity, _ = choose_similarity(cameras, "focus")
    assert not find_outliers(similarity, cameras).any()
    cameras[17, :, 3] *= 50
    assert np.flatnonzero(find_outliers(choose_similarity(cameras, "focus")[0], cameras)).tolist() == [17]

    content = transforms()
    frame = content["frames"][0]
    content["frames"] = []
    for index, pose in enumerate(cameras):
        name = f"images/{index:03d}.png"
        content["frames"].append(
            frame | {"file_path": name, "transform_matrix": [*pose.tolist(), [0, 0, 0, 1]]}
        )
    root = write_nerfstudio(tmp_path, content)
    for index in range(100):
        (root / "images" / f"{index:03d}.png").hardlink_to(root / "images" / "IMG_00.png")
    with caplog.at_level(logging.WARNING, logger="smerf"):
        capture = load_capture(root)
    assert len(capture.frames) == 99
    assert "017.png" in caplog.text
    centres = np.stack([frame.camera.world_from_cam[:, 3] for frame in capture.frames])
    assert np.abs(centres).max() == pytest.approx(1.0)
    assert capture.frames[16].split == "test"  # the others keep their split
