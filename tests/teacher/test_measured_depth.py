"""Depth maps beside the photos tell the teacher how far things are, where photos confirm each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.capture import load_capture
from smerf.capture.rays import pixel_rays
from smerf.fields.ray_bank import RayBank
from smerf.teacher.known_distances import KnownDistances
from smerf.teacher.measured_depth import measured_pixels
from tests.helpers.ball import HEIGHT, RADIUS, WIDTH, write_capture

PASSED = (slice(8, 16), slice(12, 16))


def ball_depth(frame, similarity):
    """Return the depth (H, W) of the ball along the optical axis, 0 beside it."""
    origins, directions, _ = pixel_rays(frame.camera)
    offset = origins - similarity.translation
    along, radius = (offset * directions).sum(1), similarity.scale * RADIUS
    square = (directions**2).sum(1)
    root = along**2 - square * ((offset**2).sum(1) - radius**2)
    depth = np.where(root > 0, (-along - np.sqrt(np.maximum(root, 0))) / square, 0.0)
    return depth.reshape(HEIGHT, WIDTH).astype(np.float32)


@pytest.fixture
def capture(tmp_path):
    found = load_capture(write_capture(tmp_path / "ball", count=24))
    frames = []
    for index, frame in enumerate(found.frames):
        np.save(tmp_path / f"{index}.npy", ball_depth(frame, found.training_from_source))
        frames.append(replace(frame, depth_path=tmp_path / f"{index}.npy", depth_scale=1.0))
    return replace(found, frames=tuple(frames))


def shown(capture):
    """Return the photo, the pixel and the point of everything that is known."""
    bank = RayBank(capture.split("train"))
    rows, distances = measured_pixels(capture, bank)
    rays = bank.gather_rows(torch.from_numpy(rows)).rays
    points = rays.origins + torch.from_numpy(distances).float()[:, None] * rays.directions
    return *np.divmod(rows, HEIGHT * WIDTH), points.numpy()


def test_pixels_of_surfaces_are_known_as_far_as_they_are(capture):
    _, _, points = shown(capture)
    similarity = capture.training_from_source
    away = np.linalg.norm(points - similarity.translation, axis=1) / (similarity.scale * RADIUS)
    assert len(points) > 500
    np.testing.assert_allclose(away, 1.0, atol=1e-3)
    bank = RayBank(capture.split("train"))
    assert len(KnownDistances(capture, bank)) == len(points)
    assert len(KnownDistances(capture, bank, is_used=False)) == 0


def test_what_one_photo_alone_measured_is_not_believed(capture):
    passed = capture.split("train")[3]
    depth = np.load(passed.depth_path)
    depth[PASSED] *= 0.6
    np.save(passed.depth_path, depth)
    photo, pixel, _ = shown(capture)
    row, column = np.divmod(pixel[photo == 3], WIDTH)
    inside = (row >= 8) & (row < 16) & (column >= 12) & (column < 16)
    assert len(row) > 0 and not inside.any()


@pytest.mark.parametrize("unit", [0.6, 1.3, 1.6, 1000.0])
def test_maps_of_another_unit_are_refused_with_a_word(capture, caplog, unit):
    wrong = replace(capture, frames=tuple(replace(frame, depth_scale=unit) for frame in capture.frames))
    assert len(shown(wrong)[2]) == 0
    assert "contradict each other" in caplog.text and str(capture.root) in caplog.text


def test_a_damaged_map_is_named_and_the_others_are_used(capture, caplog):
    first = capture.split("train")[0].depth_path
    first.write_bytes(first.read_bytes()[:90])
    photo, _, _ = shown(capture)
    assert first.name in caplog.text
    assert 0 not in photo and len(np.unique(photo)) == len(capture.split("train")) - 1


def test_photos_without_maps_teach_by_their_points_alone(capture):
    plain = replace(capture, frames=tuple(replace(frame, depth_path=None) for frame in capture.frames))
    assert len(shown(plain)[2]) == 0
