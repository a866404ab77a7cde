import math

import pytest
import torch

from smerf.fields.rays import Rays, Spacing

SPACINGS = [
    Spacing(2.0, 6.0, True),
    Spacing(0.0, 1e4, False),
    Spacing(0.2, math.inf, False),
    Spacing(0.05, 30.0, False),
]


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_distance_and_s_are_each_others_inverse(spacing):
    s = torch.linspace(0.0, 0.99, 200, dtype=torch.float64)
    t = spacing.t_from_s(s)
    torch.testing.assert_close(spacing.s_from_t(t), s, rtol=0, atol=1e-9)
    assert (t.diff() > 0).all()
    assert t[0].item() == pytest.approx(spacing.near, abs=1e-12)


@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
def test_single_precision_stays_ascending_and_finite_to_the_end(spacing):
    t = spacing.t_from_s(torch.linspace(0.0, 1.0, 3000))
    assert (t.diff() >= 0).all() and torch.isfinite(t).all()
    assert t[0].item() == pytest.approx(spacing.near, abs=1e-6)
    if spacing.far <= 30.0:
        assert t[-1].item() == pytest.approx(spacing.far, rel=1e-3)
    else:
        assert 1e3 < t[-1].item() <= 1e4


def test_unbounded_spacing_is_the_power_ladder():
    spacing = Spacing(0.0, math.inf, False)
    t = torch.tensor([0.0, 0.5, 2.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(spacing.s_from_t(t), 1 - (0.8 * t + 1) ** -1.5)


def test_a_bounded_scene_is_spaced_evenly():
    assert Spacing(2.0, 6.0, True).t_from_s(torch.tensor([0.0, 0.25, 1.0])).tolist() == [2.0, 3.0, 6.0]


def test_a_slice_of_rays_keeps_what_belongs_together():
    rays = Rays(torch.rand(5, 3), torch.rand(5, 3), torch.rand(5))
    part = rays[torch.tensor([4, 1])]
    assert len(rays) == 5 and len(part) == 2
    assert torch.equal(part.origins[0], rays.origins[4]) and torch.equal(part.radii, rays.radii[[4, 1]])
    assert len(rays[1:4].to("cpu")) == 3
