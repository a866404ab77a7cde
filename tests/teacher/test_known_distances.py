"""Sparse points of structure from motion tell the teacher how far things are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.capture import load_capture
from smerf.capture.rays import project
from smerf.fields.ray_bank import RayBank, camera_rays
from smerf.fields.rendering import distance_loss
from smerf.teacher import train_teacher
from smerf.teacher.known_distances import KnownDistances
from tests.helpers.ball import HEIGHT, RADIUS, WIDTH, write_capture, write_masks
from tests.helpers.shrunk_teacher import QUICK


def with_points(capture, count=600):
    """Put points on the ball, and let every photo know those on its side."""
    generator = np.random.default_rng(3)
    normals = generator.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    similarity = capture.training_from_source
    points = similarity.scale * RADIUS * normals @ similarity.rotation.T + similarity.translation
    frames = []
    for frame in capture.frames:
        faces = ((frame.camera.world_from_cam[:, 3] - points) * (normals @ similarity.rotation.T)).sum(1) > 0
        frames.append(replace(frame, sees=np.flatnonzero(faces)))
    return replace(capture, points=points, frames=tuple(frames))


@pytest.fixture
def capture(tmp_path):
    return with_points(load_capture(write_capture(tmp_path / "ball", count=10)))


def test_pixels_are_those_that_show_a_point_at_its_distance(capture):
    bank = RayBank(capture.split("train"))
    known = KnownDistances(capture, bank)
    rows, distances = known.sample(200, torch.Generator().manual_seed(0))
    batch = bank.gather_rows(rows)
    met = batch.rays.origins + distances[:, None] * batch.rays.directions
    apart = torch.cdist(met, torch.tensor(capture.points, dtype=torch.float32)).amin(1)
    # A pixel's ray passes its point within the pixel.
    assert (apart < 1.5 * batch.rays.radii * distances).all()


def test_points_of_masked_pixels_and_of_few_photos_are_left_out(capture, tmp_path):
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:, WIDTH // 2 :] = True
    write_masks(tmp_path / "ball", hidden)
    masked = with_points(load_capture(tmp_path / "ball"))
    bank = RayBank(masked.split("train"))
    known = KnownDistances(masked, bank)
    assert 0 < len(known) < 0.8 * len(KnownDistances(capture, RayBank(capture.split("train"))))
    lonely = replace(capture, frames=capture.frames[:2])
    assert len(KnownDistances(lonely, RayBank(lonely.split("train")))) == 0


def test_they_follow_what_the_bank_draws(capture):
    bank = RayBank(capture.split("train"))
    known, used = KnownDistances(capture, bank), [np.ones((HEIGHT, WIDTH), bool)] * len(bank.centres)
    whole = len(known)
    used[0] = np.zeros((HEIGHT, WIDTH), bool)
    bank.restrict(used)
    known.follow(bank)
    assert 0 < len(known) < whole
    owners = bank.gather_rows(known.sample(100, torch.Generator().manual_seed(0))[0]).frames
    assert (owners > 0).all()
    bank.restrict([np.ones((HEIGHT, WIDTH), bool)] * len(bank.centres))
    known.follow(bank)
    assert len(known) == whole


def test_a_short_training_puts_the_surface_where_points_are(capture, tmp_path):
    config = replace(QUICK, steps=200, distance_weight=2.0)
    held_out = capture.split("test")[0]
    rays = camera_rays(held_out.camera)
    places, depths = project(held_out.camera, capture.points[held_out.sees])
    column, row = np.floor(places[(depths > 0) & (places >= 0).all(1)]).astype(int).T
    distances = torch.zeros(HEIGHT * WIDTH)
    met = capture.points[held_out.sees] - held_out.camera.world_from_cam[:, 3]
    distances[row * WIDTH + column] = torch.tensor(np.linalg.norm(met, axis=1), dtype=torch.float32)
    losses = []
    for fraction in (0.0, 0.25):
        teacher = train_teacher(
            capture, replace(config, distance_fraction=fraction), folder=tmp_path / f"{fraction}"
        )
        answer = teacher.query(rays)
        losses.append(float(distance_loss(answer.edges, answer.weights, distances)))
    assert losses[1] < 0.6 * losses[0]
