import math

import pytest
import torch

from smerf.fields.rays import Rays
from smerf.kernels import Grids, GridSpec, grid_read
from smerf.kernels.vertices import block_coordinates, texel_positions, voxel_positions
from smerf.student.initialise import initialise_from_rays, initialise_from_teacher, to_contracted, to_training
from smerf.student.model import grid_spec
from smerf.student.partition import Partition
from smerf.student.ray_pool import TeacherBatch
from smerf.student.visibility import VoxelVotes
from tests.helpers.toy_room import CONFIG, Room, make_student

SPEC = GridSpec(32, 128, scale=1.5, centre=(0.1, -0.2, 0.3))


def rays_to(points, weights):
    """Return rays, one a point, with edges and weights: they see it in the middle one of three intervals."""
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, -0.5]]), dim=-1).expand(
        len(points), 3
    )
    edges = torch.tensor([[0.8, 0.99, 1.01, 1.2]]).expand(len(points), 4)
    rays = Rays(points - directions, directions, torch.zeros(len(points)))
    middle = torch.tensor(weights)[:, None]
    return rays, edges, torch.cat([middle * 0, middle, middle * 0], 1)


def test_training_and_contracted_space_are_inverse():
    points = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) * 2.0
    there = to_contracted(points, SPEC)
    assert there.abs().max() < 2.0
    torch.testing.assert_close(to_training(there, SPEC), points, rtol=1e-4, atol=1e-4)
    # On viewer axes x is mirrored, and y and z are swapped.
    offset = torch.tensor(SPEC.centre) + torch.tensor([[0.1, 0.2, 0.3]])
    torch.testing.assert_close(to_contracted(offset, SPEC), 1.5 * torch.tensor([[-0.1, 0.3, 0.2]]))


def test_vertices_lie_where_rendering_reads_them():
    student = make_student(noise=1.0)
    grids = student.submodels[0].grids
    rows = torch.arange(len(grids.voxels))
    points = voxel_positions(grids.spec, block_coordinates(grids))
    values, _, alive = grid_read(grids, points)
    # A vertex on the border of its block may round to the block below.
    torch.testing.assert_close(values[alive], feature(grids, grids.voxels)[alive], rtol=0, atol=1e-3)
    assert alive.float().mean() > 0.9 and len(points) == len(rows)


def feature(grids, values):
    share = values.float() / 255.0
    return torch.cat([-14.0 + 28.0 * share[:, :1], -7.0 + 14.0 * share[:, 1:]], -1)


def test_texels_lie_on_the_slice_at_index_0_of_their_planes_axis():
    student = make_student(teacher=Room(), noise=1.0)
    grids, size = student.submodels[0].grids, 128
    cells = torch.randint(40, 88, (200, 3), generator=torch.Generator().manual_seed(0))
    x, y, z = cells.unbind(-1)
    rows = torch.stack([y * size + z, (size + x) * size + z, (2 * size + x) * size + y])
    point = (cells + 0.5) * (4.0 / size) - 2.0
    for plane in range(3):
        got = texel_positions(grids.spec, rows[plane])
        wanted = point.clone()
        wanted[:, plane] = -2.0 + 2.0 / size
        torch.testing.assert_close(got, wanted)
    _, planes, alive = grid_read(grids, point)
    assert alive.all()
    wanted = sum(feature(grids, grids.planes[row]) for row in rows)
    torch.testing.assert_close(planes, wanted, rtol=0, atol=2e-3)


def test_voxels_start_with_the_teachers_density_and_colour():
    teacher, eye = Room(), torch.tensor([[0.6, 0.0, 0.1]])
    student = make_student(teacher)
    grids = student.submodels[0].grids
    points = voxel_positions(grids.spec, block_coordinates(grids))
    values, planes, alive = grid_read(grids, points)
    values, planes, points = values[alive], planes[alive], points[alive]
    where = to_training(points, grids.spec)
    # Half a byte, and what the planes' byte next to zero adds.
    density = values[:, 0] + values[:, 7] * planes[:, 0]
    wanted = (torch.log(teacher.density(where).clamp_min(1e-9)) + 1.0).clamp(-14.0, 14.0)
    assert (density - wanted).abs().max() < 14.0 / 255.0 + 0.45 * 3 * 14.0 / 255.0 + 1e-3
    colour = torch.sigmoid(values[:, 1:4])
    wanted = teacher.colour(where, torch.nn.functional.normalize(where - eye, dim=-1))
    assert (colour - wanted.clamp(1e-3, 1 - 1e-3)).abs().max() < 0.25 * 7.0 / 255.0 + 1e-4
    assert (values[:, 4:7].abs() < 0.03).all() and (values[:, 7] - 0.4).abs().max() < 7.0 / 255.0 + 1e-4
    assert (grids.planes == 128).all()


def test_an_empty_index_gives_empty_grids():
    spec = grid_spec(CONFIG, Partition(1, (0,), 1.0), 0)
    grids = Grids.allocate(spec, torch.full((4, 4, 4), -1, dtype=torch.int32))
    initialise_from_teacher(grids, Room(), torch.zeros(1, 3), 0.4, torch.Generator())
    assert grids.voxels.shape == (0, 8)


def test_voxels_outside_what_is_visible_start_empty():
    student = make_student(Room())
    grids, whole = student.submodels[0].grids, student.submodels[0].grids.voxels.clone()
    near = torch.zeros(32**3, dtype=torch.bool).view(32, 32, 32)
    near[8:16] = True
    initialise_from_teacher(
        grids, Room(), torch.tensor([[0.6, 0.0, 0.1]]), 0.4, torch.Generator(), near.view(-1)
    )
    inside = voxel_positions(grids.spec, block_coordinates(grids))[:, 0] < 0.0
    assert torch.equal(grids.voxels[inside, 0], whole[inside, 0])
    assert (grids.voxels[~inside, 0] == 0).all() and (whole[~inside, 0] > 100).any()


def test_voxels_are_visible_where_a_sample_weighs_enough():
    spec = GridSpec(64, 256, 1.0)
    # Viewer axes: x is mirrored, y and z are swapped. Voxels are a sixteenth wide and start at -2.
    points = torch.tensor([[0.28, 0.03, -0.22], [-0.75, 0.25, 0.25]])
    votes = VoxelVotes(spec, 0.02)
    votes.add(*rays_to(points, [0.5, 0.01]))
    for reach in (0, 2):
        wanted = torch.zeros(64, 64, 64, dtype=torch.bool)
        wanted[27 - reach : 28 + reach, 28 - reach : 29 + reach, 32 - reach : 33 + reach] = True
        assert torch.equal(votes.near(reach).view(64, 64, 64), wanted)
    votes.add(*rays_to(points, [0.0, 0.5]))
    assert votes.near(0).sum() == 2


def test_blocks_are_those_near_what_is_visible():
    spec = GridSpec(64, 256, 1.0)
    votes = VoxelVotes(spec, 0.02)
    votes.add(*rays_to(torch.tensor([[0.28, 0.03, -0.22]]), [0.5]))
    alone = votes.block_index(0)
    assert torch.nonzero(alone >= 0).tolist() == [[3, 3, 4]]
    grown = votes.block_index(5)
    wanted = torch.zeros(8, 8, 8, dtype=torch.bool)
    wanted[2:5, 2:5, 3:5] = True
    assert torch.equal(grown >= 0, wanted)
    assert sorted(grown[wanted].tolist()) == list(range(18))


def test_the_shell_of_contracted_space_holds_no_block():
    votes = VoxelVotes(GridSpec(64, 256, 1.0), 0.02)
    far = torch.tensor([[1000.0, 0.0, 0.0], [0.0, 1.9, 0.0], [2.5, -2.4, 0.0]])
    votes.add(*rays_to(far, [1.0, 1.0, 1.0]))
    alive = votes.block_index(3) >= 0
    assert votes.near(0).sum() == 3
    assert not (alive[[0, -1]].any() or alive[:, [0, -1]].any() or alive[:, :, [0, -1]].any())


@pytest.mark.parametrize("resolution", [32, 64])
def test_a_visible_sample_has_a_block_to_read(resolution):
    spec = GridSpec(resolution, 4 * resolution, scale=1.3, centre=(0.05, 0.0, -0.1))
    points = torch.rand(300, 3, generator=torch.Generator().manual_seed(3)) - 0.5
    votes = VoxelVotes(spec, 0.02)
    votes.add(*rays_to(points, [1.0] * 300))
    grids = Grids.allocate(spec, votes.block_index(1))
    there = to_contracted(points, spec)
    inside = there.abs().amax(-1) < 2.0 - 4.0 / spec.blocks - 4.0 / resolution
    assert inside.sum() > 100 and grid_read(grids, there)[2][inside].all()


def test_rays_alone_start_the_voxels_that_they_meet():
    index = torch.arange(64, dtype=torch.int32).view(4, 4, 4)
    grids = Grids.allocate(SPEC, index, records=False)
    points = torch.tensor([[0.3, -0.1, 0.2], [0.3, -0.1, 0.2], [-0.2, -0.3, 0.5]])
    rays, edges, weights = rays_to(points, [0.9, 0.0, 0.5])
    colour = weights.sum(-1, keepdim=True) * torch.tensor([[0.8, 0.4, 0.2]])
    initialise_from_rays(grids, [TeacherBatch(rays, edges, weights, colour)], 0.5, closes_holes=True)
    values = feature(grids, grids.voxels)
    held = torch.nonzero(values[:, 0] > -5.0)[:, 0]
    place = voxel_positions(SPEC, block_coordinates(grids), held)
    there = to_contracted(points[[0, 2]], SPEC)
    offset = place[:, None] - there
    # Each point lies between eight voxels. Empty intervals of the rays thin out those that hold them.
    between = (offset.abs().amax(-1) < 4.0 / 32).any(1)
    assert int(between.sum()) == 16
    # What is behind them was not tested, and holds the same three voxels deep; what is in front stays empty.
    heading = torch.nn.functional.normalize(
        to_contracted(points[[0, 2]] + 0.01 * rays.directions[[0, 2]], SPEC) - there, dim=-1
    )
    depth = ((offset * heading).sum(-1) * 32 / 4.0).gather(1, offset.norm(dim=-1).argmin(1, keepdim=True))
    assert len(held) > 32 and float(depth.min()) > -2.0 and 2.0 < float(depth.max()) < 7.0
    met, near = held[between], offset.abs().amax(-1).argmin(1)[between]
    for point, opacity in ((0, 0.9), (1, 0.5)):
        wanted = math.log(-math.log(1.0 - opacity) / 0.02) + 1.0
        found = values[met[near == point], 0].sort().values
        torch.testing.assert_close(found[2:], torch.full((6,), wanted), rtol=0, atol=0.1)
        assert point or found[0] < wanted - 0.3
    torch.testing.assert_close(
        torch.sigmoid(values[met, 1:4]), torch.tensor([[0.8, 0.4, 0.2]] * 16), rtol=0, atol=0.02
    )
    torch.testing.assert_close(values[:, 7], torch.full((len(values),), 0.5), rtol=0, atol=0.03)
