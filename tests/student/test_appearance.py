import numpy as np
import pytest
import torch

from smerf.kernels.reference.appearance import encode_inputs
from smerf.scene import SceneParams, lattice_mlp_at
from smerf.student.appearance import AppearanceLattice


def make_lattice(lattice=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    network = AppearanceLattice(lattice, 16, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


def make_inputs(rays=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    return torch.rand(rays, 14, generator=generator), directions


def evaluate(arrays, features, directions):
    """Evaluate one network in numpy, as the asset format describes it."""
    d = directions.numpy().astype(np.float64)
    waves = [np.sin(2.0**k * d) for k in range(4)] + [np.sin(2.0**k * d + np.pi / 2) for k in range(4)]
    x = np.concatenate([features.numpy(), d, *waves], -1)
    for i in range(3):
        x = x @ arrays[f"ResampleDense_{i}/kernel"] + arrays[f"ResampleDense_{i}/bias"]
        x = np.where(x > 0, x, np.expm1(x)) if i < 2 else 1.0 / (1.0 + np.exp(-x))
    return x


@pytest.mark.parametrize("lattice, count", [(1, 995), (5, 124375)])
def test_parameter_count(lattice, count):
    network = make_lattice(lattice)
    assert sum(p.numel() for p in network.parameters()) == count


def test_inputs_are_features_direction_sines_cosines():
    features, directions = make_inputs()
    x = encode_inputs(features, directions)
    assert x.shape == (20, 41)
    torch.testing.assert_close(x[:, :14], features)
    torch.testing.assert_close(x[:, 14:17], directions)
    torch.testing.assert_close(x[:, 20:23], torch.sin(2.0 * directions))
    torch.testing.assert_close(x[:, 38:41], torch.sin(8.0 * directions + torch.pi / 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lattice", [1, 3])
def test_the_network_is_the_one_that_viewers_evaluate(lattice):
    other, network = make_lattice(lattice), make_lattice(lattice, seed=1)
    features, directions = make_inputs()
    params = SceneParams(128, 32, submodel_grid_resolution=3, params_to_sm=(7, 13))
    both = other.arrays(), network.arrays()
    arrays = {name: torch.stack([one[name] for one in both]).numpy() for name in both[0]}
    # At vertices, between them, and beyond the outermost.
    for local in ([0.0, 0.0, 0.0], [-2 / 3, 2 / 3, 0.0], [0.1, -0.4, 0.55], [-0.9, 0.95, 2.0]):
        position = params.submodel_centre(1) + np.array(local) / 3.0
        wanted = evaluate(lattice_mlp_at(params, arrays, 1, position), features, directions)
        got = network(features, directions, torch.tensor([local]).expand(20, 3))
        np.testing.assert_allclose(got.detach().numpy(), wanted, atol=2e-6)


def test_a_vertex_reads_its_own_parameters_only():
    network = make_lattice(3)
    features, directions = make_inputs()
    arrays = {name: value[2, 1, 0].numpy() for name, value in network.arrays().items()}
    # Vertex (z, y, x) = (2, 1, 0) sits at the centre of a third of the cell.
    here = torch.tensor([[-2 / 3, 0.0, 2 / 3]]).expand(20, 3)
    got = network(features, directions, here).detach().numpy()
    np.testing.assert_allclose(got, evaluate(arrays, features, directions), atol=2e-6)
    # Outside the outermost vertices nothing changes any more.
    beyond = torch.tensor([[-1.7, 0.0, 5.0]]).expand(20, 3)
    np.testing.assert_allclose(network(features, directions, beyond).detach().numpy(), got, atol=2e-6)


def test_each_ray_has_the_network_of_its_own_origin():
    network = make_lattice(3)
    features, directions = make_inputs()
    positions = torch.rand(20, 3, generator=torch.Generator().manual_seed(5)) * 2 - 1
    together = network(features, directions, positions)
    apart = [network(features[i : i + 1], directions[i : i + 1], positions[i : i + 1]) for i in range(20)]
    torch.testing.assert_close(together, torch.cat(apart))


def test_at_the_start_the_residual_is_small_and_all_vertices_agree():
    network = AppearanceLattice(5, 16, torch.Generator().manual_seed(0))
    features, directions = make_inputs(500)
    positions = torch.rand(500, 3) * 2 - 1
    residual = network(features, directions, positions)
    torch.testing.assert_close(residual, network(features, directions, torch.zeros(500, 3)))
    assert residual.mean() < 0.2


def test_roughness_is_the_squared_step_between_neighbours_a_parameter():
    network = AppearanceLattice(3, 16, torch.Generator().manual_seed(0))
    assert float(network.roughness().detach()) == 0.0
    with torch.no_grad():
        # One parameter of the middle vertex: two neighbours along each of three axes.
        network.biases[0][1, 1, 1, 0] += 2.0
        assert float(network.roughness()) == pytest.approx(6 * 4.0 / (27 * 995))
        network.biases[0][1, 1, 1, 0] -= 2.0
        # A slope along x costs every step of it.
        network.biases[2] += torch.arange(3.0)[:, None]
        assert float(network.roughness()) == pytest.approx(9 * 2 * 3 / (27 * 995))
