"""Files of which nothing is known: where cameras stand, which way is up, and what lies before the near plane."""

import dataclasses

import numpy as np
import pytest

from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import plan_cameras
from smerf.teacher.asset_options import AssetOptions
from tests.helpers import splat_files as files
from tests.teacher.splat.test_asset import ball, room, write

FOCAL = AssetOptions(focal=200.0)


def sky(radius, count=800):
    """Large opaque splats on a sphere."""
    splats = files.random_splats(count, 0, 3)
    splats.means = radius * splats.means / np.linalg.norm(splats.means, axis=1, keepdims=True)
    splats.log_scales[:], splats.opacities[:] = np.log(0.1 * radius), 0.9
    return splats


def together(first, second):
    return files.Splats(
        **{
            each.name: np.concatenate([getattr(first, each.name), getattr(second, each.name)])
            for each in dataclasses.fields(files.Splats)
        }
    )


def planned(folder, splats, options=FOCAL):
    asset = open_asset(write(folder, splats), options)
    plan = plan_cameras(asset, options, 24, 24)
    return asset, plan, np.stack([camera.world_from_cam[:, 3] for camera in plan.cameras])


def mean_colour(asset, plan):
    pictures = [asset.render(camera) for camera in plan.cameras[::6]]
    return np.mean([picture[..., :3] for picture in pictures])


def test_an_object_under_a_sky_is_circled_from_near(tmp_path):
    asset, plan, eyes = planned(tmp_path, together(ball(), sky(200.0)))
    assert ", orbit (" in plan.said and not plan.is_alone and plan.far == np.inf
    assert np.linalg.norm(eyes - asset.content().centre, axis=1).max() < 3.0
    # The near plane does not reach the object from any eye.
    assert plan.near < 0.1
    assert all(asset.render(camera)[12, 12, 3] > 0.9 for camera in plan.cameras)


def test_a_room_under_a_sky_is_walked_through(tmp_path):
    asset, plan, eyes = planned(tmp_path, together(room(), sky(200.0)))
    assert ", walk (" in plan.said and ((eyes > 0.0) & (eyes < [4.0, 2.0, 3.0])).all()
    np.testing.assert_allclose(asset.content().rotation[2], [0.0, -1.0, 0.0], atol=0.02)
    assert plan.near < 0.1


@pytest.mark.parametrize("make", [ball, room])
@pytest.mark.parametrize(("scale", "shift"), [(1e3, 0.0), (1e-3, 0.0), (1.0, 3000.0)])
def test_size_and_place_change_nothing(tmp_path, make, scale, shift):
    first = make()
    moved = dataclasses.replace(first, log_scales=first.log_scales + np.float32(np.log(scale)))
    moved.means = (scale * first.means + shift).astype(np.float32)
    asset, plan, eyes = planned(tmp_path, first)
    other, again, far = planned(tmp_path / "moved", moved)
    assert plan.said == again.said and plan.is_alone == again.is_alone
    np.testing.assert_allclose(far, scale * eyes + shift, atol=2e-3 * scale)
    assert again.near == pytest.approx(scale * plan.near, rel=1e-2)
    assert mean_colour(other, again) == pytest.approx(mean_colour(asset, plan), abs=0.01)


@pytest.mark.parametrize("make", [ball, room])
def test_a_copy_that_is_turned_about_up_gets_the_same_cameras(tmp_path, make):
    first = make()
    if make is ball:
        # Longer than wide, and heavier at one end.
        first.means *= np.array([2.0, 1.0, 1.0], np.float32)
        first.means[:, 0] += (first.means[:, 0] ** 2).astype(np.float32)
    c, s = np.cos(0.6), np.sin(0.6)
    turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    moved = dataclasses.replace(first, means=(first.means @ turn.T).astype(np.float32))
    w, x, y, z = first.quaternions.T
    a, b = np.cos(0.3), np.sin(0.3)
    moved.quaternions = np.stack([a * w - b * y, a * x + b * z, a * y + b * w, a * z - b * x], 1)
    asset, plan, eyes = planned(tmp_path, first)
    other, again, far = planned(tmp_path / "turned", moved)
    assert plan.said.split()[2] == again.said.split()[2] in ("orbit", "walk")
    np.testing.assert_allclose(far, eyes @ turn.T, atol=0.04 * asset.content().radius)
    size = other.content().high - other.content().low
    np.testing.assert_allclose(size, asset.content().high - asset.content().low, rtol=0.03)


def test_far_floaters_do_not_move_the_cameras(tmp_path):
    few = files.random_splats(40, 0, 5)
    few.means *= 300.0
    few.opacities[:] = 0.9
    _, plan, eyes = planned(tmp_path / "more", together(ball(), few))
    assert ", orbit (" in plan.said and plan.is_alone
    assert np.linalg.norm(eyes, axis=1).min() > 1.0 and np.linalg.norm(eyes, axis=1).max() < 3.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_splats_are_seen_whole(tmp_path, count):
    asset, plan, _ = planned(tmp_path, ball(count))
    assert ", orbit (" in plan.said and plan.is_alone
    picture = asset.render(plan.cameras[0])[..., 3]
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert picture.max() > 0.5 and edge.max() < 0.3


def test_fine_dust_is_not_refused(tmp_path):
    dust = ball(3000)
    dust.log_scales[:] = np.log(5e-4)
    _, plan, _ = planned(tmp_path, dust)
    assert ", orbit (" in plan.said


def test_a_lone_wall_is_seen_from_its_front_upright(tmp_path):
    wall = ball(3000)
    wall.means = np.random.default_rng(2).uniform([-2, -1, 0], [2, 1, 0], (3000, 3)).astype(np.float32)
    wall.log_scales[:] = np.log([0.05, 0.05, 1e-3])
    wall.quaternions[:] = (1.0, 0.0, 0.0, 0.0)
    asset, plan, _ = planned(tmp_path, wall)
    assert ", orbit (" in plan.said and plan.is_alone
    np.testing.assert_allclose(asset.content().rotation[2], [0.0, -1.0, 0.0], atol=1e-6)
