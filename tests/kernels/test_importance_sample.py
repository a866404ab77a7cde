import math

import pytest
import torch

from smerf.kernels import importance_sample


def histogram(rays, bins, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.rand(rays, bins - 1, generator=generator).sort(-1).values
    edges = torch.cat([torch.zeros(rays, 1), edges, torch.ones(rays, 1)], -1)
    weights = torch.rand(rays, bins, generator=generator) ** 3
    return edges, weights, torch.rand(rays, generator=generator) - 0.5


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("with_jitter", [False, True])
def test_native_equals_reference(kernels, with_jitter, mix):
    for rays, bins, samples in ((0, 4, 4), (3, 1, 1), (5, 7, 2), (300, 64, 33)):
        edges, weights, jitter = histogram(rays, bins)
        args = edges, weights, samples, jitter if with_jitter else None, mix
        kernels()
        native = importance_sample(*args)
        kernels("reference")
        # Where the histogram is nearly empty a rounding of the sum moves a sample: 3e-5 at worst.
        torch.testing.assert_close(native, importance_sample(*args), rtol=0, atol=1e-4)


def test_degenerate_histograms_are_drawn_alike(kernels):
    edges, weights, _ = histogram(6, 20)
    weights[0], weights[1], weights[2] = 0.0, 1e-30, torch.eye(20)[7]
    edges[3, 5:10] = edges[3, 5].clone()
    edges[4, :] = 0.25
    weights[5] = 1e30
    for mix in (0.0, 0.05):
        kernels()
        native = importance_sample(edges, weights, 16, None, mix)
        assert native.isfinite().all() and (native.diff() >= 0).all()
        assert (native >= 0).all() and (native <= 1).all()
        kernels("reference")
        torch.testing.assert_close(
            native, importance_sample(edges, weights, 16, None, mix), rtol=0, atol=1e-4
        )


def test_even_weights_give_even_edges():
    edges, weights = torch.linspace(0, 1, 9).expand(2, -1), torch.ones(2, 8)
    torch.testing.assert_close(importance_sample(edges, weights, 4), torch.linspace(0, 1, 5).expand(2, -1))


def test_a_broken_ray_leaves_its_neighbours_alone():
    edges, weights, jitter = histogram(5, 9)
    wanted = importance_sample(edges, weights, 8, jitter, 0.1)
    weights[2, 4] = math.nan
    found = importance_sample(edges, weights, 8, jitter, 0.1)
    assert torch.equal(found[[0, 1, 3, 4]], wanted[[0, 1, 3, 4]])


def test_wrong_arguments_are_named():
    edges, weights, jitter = histogram(4, 6)
    with pytest.raises(ValueError, match=r"^edges: expected torch.float32"):
        importance_sample(edges.double(), weights, 4)
    with pytest.raises(ValueError, match=r"^edges: expected at least two"):
        importance_sample(edges[:, :1], weights[:, :0], 4)
    with pytest.raises(ValueError, match=r"^weights: expected .*\(4, 6\)"):
        importance_sample(edges, weights[:, 1:], 4)
    with pytest.raises(ValueError, match=r"^jitter: "):
        importance_sample(edges, weights, 4, jitter[:2])
    with pytest.raises(ValueError, match=r"^samples: .* 0$"):
        importance_sample(edges, weights, 0)
    with pytest.raises(ValueError, match=r"^mix: .* 1.5$"):
        importance_sample(edges, weights, 4, None, 1.5)
    with pytest.raises(ValueError, match=r"^weights: expected device cpu"):
        importance_sample(edges, weights.to("meta"), 4)
