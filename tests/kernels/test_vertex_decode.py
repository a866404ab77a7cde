from dataclasses import replace

import pytest
import torch

from smerf.kernels import (
    Grids,
    GridSpec,
    HashSpec,
    VertexDecoder,
    Vertices,
    decode_vertices_,
    initial_params,
    vertex_gradients_,
)
from smerf.kernels.vertices import block_coordinates
from tests.helpers import emulation

SPEC = GridSpec(32, 64, scale=1.0)


def scene(features=4, voxels=1500, texels=2500, network=(24,), seed=0):
    """Return grids with gradients in their records, some of their vertices, and a decoder with its parameters."""
    generator = torch.Generator().manual_seed(seed)
    has_block = torch.rand(SPEC.blocks**3, generator=generator) < 0.3
    index = torch.where(has_block, has_block.long().cumsum(0) - 1, -1).view(3 * (SPEC.blocks,))
    grids = Grids.allocate(SPEC, index)
    for records in (grids.voxel_records, grids.plane_records):
        records[:, :8] = torch.randn(len(records), 8, generator=generator)
    rows = [
        torch.randperm(len(part), generator=generator)[:count].sort().values
        for part, count in ((grids.voxels, voxels), (grids.planes, texels))
    ]
    vertices = Vertices(*rows, block_coordinates(grids).int())
    spec = HashSpec(5, features, 9, 4, 40)
    decoder = VertexDecoder(spec, (spec.width, *network, 8), 3.0)
    table = torch.randn(spec.entry_count, features, generator=generator) * 0.5
    return grids, vertices, table, initial_params(decoder.dims, generator), decoder


def both(*arguments):
    """Return bytes, gradients and what is left in the records."""
    grids = arguments[0]
    decode_vertices_(*arguments)
    found = vertex_gradients_(*arguments)
    return grids.voxels, grids.planes, *found, grids.voxel_records, grids.plane_records


def assert_equal(found, wanted):
    for mine, theirs in zip(found[:2], wanted[:2]):
        # A value between two bytes goes either way.
        different = (mine != theirs).float().mean()
        assert (mine.int() - theirs.int()).abs().max() <= 1 and different < 2e-3
    for mine, theirs in zip(found[2:4], wanted[2:4]):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    for mine, theirs in zip(found[4:], wanted[4:]):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", [None, "baseline", "avx2"])
@pytest.mark.parametrize("features, network", [(1, (16,)), (2, (12, 20)), (4, (64,)), (8, ())])
def test_bytes_and_gradients_equal_those_of_the_reference(kernels, name, features, network):
    kernels(name)
    found = both(*scene(features, network=network))
    kernels("reference")
    wanted = both(*scene(features, network=network))
    assert_equal(found, wanted)
    assert len(wanted[0].unique()) > 100 and wanted[2].abs().max() > 1.0


def test_only_the_listed_vertices_change(kernels):
    kernels()
    grids, vertices, *rest = scene(voxels=700, texels=0)
    gradients = grids.voxel_records.clone()
    both(grids, vertices, *rest)
    listed = torch.zeros(len(grids.voxels), dtype=torch.bool)
    listed[vertices.voxels] = True
    assert (grids.voxels[~listed] == 128).all() and (grids.planes == 128).all()
    assert torch.equal(grids.voxel_records[~listed], gradients[~listed])
    assert not grids.voxel_records[listed].any() and grids.plane_records[:, :8].any()


def test_gradients_repeat_exactly_on_any_number_of_threads(kernels, assert_repeats):
    kernels()
    assert_repeats(lambda: both(*scene(voxels=4000, texels=9000)))


@pytest.mark.parametrize("name", [None, "reference"])
def test_a_gradient_that_is_not_finite_teaches_nothing(kernels, name):
    kernels(name)
    arguments = scene()
    records, rows = arguments[0].voxel_records, arguments[1].voxels
    records[rows[3], :8] = float("nan")
    records[rows[4], 2] = float("inf")
    found = vertex_gradients_(*arguments)
    assert all(torch.isfinite(part).all() for part in found) and found[0].any()
    assert not records[rows[3]].any()


def test_no_vertices(kernels):
    kernels()
    found = vertex_gradients_(*scene(voxels=0, texels=0))
    assert not found[0].any() and not found[1].any()


def test_other_shapes_are_refused():
    grids, vertices, table, network, decoder = scene()
    with pytest.raises(ValueError, match="dims"):
        VertexDecoder(decoder.spec, (7, 8))
    with pytest.raises(ValueError, match="table"):
        decode_vertices_(grids, vertices, table[1:], network, decoder)
    with pytest.raises(ValueError, match="blocks"):
        decode_vertices_(grids, replace(vertices, blocks=vertices.blocks[1:]), table, network, decoder)
    with pytest.raises(ValueError, match="voxels"):
        decode_vertices_(grids, replace(vertices, voxels=vertices.voxels.int()), table, network, decoder)


@pytest.mark.parametrize("features, network", [(2, (24,)), (4, (64, 16))])
def test_cuda_equals_the_reference(kernels, emulated, monkeypatch, features, network):
    with monkeypatch.context() as patch:
        emulation.use(patch, emulated("vertex_decode"))
        found = both(*scene(features, 150, 300, network))
    kernels("reference")
    assert_equal(found, both(*scene(features, 150, 300, network)))
