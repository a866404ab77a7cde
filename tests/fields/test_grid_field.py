import pytest
import torch

from smerf.fields.grid_field import FieldConfig, GridField
from smerf.fields.rays import Rays
from smerf.kernels import Frustums, HashSpec

GRID = HashSpec(3, 2, 8, 4, 16)
CUBE = Frustums(1.0, 1, "cube")


def make_fields(seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    shapes = FieldConfig(GRID, 8), FieldConfig(GRID, 8, 5, 12, 2)
    return [GridField(shape, generator, **options) for shape in shapes]


def make_rays(count=4):
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return Rays(torch.zeros(count, 3), directions, torch.full((count,), 0.01))


def make_edges(rays=4, samples=5):
    return torch.linspace(0.1, 0.9, samples + 1).expand(rays, -1).contiguous()


def test_a_field_depends_on_the_seed_alone():
    results = []
    for seed in (0, 0, 1):
        proposal, field = make_fields(seed)
        results.append(
            [proposal.density(make_rays(), make_edges(), CUBE), *field(make_rays(), make_edges(), CUBE)]
        )
    assert all(map(torch.equal, results[0], results[1]))
    assert not torch.equal(results[0][2], results[2][2])
    density, colour = results[0][1:]
    assert density.shape == (4, 5) and (density > 0).all()
    assert colour.shape == (4, 5, 3) and colour.min() > 0 and colour.max() < 1


@pytest.mark.parametrize("scale_features", [False, True])
def test_the_density_at_a_point_is_that_of_an_interval_there(scale_features):
    _, field = make_fields(scale_features=scale_features)
    points = torch.rand(12, 3) - 0.5
    rays = Rays(points, torch.zeros(12, 3), torch.zeros(12))
    wanted = field.density(rays, torch.zeros(12, 2), CUBE)[:, 0]
    torch.testing.assert_close(field.density_at((points + 2.0) / 4.0), wanted)


def test_every_parameter_learns():
    proposal, field = make_fields()
    rays, edges = make_rays(10), make_edges(10, 4)
    density, colour = field(rays, edges, CUBE)
    (density.sum() + colour.square().sum() + proposal.density(rays, edges, CUBE).sum()).backward()
    for parameter in (*proposal.parameters(), *field.parameters()):
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any()


@pytest.mark.parametrize(
    ("name", "value"), [("width", 0), ("geometry", -1), ("colour_layers", 0), ("width", 10**6)]
)
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* got {value}"):
        FieldConfig(GRID, **{"width": 8, name: value})
