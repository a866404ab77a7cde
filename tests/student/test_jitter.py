import math

import torch

from smerf.fields.rays import Rays
from smerf.student.ray_pool import jitter, random_rotations, rotate_at_random


def test_rotations_are_small_proper_and_distributed_as_published():
    rotations = random_rotations(200_000, 0.03, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), rtol=0, atol=1e-5)
    assert (torch.linalg.det(rotations[:1000]) > 0.99).all()
    skew = rotations - rotations.mT
    cross = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], -1)
    angles = torch.asin((0.5 * cross.norm(dim=-1)).clamp_max(1.0))
    assert angles.max() <= 0.03 * math.pi + 1e-4
    assert abs(float(angles.mean()) - 0.0663) < 5e-4


def test_directions_are_deflected_as_published():
    count = 200_000
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    rays = Rays(torch.zeros(count, 3), directions, torch.full((count,), 0.01))
    moved = jitter(rays, 0.03, 0.03, generator)
    torch.testing.assert_close(moved.directions.norm(dim=-1), torch.ones(count))
    deflection = 2.0 * torch.asin((0.5 * (moved.directions - directions).norm(dim=-1)).clamp_max(1.0))
    assert deflection.max() <= 0.0943
    assert abs(float(deflection.mean()) - 0.0520) < 5e-4
    assert abs(float(deflection.median()) - 0.0528) < 5e-4
    # No side is preferred.
    assert (moved.directions - directions).mean(0).abs().max() < 5e-4
    torch.testing.assert_close(moved.origins.std(0), torch.full((3,), 0.03), rtol=0.01, atol=0)
    assert moved.origins.mean(0).abs().max() < 5e-4


def test_no_jitter_changes_nothing():
    generator = torch.Generator().manual_seed(2)
    rays = Rays(torch.rand(50, 3), torch.nn.functional.normalize(torch.randn(50, 3), dim=-1), torch.zeros(50))
    still = jitter(rays, 0.0, 0.0, generator)
    torch.testing.assert_close(still.origins, rays.origins)
    torch.testing.assert_close(still.directions, rays.directions)


def test_a_fraction_of_the_cameras_looks_anywhere():
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(
        torch.tensor([1.0, 0.2, 0.1]) + 0.1 * torch.rand(16000, 3), dim=-1
    )
    rays = Rays(torch.rand(16000, 3), directions, torch.rand(16000))
    rotated = rotate_at_random(rays, 0.5, generator, 4)
    assert torch.equal(rotated.origins, rays.origins) and torch.equal(rotated.radii, rays.radii)
    # A camera rotates as a whole.
    before, after = (d.view(4000, 4, 3) for d in (directions, rotated.directions))
    torch.testing.assert_close(after @ after.mT, before @ before.mT)
    moved = (after - before).abs().amax((1, 2)) > 1e-3
    assert 0.47 < moved.float().mean() < 0.53
    # Evenly over the sphere: each coordinate is.
    for axis in range(3):
        assert torch.histc(after[moved][:, 0, axis], 4, -1.0, 1.0).min() > 0.21 * moved.sum()
