import math

import pytest
import torch

from smerf.fields.rendering import (
    charbonnier,
    density_activation,
    distortion_loss,
    interlevel_loss,
    render_weights,
)


def random_rays(rays, samples, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.rand(rays, samples + 1, generator=generator, dtype=dtype).cumsum(-1)
    density = torch.rand(rays, samples, generator=generator, dtype=dtype) * 3
    return density, edges


def test_weights_follow_the_loop():
    density, edges = random_rays(6, 9)
    density[0], density[1, 3], edges[2, 4:7] = 0.0, 1e6, edges[2, 4].clone()
    weights = render_weights(density, edges)
    for r in range(6):
        light = 1.0
        for i in range(9):
            passed = math.exp(-density[r, i] * (edges[r, i + 1] - edges[r, i]))
            assert weights[r, i].item() == pytest.approx(light * (1 - passed), abs=1e-12)
            light *= passed
        assert 1 - weights[r].sum().item() == pytest.approx(light, abs=1e-12)


def test_a_wall_does_not_dim_what_is_before_it():
    density, edges = torch.tensor([[0.5, 0.2, 3e6, 1.0]]), torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    weights = render_weights(density, edges)
    light = math.exp(-0.5)
    wanted = [1 - light, light * (1 - math.exp(-0.2)), math.exp(-0.7), 0.0]
    assert weights[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_gradients_of_the_weights_are_right():
    density, edges = random_rays(3, 5)
    assert torch.autograd.gradcheck(render_weights, (density.requires_grad_(), edges.requires_grad_()))
    assert render_weights(torch.zeros(2, 0), torch.zeros(2, 1)).shape == (2, 0)


def test_density_is_an_exponential_that_stays_finite_both_ways():
    raw = torch.tensor([-200.0, -1.0, 1.0, 5.0, 200.0], requires_grad=True)
    density = density_activation(raw)
    density.sum().backward()
    assert density[1:4].tolist() == pytest.approx([math.exp(-2), 1.0, math.exp(4)])
    assert torch.isfinite(density).all() and density[0] == 0
    torch.testing.assert_close(raw.grad[:4], density.detach()[:4])
    assert torch.isfinite(raw.grad).all() and raw.grad[4] > 0


def test_charbonnier_is_rounded_at_zero():
    assert charbonnier(torch.tensor([3.0, -3.0])).item() == pytest.approx(3.0, rel=1e-6)
    assert charbonnier(torch.zeros(4)).item() == pytest.approx(1e-3)


def test_distortion_equals_the_double_sum():
    density, edges = random_rays(5, 12)
    weights = render_weights(density, edges)
    middle, width = 0.5 * (edges[:, 1:] + edges[:, :-1]), edges.diff()
    pairs = weights[:, :, None] * weights[:, None] * (middle[:, :, None] - middle[:, None]).abs()
    wanted = (pairs.sum((1, 2)) + (weights**2 * width).sum(-1) / 3).mean()
    torch.testing.assert_close(distortion_loss(edges, weights), wanted)
    assert torch.autograd.gradcheck(lambda w: distortion_loss(edges, w), (weights.requires_grad_(),))


def test_distortion_prefers_one_thin_surface():
    edges = torch.linspace(0, 1, 11)[None]
    one, spread, two = torch.zeros(3, 1, 10)
    one[0, 4], spread[:], two[0, 0], two[0, 9] = 1.0, 0.1, 0.5, 0.5
    assert distortion_loss(edges, one) < distortion_loss(edges, spread) < distortion_loss(edges, two)


def test_a_proposal_that_covers_the_weights_costs_nothing():
    density, edges = random_rays(4, 16)
    weights = render_weights(density, edges)
    assert interlevel_loss(edges, weights, edges, weights).item() == pytest.approx(0, abs=1e-12)
    outer = edges[:, ::4].contiguous()
    covering = weights.view(4, 4, 4).sum(-1)
    assert interlevel_loss(edges, weights, outer, covering).item() == pytest.approx(0, abs=1e-12)
    assert interlevel_loss(edges, weights, outer, covering + 0.1) == 0


def test_a_proposal_that_misses_weight_is_pulled_up():
    edges, outer = torch.tensor([[0.0, 0.2, 0.6, 1.0]]), torch.tensor([[0.0, 0.5, 1.0]])
    weights = torch.tensor([[0.3, 0.5, 0.2]], requires_grad=True)
    proposal = torch.tensor([[0.1, 0.1]], requires_grad=True)
    loss = interlevel_loss(edges, weights, outer, proposal)
    # The first interval sees the first bin alone, the second both, the third the second alone.
    wanted = 0.2**2 / 0.3 + 0.3**2 / 0.5 + 0.1**2 / 0.2
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert weights.grad is None
    assert (proposal.grad < 0).all()


def test_the_proposal_loss_gives_the_final_edges_no_gradient():
    density, edges = random_rays(2, 6)
    weights = render_weights(density, edges).requires_grad_()
    proposal = torch.full((2, 3), 0.05, dtype=torch.float64, requires_grad=True)
    edges = edges.requires_grad_()
    interlevel_loss(edges, weights, edges.detach()[:, ::2], proposal).backward()
    assert weights.grad is None and edges.grad is None and proposal.grad.any()
