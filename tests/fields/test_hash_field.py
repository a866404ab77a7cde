import torch

from smerf.fields.directions import spherical_harmonics
from smerf.fields.hash_field import DensityField, RadianceField
from smerf.kernels import HashSpec

GRID = HashSpec(3, 2, 8, 4, 16)


def make_fields(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return DensityField(GRID, 8, generator), RadianceField(GRID, 8, 5, 12, 2, generator)


def test_a_field_depends_on_the_seed_alone():
    x, sigma = torch.rand(20, 3), torch.rand(20) * 0.01
    directions = spherical_harmonics(torch.nn.functional.normalize(torch.randn(4, 3), dim=-1))
    results = []
    for seed in (0, 0, 1):
        proposal, field = make_fields(seed)
        results.append([proposal(x, sigma), *field(x, sigma, directions)])
    assert all(map(torch.equal, results[0], results[1]))
    assert not torch.equal(results[0][2], results[2][2])
    density, colour = results[0][1:]
    assert density.shape == (20,) and (density > 0).all()
    assert colour.shape == (20, 3) and colour.min() > 0 and colour.max() < 1


def test_density_alone_is_the_same_density():
    _, field = make_fields()
    x = torch.rand(12, 3)
    density, _ = field(x, None, torch.zeros(3, 16))
    torch.testing.assert_close(field.density(x), density.detach())
    assert not field.density(x).requires_grad


def test_every_parameter_learns():
    proposal, field = make_fields()
    x, directions = torch.rand(40, 3), torch.randn(10, 16)
    density, colour = field(x, torch.full((40,), 0.01), directions)
    (density.sum() + colour.square().sum() + proposal(x, None).sum()).backward()
    for parameter in (*proposal.parameters(), *field.parameters()):
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any()
