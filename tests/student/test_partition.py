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


def test_a_cell_maps_to_the_unit_cube():
    partition = Partition(3, (7,), 1.0)
    corners = torch.tensor([[-1.0, 1 / 3, -1 / 3], [-1 / 3, 1.0, 1 / 3]])
    torch.testing.assert_close(partition.local(corners, 0), torch.tensor([[-1.0] * 3, [1.0] * 3]))
