from dataclasses import replace

import pytest
import torch

from smerf.fields.rays import Rays
from smerf.kernels import Grids, HashSpec, grid_render, hash_encode, mlp
from smerf.kernels.vertices import block_coordinates, texel_positions, voxel_positions
from smerf.student.appearance import AppearanceLattice
from smerf.student.losses import StepRays, student_losses
from smerf.student.model import StudentRecord, Submodel, grid_spec
from smerf.student.optimizer import ExplicitOptimizer, FusedOptimizer, HashOptimizer, choose_back_end
from smerf.student.partition import Partition
from smerf.student.ray_pool import TeacherBatch
from smerf.student.visibility import OccupiedCells
from tests.helpers.toy_room import CONFIG

SMALL = replace(CONFIG, parameterisation="hash", hash=HashSpec(4, 2, 11, 4, 32), decoder=(16,))


def make_optimizer(kind=HashOptimizer, config=SMALL):
    """Return an optimiser of new grids, and the grids."""
    partition = Partition(1, (0,), 1.0)
    spec = grid_spec(config, partition, 0)
    index = torch.full((4, 4, 4), -1, dtype=torch.int32)
    index[1:3, 1:3, 1:3] = torch.arange(8).flip(0).view(2, 2, 2)
    grids = Grids.allocate(spec, index, records=kind.has_records)
    network = AppearanceLattice(1, 16, torch.Generator().manual_seed(0))
    record = StudentRecord(config, partition, (0.5, 0.5, 0.5), 0.05, 0.005)
    return kind(record, Submodel(0, grids, network, OccupiedCells(spec))), grids


def make_rays(count=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.rand(count, 3, generator=generator) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    edges = torch.linspace(0.05, 0.6, 13).expand(count, -1).contiguous()
    return Rays(origins, directions, torch.zeros(count)), edges


def make_step(count=40, seed=0, tau=0.0):
    """Return what a step renders: rays that the teacher sees as red, with an even opacity."""
    rays, edges = make_rays(count, seed)
    weights = torch.full((count, 12), 0.06)
    colour = 0.72 * torch.tensor([0.9, 0.1, 0.2]).expand(count, 3).contiguous()
    return StepRays(TeacherBatch(rays, edges, weights, colour), torch.full((count, 3), 0.5), tau, 0.01)


def vivid(config=SMALL):
    """Return a hash optimiser whose vertices differ, and its grids."""
    optimizer, grids = make_optimizer(config=config)
    optimizer.table.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(9))
    return optimizer, grids


def render(grids, rays, edges):
    return grid_render(grids, torch.zeros(1), rays.origins, rays.directions, edges)


def test_the_back_end_is_the_fused_one_where_it_is_wanted_and_supported():
    cpu = torch.device("cpu")
    assert choose_back_end(CONFIG, cpu) is FusedOptimizer
    assert choose_back_end(replace(CONFIG, fused=False), cpu) is ExplicitOptimizer
    assert choose_back_end(replace(CONFIG, sparsity_weight=0.1), cpu) is ExplicitOptimizer
    assert choose_back_end(SMALL, cpu) is HashOptimizer


def test_a_batch_sees_the_same_grids_as_the_finished_student():
    optimizer, grids = vivid()
    given, (rays, edges) = make_step(), make_rays()
    before = render(grids, rays, edges)[0]
    optimizer.step(given, 1, 0.0)
    during, touched = render(grids, rays, edges), grids.voxels.clone()
    assert optimizer.complete_grids() is grids
    for one, other in zip(during, render(grids, rays, edges)):
        assert torch.equal(one, other)
    assert (before - during[0]).abs().max() > 0.01
    # What no sample reads is not evaluated for a batch.
    assert not torch.equal(touched, grids.voxels)
    assert len(torch.unique(grids.voxels, dim=0)) > 1000 and len(torch.unique(grids.planes, dim=0)) > 1000


def test_vertices_that_meet_at_block_borders_are_evaluated_where_they_lie():
    # A field that grows with x alone must come out monotonic across the blocks, whatever their numbers are.
    optimizer, grids = make_optimizer(config=replace(SMALL, hash=HashSpec(1, 1, 12, 16, 16), decoder=()))
    ramp = torch.arange(16.0) / 16.0
    optimizer.table[:, 0] = ramp[torch.arange(4096) % 16]
    optimizer.decoder.zero_()
    optimizer.decoder[:8] = 0.2
    optimizer.complete_grids()
    by_block = grids.voxels.view(8, 8, 8, 8, 8)
    whole = torch.stack([by_block[int(n)] for n in grids.block_index[1:3, 1:3, 1:3].flatten()])
    whole = whole.view(2, 2, 2, 8, 8, 8, 8).permute(0, 3, 1, 4, 2, 5, 6).reshape(16, 16, 16, 8)[..., 0].int()
    slopes = [whole.diff(dim=axis) for axis in range(3)]
    changing = [axis for axis in range(3) if (slopes[axis] != 0).any()]
    assert len(changing) == 1
    assert (slopes[changing[0]] > 0).all()


def test_gradients_reach_table_and_decoder_through_the_rounding():
    optimizer, grids = vivid()
    given = make_step()
    table, decoder = optimizer.table.clone(), optimizer.decoder.clone()
    optimizer.step(given, 1, 0.0)
    assert torch.equal(optimizer.table, table) and torch.equal(optimizer.decoder, decoder)

    # The same by automatic differentiation of every vertex's value.
    losses = student_losses(optimizer._record, optimizer._submodel, given).losses
    sum(losses.values()).backward()
    slope = torch.cat([grids.voxel_records[:, :8], grids.plane_records[:, :8]]).clone()
    blocks, texels = block_coordinates(grids), torch.arange(len(grids.planes))
    where = torch.cat([voxel_positions(grids.spec, blocks), texel_positions(grids.spec, texels)])
    our_table, our_decoder = table.clone().requires_grad_(), decoder.clone().requires_grad_()
    features = hash_encode(where / 4.0 + 0.5, our_table, SMALL.hash)
    logits = mlp(10.0 * features, our_decoder, (SMALL.hash.width, *SMALL.decoder, 8))
    (slope * torch.tensor([28.0] + 7 * [14.0]) * torch.sigmoid(logits)).sum().backward()
    got, wanted = optimizer.first * 10.0, our_table.grad
    decay = torch.cat([torch.full((n, 1), 0.01 / (2 * n)) for _, _, n in SMALL.hash.levels()])
    wanted = wanted + decay * table * (wanted != 0).any(-1, keepdim=True)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
    got = optimizer.tensors()["adam.0.exp_avg"] * 10.0
    torch.testing.assert_close(got, our_decoder.grad, rtol=1e-3, atol=1e-5 * float(got.abs().max()))


@pytest.mark.parametrize("kind", [ExplicitOptimizer, FusedOptimizer, HashOptimizer])
def test_steps_go_downhill_and_leave_no_gradient_behind(kind):
    optimizer, grids = make_optimizer(kind, SMALL if kind is HashOptimizer else CONFIG)
    given, losses = make_step(), []
    for number in range(1, 16):
        result = optimizer.step(given, number, 0.01 if kind is HashOptimizer else 0.1)
        losses.append(float(result.losses["colour"]))
        assert not result.losses["colour"].requires_grad and result.square.shape == (40,)
        assert not grids.voxel_touched.any() and not grids.plane_touched.any()
        assert not grids.voxel_records[:, :8].any() and not grids.plane_records[:, :8].any()
    assert losses[-1] < 0.6 * losses[0]


def test_gradients_that_are_not_finite_do_no_harm():
    optimizer, _ = vivid()
    given = make_step()
    given.batch.colour[3, 1] = float("nan")
    optimizer.step(given, 1, 0.01)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in optimizer.tensors().values())


@pytest.fixture
def one_thread():
    """Sums of several threads' gradients end in an order of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", [ExplicitOptimizer, FusedOptimizer, HashOptimizer])
def test_continues_from_its_tensors(one_thread, kind):
    config = SMALL if kind is HashOptimizer else CONFIG
    (first, grids), (second, others) = (make_optimizer(kind, config) for _ in range(2))
    first.step(make_step(seed=1), 1, 0.05)
    second.restore({name: value.clone() for name, value in first.tensors().items()})
    for optimizer in (first, second):
        optimizer.step(make_step(seed=2), 2, 0.05)
    saved = second.tensors()
    assert all(torch.equal(value, saved[name]) for name, value in first.tensors().items())
    assert torch.equal(first.complete_grids().voxels, second.complete_grids().voxels)
    assert torch.equal(grids.planes, others.planes)
