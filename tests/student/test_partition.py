import numpy as np
import pytest
import torch

from smerf.scene import SceneParams
from smerf.student.partition import Partition


@pytest.mark.parametrize(
    "edge, cell, centre",
    [
        (5, 0, (-0.8, -0.8, -0.8)),
        (5, 62, (0.0, 0.0, 0.0)),
        (5, 124, (0.8, 0.8, 0.8)),
        (3, 7, (-2 / 3, 2 / 3, 0.0)),
        (1, 0, (0.0, 0.0, 0.0)),
    ],
)
def test_centres(edge, cell, centre):
    np.testing.assert_allclose(Partition(edge, (cell,), 1.0).centre(0), centre, atol=1e-12)


def test_a_ray_belongs_to_the_cell_that_holds_its_origin():
    partition = Partition(3, tuple(range(27)), 1.0)
    origins = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    params = SceneParams(128, 32, submodel_grid_resolution=3, params_to_sm=partition.cells)
    expected = [params.region_of(origin.numpy()) for origin in origins]
    assert partition.assign(origins).tolist() == expected


def test_origins_outside_all_cells_go_to_the_nearest_one():
    partition = Partition(5, (0, 62, 124), 1.0)
    origins = torch.tensor([[-3.0, -1.0, -1.0], [0.3, 0.1, -0.3], [0.5, 0.45, 0.9]])
    assert partition.assign(origins).tolist() == [0, 1, 2]


def test_every_ray_is_given_out_once_a_fifth_of_them_to_neighbours():
    partition = Partition(3, (0, 1, 4, 13, 14, 26), 2.4)
    origins = torch.rand(400, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    fractions = torch.stack([partition.acceptance(origins, k, 0.2) for k in range(len(partition))], -1)
    torch.testing.assert_close(fractions.sum(-1), torch.ones(400))
    home, near = partition.served(origins)
    own = fractions[torch.arange(400), home]
    assert own[near.any(-1)].allclose(torch.tensor(0.8)) and own[~near.any(-1)].allclose(torch.tensor(1.0))
    assert (fractions > 0).sum(-1).max() > 2 and near.any() and not near.all(-1).any()


def test_neighbours_lie_on_the_side_of_the_origin():
    partition = Partition(3, tuple(range(27)), 2.4)
    # In the middle cell (13), a little towards +x and -z: the cells at (2, 1, 1), (1, 1, 0) and (2, 1, 0).
    home, near = partition.served(torch.tensor([[0.1, 0.0, -0.1]]))
    assert home.tolist() == [13] and sorted(torch.nonzero(near[0]).flatten().tolist()) == [12, 21, 22]
