import pytest
import torch

from smerf.kernels.reference import surface_intervals as reference
from smerf.kernels.surface_intervals import surface_intervals
from smerf.kernels.types import Spacing
from tests.helpers.surface_rays import rays_past_a_ball

SPACINGS = Spacing(0.4, 7.0, True), Spacing(0.1, float("inf"), False)


@pytest.mark.parametrize("name", [None, "baseline", "avx2"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("layers", [1, 3])
def test_intervals_equal_those_of_the_reference(kernels, name, spacing, layers):
    kernels(name)
    rays = rays_past_a_ball(2000, layers)
    edges, weights = surface_intervals(*rays, spacing, 32, 0.01)
    wanted_edges, wanted_weights = reference.surface_intervals(*rays, spacing, 32, 0.01)
    assert edges.shape == (2000, 33) and (edges.diff(dim=1) > 0.0).all()
    # A point at the border of a cell may round to either side of it.
    same = torch.isclose(edges, wanted_edges, rtol=1e-4, atol=1e-4).all(1)
    assert same.float().mean() > 0.99
    torch.testing.assert_close(weights[same], wanted_weights[same], rtol=0.0, atol=5e-3)
    torch.testing.assert_close(weights.sum(1), rays[4].sum(1))


@pytest.mark.parametrize("name", [None, "reference"])
def test_what_is_not_a_number_ends_all_the_same(kernels, name):
    kernels(name)
    near, origins, directions, met, opacity = rays_past_a_ball(4, 1)
    origins[0], directions[1], directions[2] = float("nan"), float("nan"), 0.0
    edges, _ = surface_intervals(near, origins, directions, met, opacity, SPACINGS[0], 32, 0.01)
    assert (edges.diff(dim=1) > 0.0).all()


def test_rays_along_an_axis_are_tested_near_the_surface(kernels):
    for name in (None, "reference"):
        kernels(name)
        near, *_ = rays_past_a_ball(1, 1)
        origins, directions = torch.tensor([[0.53, 0.0, 4.0]]), torch.tensor([[0.0, 0.0, -1.0]])
        nothing = torch.zeros(1, 1)
        edges, _ = surface_intervals(near, origins, directions, nothing, nothing, SPACINGS[0], 32, 0.01)
        assert int(((edges - 4.0).abs() < 0.4).sum()) >= 16


@pytest.mark.parametrize("name", [None, "reference"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_intervals_hold_the_weights_of_all_layers(kernels, name, spacing):
    kernels(name)
    met = torch.tensor([[1.0, 3.0, 3.001], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 6.9, 0.0]])
    opacity = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    nowhere = torch.zeros(34, 34, 2, dtype=torch.int32)
    rays = torch.zeros(4, 3), torch.eye(3)[[0]].expand(4, 3)
    edges, held = surface_intervals(nowhere, *rays, met, opacity, spacing, 16, 0.01)
    torch.testing.assert_close(held.sum(1), opacity.sum(1))
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    torch.testing.assert_close((held * middle).sum(1), (met * opacity).sum(1), rtol=0.0, atol=0.02)
    # Four intervals lie inside the surface, and most of the others in front, where the ray passes.
    assert int((held[1] > 0.0).sum()) == 4 and int((edges[1] < 1.985).sum()) >= 8


def test_other_shapes_are_refused():
    near, *rays = rays_past_a_ball(3, 2)
    with pytest.raises(ValueError, match="near"):
        surface_intervals(near[1:], *rays, SPACINGS[0], 32, 0.01)
    with pytest.raises(ValueError, match="samples"):
        surface_intervals(near, *rays, SPACINGS[0], 4, 0.01)
