from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.baking.bake import scene_params
from smerf.baking.submodel import bake_submodel, gather_blocks, serving_blocks, used_texels
from smerf.kernels import Grids, GridSpec, grid_read
from smerf.render.reference import sample_assets
from smerf.scene.grids import unpack_bits
from smerf.student.partition import Partition
from smerf.student.visibility import OccupiedCells
from tests.helpers.toy_room import CONFIG, Room, make_student

SPEC = GridSpec(64, 256, 1.0)


def make_grids(blocks, spec=SPEC, seed=0):
    """Return grids of random bytes with the given blocks, (B, B, B) bool."""
    blocks = torch.as_tensor(blocks)
    index = torch.where(blocks, blocks.reshape(-1).long().cumsum(0).view(blocks.shape) - 1, -1)
    grids = Grids.allocate(spec, index)
    generator = torch.Generator().manual_seed(seed)
    for records in (grids.voxel_records, grids.plane_records):
        records[:, 8:16] = torch.randn(len(records), 8, generator=generator)
    grids.requantise()
    return grids


def random_blocks(spec=SPEC, share=0.5, seed=1):
    inner = torch.zeros((spec.blocks,) * 3, dtype=torch.bool)
    chance = torch.rand((spec.blocks - 2,) * 3, generator=torch.Generator().manual_seed(seed))
    inner[1:-1, 1:-1, 1:-1] = chance < share
    return inner


def cells_of(spec, share, seed=2):
    """Return alive cells: random clumps."""
    size = spec.plane_resolution // 4
    seen = np.random.default_rng(seed).random((size // 4,) * 3) < share
    return OccupiedCells(spec, np.packbits(seen.repeat(4, 0).repeat(4, 1).repeat(4, 2)))


def random_points(count, seed=3, reach=1.5):
    """Return points whose interpolation weights are exact in single precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(int(-reach * 4096), int(reach * 4096), (count, 3), generator=generator) / 4096.0


@pytest.mark.parametrize("ratio, dilation", [(4, 0), (4, 1), (8, 1), (2, 1)])
def test_baked_assets_hold_exactly_the_simulated_student(ratio, dilation):
    student = make_student(config=replace(CONFIG, voxel_resolution=64, plane_resolution=64 * ratio))
    spec = student.submodels[0].grids.spec
    grids = make_grids(random_blocks(spec), spec)
    baked = bake_submodel(grids, cells_of(spec, 0.05), 0, dilation)
    params = replace(scene_params(student), params_to_sm=(0,))
    points = random_points(60_000)
    voxels, planes, alive = grid_read(grids, points)
    density, fine, coarse = sample_assets(baked, params, points.double())
    served = torch.isfinite(density)
    assert 5_000 < served.sum() < 55_000
    # A served point has data in the simulation too, and nothing is served outside it.
    assert alive[served].all()
    gated = (voxels + voxels[:, 7:] * planes)[served].double()
    torch.testing.assert_close(coarse[served], voxels[served, 1:].double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(fine[served], gated[:, 1:], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(density[served], gated[:, 0], rtol=1e-5, atol=1e-4)


def test_every_occupied_cell_with_data_is_served_everywhere():
    grids, cells = make_grids(random_blocks()), cells_of(SPEC, 0.05)
    baked = bake_submodel(grids, cells, 0, 1)
    params = scene_params(make_student(config=replace(CONFIG, voxel_resolution=64, plane_resolution=256)))
    points = random_points(60_000)
    at = ((points + 2.0) / 4.0 * cells.size).long()
    occupied = torch.from_numpy(unpack_bits(baked.occupancy[8]))[tuple(at.T)]
    seen = torch.from_numpy(cells.grid())[tuple(at.T)]
    alive = grid_read(grids, points)[2]
    served = torch.isfinite(sample_assets(baked, params, points.double())[0])
    assert served[alive & occupied].all()
    # What was seen and holds data is occupied, so it is drawn.
    assert (alive & seen).sum() > 1_000 and occupied[alive & seen].all()


def test_blocks_repeat_their_neighbours_first_layers():
    blocks = torch.zeros(8, 8, 8, dtype=torch.bool)
    blocks[2:4, 3, 3] = blocks[7, 7, 7] = True
    grids = make_grids(blocks)
    coords = np.argwhere(blocks.numpy())
    baked = gather_blocks(grids, coords)
    first, second, corner = (grids.voxels.view(-1, 8, 8, 8, 8).numpy()[n] for n in range(3))
    assert baked.shape == (3, 9, 9, 9, 8)
    np.testing.assert_array_equal(baked[0, :8, :8, :8], first)
    np.testing.assert_array_equal(baked[0, 8, :8, :8], second[0])
    # Where no block follows: no density, and features next to zero.
    absent = np.array([0, *[128] * 7])
    assert (baked[0, :8, 8] == absent).all() and (baked[0, :, :, 8] == absent).all()
    assert (baked[1, 8] == absent).all()
    # At the end of the grid the last layer repeats, as the simulation clamps.
    np.testing.assert_array_equal(baked[2, 8, :8, :8], corner[7])
    np.testing.assert_array_equal(baked[2, 8, 8, 8], corner[7, 7, 7])


@pytest.mark.parametrize("cell, wanted", [(15, [1]), (16, [1, 2]), (17, [2]), (23, [2]), (24, [2, 3])])
def test_a_cell_at_a_blocks_border_needs_the_block_below_too(cell, wanted):
    # With four texels a voxel, cell n reaches from half a voxel below voxel n to half a voxel above.
    grids = make_grids(torch.ones(8, 8, 8, dtype=torch.bool))
    occupied = np.zeros((64, 64, 64), bool)
    occupied[cell, 20, 20] = True
    serving = serving_blocks(occupied, grids.spec.voxel_resolution)
    assert np.argwhere(serving).tolist() == [[x, 2, 2] for x in wanted]
    inside = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([cell, 20, 20])
    served = ((inside - 0.5) / 8.0).floor().long()
    assert serving[tuple(served.T)].all()


def test_blocks_without_data_are_not_baked():
    grids = make_grids(random_blocks(share=0.3))
    baked = bake_submodel(grids, OccupiedCells(SPEC, np.packbits(np.ones(64**3, bool))), 0, 0)
    np.testing.assert_array_equal(baked.block_indices[..., 0] != 255, grids.block_index.numpy() >= 0)


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_planes_keep_every_texel_that_an_alive_block_reads(ratio):
    blocks = random_blocks(share=0.1, seed=5).numpy()
    resolution = 64 * ratio
    used = used_texels(blocks, resolution)
    points = random_points(200_000, reach=2.0).double()
    block = (((points + 2.0) / 4.0 * 64 - 0.5) / 8.0).floor().long().clamp(0, 7)
    points = points[torch.from_numpy(blocks)[tuple(block.T)]]
    assert len(points) > 1_000
    low = ((points + 2.0) / 4.0 * resolution - 0.5).floor().long()
    for plane, axes in enumerate(((1, 2), (0, 2), (0, 1))):
        for corner in np.ndindex(2, 2):
            texel = (low[:, axes] + torch.tensor(corner)).clamp(0, resolution - 1)
            assert used[plane][tuple(texel.T.numpy())].all()
    assert used.mean() < 0.9


def test_texels_that_nothing_reads_are_cleared():
    blocks = torch.zeros(8, 8, 8, dtype=torch.bool)
    blocks[2, 3, 4] = True
    grids = make_grids(blocks)
    baked = bake_submodel(grids, OccupiedCells(SPEC, np.packbits(np.ones(64**3, bool))), 0, 0)
    used = used_texels(blocks.numpy(), 256)
    planes = grids.planes.view(3, 256, 256, 8).numpy()
    np.testing.assert_array_equal(baked.planes[used], planes[used])
    assert not baked.planes[~used].any() and used.any() and not used.all()


def test_occupancy_and_distance_describe_the_same_cells():
    grids, cells = make_grids(random_blocks()), cells_of(SPEC, 0.02)
    baked = bake_submodel(grids, cells, 0, 1)
    occupied = unpack_bits(baked.occupancy[8])
    assert occupied.shape == (64, 64, 64) and baked.distance[8].shape == (32, 32, 32)
    assert 0.0 < occupied.mean() < 0.5
    # Nothing is occupied but what was seen or lies next to it.
    grown = np.zeros_like(occupied)
    for x, y, z in np.ndindex(3, 3, 3):
        grown |= np.roll(cells.grid(), (x - 1, y - 1, z - 1), (0, 1, 2))
    assert not (occupied & ~grown).any()
    # From a cell of value k, no cell nearer than k + 1 is occupied, and some cell at that distance is.
    coarse = occupied.reshape(32, 2, 32, 2, 32, 2).any((1, 3, 5))
    where = np.argwhere(coarse)
    rng = np.random.default_rng(0)
    for cell in rng.integers(0, 32, (300, 3)):
        nearest = np.abs(where - cell).max(-1).min()
        assert baked.distance[8][tuple(cell)] == max(0, nearest - 1)


def test_a_submodel_that_nobody_sees_is_empty():
    grids = make_grids(random_blocks())
    baked = bake_submodel(grids, OccupiedCells(SPEC), 5, 1)
    assert baked.index == 5 and (baked.block_indices == 255).all()
    assert not baked.occupancy[8].any() and (baked.distance[8] == 32).all() and not baked.planes.any()


def test_baking_leaves_the_student_alone():
    student = make_student(Room(), noise=0.3)
    grids, cells = student.submodels[0].grids, student.submodels[0].occupied
    before = grids.voxels.clone(), grids.planes.clone(), grids.block_index.clone(), cells.packed()
    bake_submodel(grids, cells, 0, 2)
    after = grids.voxels, grids.planes, grids.block_index
    assert all(map(torch.equal, before[:3], after)) and (cells.packed() == before[3]).all()


def test_a_submodel_away_from_the_centre_reads_the_same():
    student = make_student(config=replace(CONFIG, lattice=2), partition=Partition(3, (7, 13), 3.0), noise=1.0)
    params = scene_params(student)
    points = random_points(5_000, reach=1.0)
    for k in range(2):
        baked = bake_submodel(
            student.submodels[k].grids, student.submodels[k].occupied, params.params_to_sm[k], 0
        )
        np.testing.assert_allclose(
            params.submodel_centre(k), student.submodels[k].grids.spec.centre, atol=1e-12
        )
        voxels, _, alive = grid_read(student.submodels[k].grids, points)
        density, _, coarse = sample_assets(baked, params, points.double())
        assert torch.equal(torch.isfinite(density), alive) and alive.any()
        torch.testing.assert_close(coarse[alive], voxels[alive, 1:].double(), rtol=0, atol=1e-4)


def test_surfaces_are_grown_and_haze_is_not():
    student = make_student(Room())
    rows = np.zeros((2, 32, 32, 32), bool)
    rows[0, 10, 16, 16] = rows[0, 20, 16, 16] = True
    rows[1, 20, 16, 16] = True
    cells = OccupiedCells(student.submodels[0].grids.spec, np.packbits(rows.reshape(2, -1), axis=-1))
    occupied = unpack_bits(bake_submodel(student.submodels[0].grids, cells, 0, 1).occupancy[8])
    assert occupied[10, 16, 16] and not occupied[9, 16, 16]
    assert occupied[19:22, 15:18, 15:18].all() and occupied.sum() == 28
