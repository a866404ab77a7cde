import numpy as np
import pytest

from smerf.scene.grids import build_atlas, distance_grid, max_pool, pack_bits, unpack_bits


def test_packed_bit_of_a_child_is_4dx_2dy_dz():
    for dx, dy, dz in np.ndindex(2, 2, 2):
        occupied = np.zeros((4, 4, 4), bool)
        occupied[2 + dx, dy, 2 + dz] = True
        packed = pack_bits(occupied)
        assert packed[1, 0, 1] == 1 << (4 * dx + 2 * dy + dz)
        assert np.count_nonzero(packed) == 1


def test_unpacking_undoes_packing():
    occupied = np.random.default_rng(0).random((6, 8, 4)) < 0.3
    assert np.array_equal(unpack_bits(pack_bits(occupied)), occupied)


def test_pooling_marks_every_cell_with_content_and_pads_a_ragged_border():
    occupied = np.zeros((10, 10, 10), bool)
    occupied[9, 0, 4] = True
    pooled = max_pool(occupied, 4)
    assert pooled.shape == (3, 3, 3)
    assert np.argwhere(pooled).tolist() == [[2, 0, 1]]


def test_distance_counts_the_cells_that_a_ray_may_skip():
    occupied = np.zeros((12, 12, 12), bool)
    occupied[2, 3, 4] = occupied[9, 9, 1] = True
    cells = np.argwhere(np.ones_like(occupied)).reshape(12, 12, 12, 3)
    nearest = np.min([np.abs(cells - point).max(-1) for point in np.argwhere(occupied)], axis=0)
    assert np.array_equal(distance_grid(occupied), np.maximum(0, nearest - 1))


def test_distance_in_an_empty_grid_is_the_whole_grid():
    assert (distance_grid(np.zeros((6, 6, 6), bool)) == 6).all()


def test_every_block_is_found_through_the_index():
    rng = np.random.default_rng(1)
    grid, edge = 6, 5
    coords = np.argwhere(rng.random((grid, grid, grid)) < 0.3)[::-1]
    blocks = rng.integers(0, 256, (len(coords), edge, edge, edge, 8), np.uint8)
    atlas, index = build_atlas(blocks, coords, grid)
    assert atlas.dtype == np.uint8 and all(size % edge == 0 for size in atlas.shape[:3])
    assert (index[..., 0] != 255).sum() == len(coords)
    for coord, block in zip(coords, blocks):
        x, y, z = index[tuple(coord)].astype(int) * edge
        assert np.array_equal(atlas[x : x + edge, y : y + edge, z : z + edge], block)


def test_equal_blocks_share_a_slot():
    blocks = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 9, 8), dtype=np.uint8)
    blocks[3] = blocks[1]
    coords = np.array([[0, 0, 0], [1, 0, 0], [2, 3, 1], [3, 3, 3]])
    atlas, index = build_atlas(blocks, coords, 4)
    assert np.prod([edge // 9 for edge in atlas.shape[:3]]) == 3
    for block, (x, y, z) in zip(blocks, coords):
        a, b, c = index[x, y, z].astype(int) * 9
        np.testing.assert_array_equal(atlas[a : a + 9, b : b + 9, c : c + 9], block)


def test_an_atlas_wastes_little_and_has_no_extreme_edge():
    edge = 2
    blocks = np.zeros((211, edge, edge, edge, 8), np.uint8)
    coords = np.stack(np.unravel_index(np.arange(211), (8, 8, 8)), -1)
    atlas, _ = build_atlas(blocks, coords, 8)
    assert atlas.size // 8 // edge**3 <= 1.05 * 211
    assert max(atlas.shape[:3]) <= 10 * edge


def test_an_empty_scene_has_an_atlas_of_one_unused_slot():
    atlas, index = build_atlas(np.zeros((0, 9, 9, 9, 8), np.uint8), np.zeros((0, 3), int), 4)
    assert atlas.shape == (9, 9, 9, 8)
    assert (index == 255).all()


@pytest.mark.parametrize("coords", [[[0, 0, 4]], [[-1, 0, 0]], [[0, 0]]])
def test_bad_block_coordinates_are_refused(coords):
    with pytest.raises(ValueError, match="coords"):
        build_atlas(np.zeros((1, 9, 9, 9, 8), np.uint8), np.array(coords), 4)


def test_a_repeated_block_is_refused():
    with pytest.raises(ValueError, match="twice"):
        build_atlas(np.zeros((2, 9, 9, 9, 8), np.uint8), np.zeros((2, 3), int), 4)
