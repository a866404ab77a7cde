"""Which way is up, and how long a metre is."""

import numpy as np
import pytest

from smerf.prepare.frame_of_scene import choose_up, enu_metres, metric_scale, rotation_to_z
from tests.helpers.corner import ring_model


def tilt(angle):
    return np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])


def test_headings_that_go_round_give_the_horizon():
    poses = tilt(0.4) @ ring_model().poses
    up, source = choose_up(poses)
    assert source == "horizon"
    assert rotation_to_z(tilt(0.4).T @ up) == pytest.approx(np.eye(3), abs=1e-6)
    assert rotation_to_z(up) @ up == pytest.approx([0, 0, 1])


def test_one_heading_gives_the_mean_of_the_up_vectors():
    pose = np.column_stack([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0], [0, 0, 0]])
    up, source = choose_up(np.repeat(pose[None], 6, axis=0))
    assert source == "mean" and up == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("up", [(0, 0, 1), (0, 0, -1), (0.6, 0, 0.8), (0, -1, 0)])
def test_up_becomes_z(up):
    rotation = rotation_to_z(np.array(up, float))
    assert rotation @ up == pytest.approx([0, 0, 1])
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_positions_give_metres():
    north = enu_metres(np.array([[50.0, 8.0, 100.0], [50.001, 8.0, 100.0], [50.0, 8.001, 110.0]]))
    assert north[1] == pytest.approx([0, 111.2, 0], abs=0.2)
    assert north[2] == pytest.approx([71.7, 0, 10.0], abs=0.2)


def test_noisy_positions_give_the_scale_and_positions_in_one_spot_do_not():
    rng = np.random.default_rng(0)
    centres = ring_model().centres
    metres = 10.0 * centres + rng.normal(0, 2.0, centres.shape)
    assert metric_scale(centres, metres) == pytest.approx(10.0, rel=0.02)
    assert metric_scale(centres, 1.0 * centres) is None
    assert metric_scale(centres, rng.normal(0, 30.0, centres.shape)) is None
