"""Stabilisation without poses: the room stands still, whoever walks through it does not, however large."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from smerf.vision.stabilise import differences, find_homography, fit_homography

ROWS, COLUMNS = 120, 200


def room(seed=0):
    """Return a textured wall, float (2 H, 2 W, 3), of which cameras see a part."""
    random = np.random.default_rng(seed)
    layers = [
        gaussian_filter(random.normal(0, 1, (2 * ROWS, 2 * COLUMNS, 3)), (size, size, 0)) * size
        for size in (1.5, 4)
    ]
    return (128 + 45 * sum(layers)).clip(0, 255)


def homography(index):
    """Return where a frame's pixels lie on the wall: a camera that moves, turns and rolls."""
    angle = 0.012 * index
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 60 + 3.5 * index], [np.sin(angle), np.cos(angle), 50 - 2 * index]]
    )
    return np.vstack([turn, [2e-5 * index, -1e-5 * index, 1.0]])


def film(wall, index):
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    places = np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).T @ homography(index).T
    places = places[:, :2] / places[:, 2:]
    return np.stack(
        [map_coordinates(wall[..., k], places[:, ::-1].T, order=1).reshape(ROWS, COLUMNS) for k in range(3)],
        -1,
    )


def clip(height=0.0, gain=0.0):
    """Return frames uint8 (8, H, W, 3) in which a textured person walks against the camera, and where (8, H, W)."""
    wall, coat = room(), room(1)[: round(height * ROWS), : round(0.6 * height * ROWS)]
    frames, where = [], np.zeros((8, ROWS, COLUMNS), bool)
    for index in range(8):
        frame = film(wall, index) * (1.0 + gain * index)
        rows, columns = coat.shape[:2]
        if height:
            part = (slice(ROWS - rows, ROWS), slice(20 + 8 * index, 20 + 8 * index + columns))
            frame[part] = coat
            where[index][part] = True
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(frames), where


@pytest.mark.parametrize("height", [0.0, 0.6, 0.95])
def test_the_camera_is_found_to_a_fifth_of_a_pixel_whoever_walks_in_front(height):
    frames, _ = clip(height)
    found = find_homography(frames[2].mean(-1), frames[4].mean(-1))
    assert found is not None
    true = np.linalg.inv(homography(4)) @ homography(2)
    corners = np.array([[0, 0, 1], [COLUMNS, 0, 1], [0, ROWS, 1], [COLUMNS, ROWS, 1.0]])
    a, b = (corners @ each.T for each in (found, true))
    error = np.abs(a[:, :2] / a[:, 2:] - b[:, :2] / b[:, 2:])
    assert error.max() < 0.6 and error.mean() < 0.2


@pytest.mark.parametrize("height", [0.3, 0.6])
def test_what_moves_differs_and_the_room_does_not_in_changing_light(height):
    frames, where = clip(height, gain=-0.01)
    smallest = differences(frames)[2:6, ..., 0]
    assert np.quantile(smallest[~where[2:6]], 0.99) < 0.03
    assert smallest[where[2:6]].mean() > 10 * smallest[~where[2:6]].mean()


def test_what_was_hidden_before_does_not_count_as_moving():
    frames, where = clip(0.6)
    uncovered = where[2] & ~where[4] & ~where[3]
    assert uncovered.sum() > 100
    assert np.median(differences(frames)[4, ..., 0][uncovered]) < 0.02


def test_a_wall_without_corners_or_another_place_is_not_aligned():
    grey = np.full((3, ROWS, COLUMNS, 3), 120, np.uint8)
    assert find_homography(grey[0, ..., 0], grey[1, ..., 0]) is None
    assert np.isnan(differences(grey)).all()
    random = np.random.default_rng(0)
    assert fit_homography(*random.uniform(0, 100, (2, 40, 2)), (COLUMNS, ROWS)) is None
