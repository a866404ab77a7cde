import math

import pytest
import torch

from smerf.kernels import blurred_interlevel
from smerf.kernels.reference.interlevel import blurred_interlevel as blurred_reference
from smerf.kernels.reference.interlevel import blurred_weights


def histogram(rays, bins, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.rand(rays, bins - 1, generator=generator).sort(-1).values
    edges = torch.cat([torch.zeros(rays, 1), edges, torch.ones(rays, 1)], -1)
    weights = torch.rand(rays, bins, generator=generator) ** 3
    return edges, weights / weights.sum(-1, keepdim=True) * torch.rand(rays, 1, generator=generator)


def evaluate(edges, weights, outer_edges, outer_weights, half_width):
    outer_weights = outer_weights.clone().requires_grad_()
    losses = blurred_interlevel(edges, weights, outer_edges, outer_weights, half_width)
    (losses * torch.linspace(1, 2, len(losses))).sum().backward()
    return [losses.detach(), outer_weights.grad]


@pytest.mark.parametrize("half_width", [0.03, 0.003, 0.5])
def test_native_equals_reference(kernels, assert_close, half_width):
    for rays, samples, bins in ((0, 4, 4), (3, 1, 1), (200, 32, 64)):
        args = *histogram(rays, samples), *histogram(rays, bins, 1), half_width
        kernels()
        native = evaluate(*args)
        kernels("reference")
        assert_close(native, evaluate(*args), rtol=1e-4, atol=1e-5)


def test_degenerate_histograms_are_compared_alike(kernels, assert_close):
    edges, weights = histogram(6, 12)
    outer_edges, outer_weights = histogram(6, 9, 1)
    edges[0, 3:7] = edges[0, 3].clone()
    edges[1] = 0.4
    weights[2], outer_weights[3] = 0.0, 0.0
    outer_edges[4, 2:5] = outer_edges[4, 2].clone()
    weights[5], outer_weights[5] = torch.eye(12)[3], torch.eye(9)[8]
    args = edges, weights, outer_edges, outer_weights, 0.003
    kernels()
    native = evaluate(*args)
    assert all(bool(part.isfinite().all()) for part in native)
    kernels("reference")
    assert_close(native, evaluate(*args), rtol=1e-4, atol=1e-5)


def published_weights(edges, weights, outer_edges, half_width):
    """The published form for one ray: slopes at sorted knots, two sums, a piecewise quadratic."""
    p = torch.nn.functional.pad(weights / edges.diff(), (1, 1))
    jump = p.diff() / (2.0 * half_width)
    knots, order = torch.cat([edges - half_width, edges + half_width]).sort()
    slope = torch.cat([jump, -jump])[order].cumsum(0)
    value = torch.nn.functional.pad((slope[:-1] * knots.diff()).cumsum(0), (1, 0))
    cdf = torch.nn.functional.pad((0.5 * (value[1:] + value[:-1]) * knots.diff()).cumsum(0), (1, 0))
    z = outer_edges.clamp(knots[0], knots[-1])
    index = (torch.searchsorted(knots, z, right=True) - 1).clamp(0, len(knots) - 2)
    into = z - knots[index]
    return (cdf[index] + into * (value[index] + 0.5 * slope[index] * into)).diff()


@pytest.mark.parametrize("half_width", [0.03, 0.003])
def test_the_blur_is_the_published_one(half_width):
    edges, weights = (a.double() for a in histogram(6, 32))
    outer, _ = (a.double() for a in histogram(6, 20, 1))
    found = blurred_weights(edges, weights, outer, half_width)
    for r in range(6):
        wanted = published_weights(edges[r], weights[r], outer[r], half_width)
        torch.testing.assert_close(found[r], wanted, rtol=1e-8, atol=1e-10)


def test_a_proposal_that_misses_weight_is_pulled_up_and_no_other():
    edges, weights = torch.tensor([[0.0, 0.4, 0.5, 1.0]]), torch.tensor([[0.0, 0.9, 0.0]])
    outer_edges = torch.linspace(0, 1, 11)[None]
    losses, gradient = evaluate(edges, weights, outer_edges, torch.full((1, 10), 0.09), 0.003)
    assert losses.item() > 1.0
    assert gradient[0, 4] < -1.0 and (gradient[0, [0, 1, 2, 6, 7, 8, 9]] == 0).all()
    exact = blurred_weights(edges, weights, outer_edges, 0.003).float()
    assert exact[0, 4] > 0.85
    assert evaluate(edges, weights, outer_edges, exact, 0.003)[0].item() < 1e-6


def test_gradients_of_the_reference_are_right():
    edges, weights, outer_edges, outer = (a.double() for a in (*histogram(2, 8), *histogram(2, 5, 1)))
    assert torch.autograd.gradcheck(
        lambda q: blurred_reference(edges, weights, outer_edges, q, 0.03), (outer.requires_grad_(),)
    )


def test_only_the_proposal_has_a_gradient():
    edges, weights, outer_edges, outer = (a.requires_grad_() for a in (*histogram(2, 8), *histogram(2, 5, 1)))
    blurred_interlevel(edges, weights, outer_edges, outer, 0.03).sum().backward()
    assert edges.grad is None and weights.grad is None and outer_edges.grad is None and outer.grad.any()


def test_a_broken_ray_leaves_its_neighbours_alone():
    args = [*histogram(5, 8), *histogram(5, 6, 1), 0.03]
    wanted = evaluate(*args)
    args[1][2, 3] = math.nan
    for got, want in zip(evaluate(*args), wanted, strict=True):
        assert torch.equal(got[[0, 1, 3, 4]], want[[0, 1, 3, 4]])


def test_wrong_arguments_are_named():
    edges, weights = histogram(4, 6)
    outer_edges, outer = histogram(4, 5, 1)
    with pytest.raises(ValueError, match=r"^edges: expected torch.float32"):
        blurred_interlevel(edges.double(), weights, outer_edges, outer, 0.1)
    with pytest.raises(ValueError, match=r"^weights: "):
        blurred_interlevel(edges, weights[:, 1:], outer_edges, outer, 0.1)
    with pytest.raises(ValueError, match=r"^outer_edges: expected .*\(4, 6\)"):
        blurred_interlevel(edges, weights, outer_edges[:, 1:], outer, 0.1)
    with pytest.raises(ValueError, match=r"^outer_weights: "):
        blurred_interlevel(edges, weights, outer_edges[:2], outer[:2], 0.1)
    with pytest.raises(ValueError, match=r"^half_width: .* 0.0$"):
        blurred_interlevel(edges, weights, outer_edges, outer, 0.0)
