import pytest
import torch

from smerf.fields.sampling import halved
from smerf.kernels import importance_sample


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def resample(edges, weights, samples, random, mix):
    """Sample edges with one jitter a ray, or at bin centres without a generator."""
    jitter = None if random is None else torch.rand(len(edges), generator=random) - 0.5
    return importance_sample(edges.detach(), weights, samples, jitter, mix)


def histogram(rays, bins, seed=0):
    edges = torch.rand(rays, bins - 1, generator=generator(seed)).sort(-1).values
    edges = torch.cat([torch.zeros(rays, 1), edges, torch.ones(rays, 1)], -1)
    return edges, torch.rand(rays, bins, generator=generator(seed + 1)) ** 3


@pytest.mark.parametrize("source", [None, 0])
@pytest.mark.parametrize("samples", [1, 2, 33])
def test_one_bin_gives_even_edges_that_jitter_shifts_as_one(source, samples):
    whole = torch.tensor([0.0, 1.0]).expand(50, 2)
    edges = resample(whole, torch.ones(50, 1), samples, None if source is None else generator(source), 0.0)
    assert edges.shape == (50, samples + 1) and (edges.diff() > 0).all()
    even = torch.linspace(0, 1, samples + 1).expand(50, -1)
    assert (edges - even).abs().max() <= (0.5 / samples + 1e-6 if source is not None else 1e-6)
    if source is not None and samples > 1:
        assert edges[:, 1].std() > 0.1 / samples
        torch.testing.assert_close(edges[:, 1:-1].diff(), even[:, 1:-1].diff())


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 64])
def test_sampled_edges_ascend_within_the_unit_interval(random, samples):
    edges, weights = histogram(200, 20)
    weights[0], weights[1] = 0.0, 1e-30
    weights[2] = torch.eye(20)[7]
    edges[3, 5:10] = edges[3, 5:6]
    edges[4] = torch.linspace(0, 1, 21)
    sampled = resample(edges, weights, samples, generator() if random else None, 0.01)
    assert sampled.shape == (200, samples + 1) and torch.isfinite(sampled).all()
    assert (sampled.diff() >= 0).all() and sampled.min() >= 0 and sampled.max() <= 1


def mass_between(edges, weights, low, high):
    """Return the histogram's probability between two places."""
    fraction = (edges[:, 1:].clamp(max=high) - edges[:, :-1].clamp(min=low)).clamp_min(0) / edges.diff()
    return (weights / weights.sum(-1, keepdim=True) * fraction).sum(-1)


@pytest.mark.parametrize("random", [False, True])
def test_samples_follow_the_histogram(random):
    edges, weights = histogram(40, 12)
    sampled = resample(edges, weights, 2000, generator() if random else None, 0.0)
    centres = 0.5 * (sampled[:, 1:] + sampled[:, :-1])
    for low, high in ((0.0, 0.3), (0.3, 0.5), (0.5, 1.0)):
        fraction = ((centres >= low) & (centres < high)).float().mean(-1)
        # Two thousand quantiles and two borders: each end of a range may fall one sample off.
        assert (fraction - mass_between(edges, weights, low, high)).abs().max() < 2e-3


def test_all_samples_go_where_all_the_weight_is():
    edges = torch.linspace(0, 1, 11)[None]
    weights = torch.eye(10)[3][None]
    sampled = resample(edges, weights, 32, None, 0.0)
    assert sampled.min() >= 0.3 - 1e-6 and sampled.max() <= 0.4 + 1e-6
    assert sampled.max() - sampled.min() > 0.09


def test_the_mix_spreads_its_fraction_evenly():
    edges = torch.linspace(0, 1, 11)[None]
    weights = torch.eye(10)[3][None]
    sampled = resample(edges, weights, 1000, None, 0.4)
    centres = 0.5 * (sampled[:, 1:] + sampled[:, :-1])
    inside = ((centres > 0.3) & (centres < 0.4)).float().mean()
    assert inside.item() == pytest.approx(0.6 + 0.04, abs=2e-3)
    assert (centres < 0.3).float().mean().item() == pytest.approx(0.12, abs=2e-3)


def test_without_weight_samples_are_even():
    edges, weights = torch.linspace(0, 1, 11).expand(2, -1), torch.zeros(2, 10)
    sampled = resample(edges, weights, 8, None, 0.0)
    torch.testing.assert_close(sampled, torch.linspace(0, 1, 9).expand(2, -1))


def test_jitter_moves_a_ray_as_one_and_depends_on_the_seed():
    edges, weights = torch.linspace(0, 1, 11).expand(3, -1), torch.ones(3, 10)
    still = resample(edges, weights, 10, None, 0.0)
    one, same, other = (resample(edges, weights, 10, generator(seed), 0.0) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    shift = (one - still)[:, 1:-1]
    assert (shift - shift[:, :1]).abs().max() < 1e-5 and shift.abs().max() <= 0.05 + 1e-6


def test_nothing_is_differentiated():
    edges, weights = histogram(2, 5)
    assert not importance_sample(edges, weights.requires_grad_(), 4, None, 0.1).requires_grad


def test_halved_intervals_keep_their_ends():
    edges = torch.tensor([[0.0, 1.0, 4.0], [2.0, 2.0, 3.0]])
    assert torch.equal(halved(edges), torch.tensor([[0.0, 0.5, 1.0, 2.5, 4.0], [2.0, 2.0, 2.0, 2.5, 3.0]]))
