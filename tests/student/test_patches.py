from dataclasses import replace

import pytest
import torch

from smerf.fields.ray_bank import RayBank
from smerf.student.losses import patch_dissimilarity
from smerf.student.ray_pool import RayPool, TeacherRays
from tests.helpers.toy_room import CONFIG, Room, make_capture


def test_dissimilarity_has_the_published_value():
    a = (torch.arange(27.0) / 26.0).view(9, 3)
    assert float(patch_dissimilarity(0.9 * a + 0.05, a, 9)) == pytest.approx(0.0027570, abs=1e-6)
    assert float(patch_dissimilarity(a, a, 9)) == pytest.approx(0.0, abs=1e-6)


def test_dissimilarity_has_the_right_slope_even_in_flat_patches():
    generator = torch.Generator().manual_seed(0)
    ours = torch.rand(18, 3, generator=generator, dtype=torch.float64).requires_grad_()
    theirs = torch.rand(18, 3, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: patch_dissimilarity(x, theirs, 9), (ours,))
    flat = torch.full((9, 3), 0.5, requires_grad=True)
    patch_dissimilarity(flat, torch.full((9, 3), 0.4), 9).backward()
    assert torch.isfinite(flat.grad).all()


def test_the_rays_of_a_patch_are_neighbours_and_move_together(tmp_path):
    bank = RayBank(make_capture(tmp_path).split("train"))
    generator = torch.Generator().manual_seed(0)
    config = replace(CONFIG, patch=3, origin_jitter=0.05, direction_jitter=0.03)
    pool = RayPool(TeacherRays(Room(), bank, config, generator), 900)
    pool.refill(900)
    batch = pool.sample(90)
    assert len(batch.rays) == 90 and pool.size == 900
    origins, directions = batch.rays.origins.view(-1, 9, 3), batch.rays.directions.view(-1, 9, 3)
    torch.testing.assert_close(origins, origins[:, :1].expand_as(origins))
    cosine = (directions * directions[:, 4:5]).sum(-1)
    # Neighbouring pixels of a 24 pixel photo with a focal length of 17.
    assert cosine.min() > 0.98 and cosine[:, 0].max() < 1.0
    assert origins[:, 0].std(0).min() > 0.01
