"""Wrong models are told from right ones, and cleaning takes wrong cameras out."""

from dataclasses import replace

import numpy as np
import pytest

from smerf.prepare.checks import agreement, check, compare_poses, contradictions, median_angle, path_steps
from smerf.prepare.cleaning import clean
from tests.helpers.corner import places, ring_model


def test_a_folded_model_contradicts_itself_and_a_right_one_does_not():
    assert contradictions(ring_model()) == 0.0
    assert contradictions(ring_model(fold=True)) > 0.1
    assert check(ring_model(fold=True), places(ring_model()), 48).is_folded


def test_contradiction_says_nothing_of_a_handful_of_photos():
    model = ring_model()
    assert contradictions(model.keep(range(4))) is None


def test_cleaning_keeps_one_half_of_a_folded_model_and_names_the_other():
    cleaned = clean(ring_model(fold=True))
    assert len(cleaned.model.names) == 24 and [len(part) for part in cleaned.parts] == [24]
    assert contradictions(cleaned.model) in (0.0, None)


def test_a_photo_with_few_points_is_dropped():
    model = ring_model()
    is_kept = (model.seen_image != 5) | (np.cumsum(model.seen_image == 5) <= 20)
    few = replace(model, seen_image=model.seen_image[is_kept], seen_point=model.seen_point[is_kept])
    cleaned = clean(few)
    assert cleaned.weak == ("005.jpg",) and "005.jpg" not in cleaned.model.names
    assert len(cleaned.model.names) == 47


def test_a_jump_of_the_path_is_found_where_it_is():
    model = ring_model()
    value, _ = path_steps(model, places(model))
    assert value == pytest.approx(1.0, abs=0.01)
    poses = model.poses.copy()
    poses[24:, :, 3] += 40.0
    value, between = path_steps(replace(model, poses=poses), places(model))
    assert value > 10 and between == ("023.jpg", "024.jpg")


def test_steps_are_counted_per_unit_of_time():
    model = ring_model().keep(range(24))
    spaced = {name: replace(place, time=7 * place.number) for name, place in places(model).items()}
    assert path_steps(model, spaced)[0] == pytest.approx(1.0, abs=0.01)


def test_the_angle_between_views_is_that_of_the_widest_pair():
    model = ring_model()
    assert 60 < median_angle(model) < 170
    shrunk = model.poses.copy()
    shrunk[:, :, 3] = shrunk[0, :, 3] + 1e-3 * (shrunk[:, :, 3] - shrunk[0, :, 3])
    assert median_angle(replace(model, poses=shrunk)) < 1.0


def test_poses_agree_up_to_a_similarity_and_outliers_are_counted():
    one, two = ring_model(), ring_model()
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = np.concatenate([turn @ two.poses[:, :, :3], (3.0 * turn @ two.poses[:, :, 3:]) + 5.0], axis=2)
    assert agreement(one, replace(two, poses=moved)) == pytest.approx((1.0, 0.0, 0.0), abs=1e-4)
    moved[:3, :, 3] += 2.0
    alike, degrees, distance = agreement(one, replace(two, poses=moved))
    assert alike == pytest.approx(45 / 48) and degrees < 1e-3 and distance < 1e-3
    degrees, distances = compare_poses(moved, one.poses)
    assert distances[:3].min() > 0.05 > distances[3:].max()
