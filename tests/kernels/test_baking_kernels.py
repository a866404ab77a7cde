import numpy as np
import pytest
import torch

from smerf.kernels import Grids, GridSpec, block_samples, distance_grid
from smerf.kernels.reference import block_samples as block_reference
from smerf.kernels.reference import distance_grid as distance_reference
from smerf.scene import grids as scene_grids


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 9), (24, 24, 24)])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.2, 1.0])
def test_the_distance_grid_equals_the_reference(shape, share):
    occupied = random(*shape) < share
    found = distance_grid(occupied)
    assert torch.equal(found, distance_reference.distance_grid(occupied))
    assert np.array_equal(found.numpy(), scene_grids.distance_grid(occupied.numpy()))


def test_distances_beyond_a_byte_are_cut():
    occupied = torch.zeros(1, 2, 600, dtype=torch.bool)
    occupied[0, 0, 0] = True
    wanted = (torch.arange(600) - 1).clamp(0, 255).to(torch.uint8)
    assert torch.equal(distance_grid(occupied)[0, 1, 1:], wanted[1:])
    assert torch.equal(distance_grid(occupied), distance_reference.distance_grid(occupied))


def test_grids_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="occupied"):
        distance_grid(torch.zeros(3, 3, 3))


def make_grids() -> Grids:
    spec = GridSpec(24, 16, scale=1.0)
    alive = random(spec.blocks**3) < 0.6
    index = torch.where(alive, alive.long().cumsum(0) - 1, -1).view(3 * (spec.blocks,))
    grids = Grids.allocate(spec, index, records=False)
    grids.voxels.copy_((256 * random(*grids.voxels.shape, seed=1)).to(torch.uint8))
    return grids


def test_samples_of_blocks_equal_the_reference():
    grids = make_grids()
    coords = torch.nonzero(torch.ones_like(grids.block_index)).int()
    found = block_samples(grids, coords)
    assert torch.equal(found, block_reference.block_samples(grids, coords))
    # The apron of a block is the first layer of the next one.
    first, second = (
        int(torch.nonzero((coords == torch.tensor(at)).all(-1))) for at in ((0, 0, 0), (0, 0, 1))
    )
    assert torch.equal(found[first, :, :, 8], found[second, :, :, 0])


def test_blocks_outside_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"blocks in 0 \.\. 2"):
        block_samples(make_grids(), torch.tensor([[0, 0, 3]], dtype=torch.int32))
    assert block_samples(make_grids(), torch.zeros(0, 3, dtype=torch.int32)).shape == (0, 9, 9, 9, 8)
