from dataclasses import replace

import pytest
import torch
from toy_room import CONFIG

from smerf.errors import UsageError
from smerf.fields.rays import Rays
from smerf.kernels import Grids, HashSpec, grid_render, hash_encode, mlp
from smerf.kernels.vertices import block_coordinates, texel_positions, voxel_positions
from smerf.student.model import grid_spec
from smerf.student.parameters import ExplicitParameters, HashParameters, make_parameters
from smerf.student.partition import Partition

SMALL = replace(CONFIG, parameterisation="hash", hash=HashSpec(4, 2, 11, 4, 32), decoder=(16,))


def make_grids():
    spec = grid_spec(SMALL, Partition(1, (0,), 1.0), 0)
    index = torch.full((4, 4, 4), -1, dtype=torch.int32)
    index[1:3, 1:3, 1:3] = torch.arange(8).flip(0).view(2, 2, 2)
    return Grids.allocate(spec, index)


def make_rays(count=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.rand(count, 3, generator=generator) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    edges = torch.linspace(0.05, 0.6, 13).expand(count, -1).contiguous()
    return Rays(origins, directions, torch.zeros(count)), edges


def vivid(submodels=1):
    """Return hash parameters whose vertices differ."""
    parameters = HashParameters(SMALL, submodels)
    generator = torch.Generator().manual_seed(9)
    for table in parameters.tables:
        table.normal_(0.0, 0.1, generator=generator)
    return parameters


def draw(grids, rays, edges):
    anchor = torch.zeros(1, requires_grad=True)
    return grid_render(grids, anchor, rays.origins, rays.directions, edges)


def test_the_form_is_chosen_by_name():
    assert isinstance(make_parameters(CONFIG, 1), ExplicitParameters)
    assert isinstance(make_parameters(SMALL, 1), HashParameters)
    with pytest.raises(UsageError, match="triplane"):
        make_parameters(replace(CONFIG, parameterisation="triplane"), 1)


def test_a_batch_sees_the_same_grids_as_the_finished_student():
    parameters, grids, (rays, edges) = vivid(), make_grids(), make_rays()
    before = draw(grids, rays, edges)[0]
    parameters.provide(0, grids, rays, edges)
    provided = draw(grids, rays, edges)
    touched = grids.voxels.clone()
    parameters.finish([grids])
    for one, other in zip(provided, draw(grids, rays, edges)):
        assert torch.equal(one, other)
    assert (before - provided[0]).abs().max() > 0.01
    # What no sample reads is not evaluated for a batch.
    assert not torch.equal(touched, grids.voxels)
    assert len(torch.unique(grids.voxels, dim=0)) > 1000 and len(torch.unique(grids.planes, dim=0)) > 1000


def test_vertices_that_meet_at_block_borders_are_evaluated_where_they_lie():
    # A field that grows with x alone must come out monotonic across the blocks, whatever their numbers are.
    parameters, grids = (
        HashParameters(replace(SMALL, hash=HashSpec(1, 1, 12, 16, 16), decoder=()), 1),
        make_grids(),
    )
    ramp = torch.arange(16.0) / 16.0
    parameters.tables[0][:, 0] = ramp[torch.arange(4096) % 16]
    parameters.decoder.zero_()
    parameters.decoder[:8] = 0.2
    parameters.finish([grids])
    by_block = grids.voxels.view(8, 8, 8, 8, 8)
    whole = torch.stack([by_block[int(n)] for n in grids.block_index[1:3, 1:3, 1:3].flatten()])
    whole = whole.view(2, 2, 2, 8, 8, 8, 8).permute(0, 3, 1, 4, 2, 5, 6).reshape(16, 16, 16, 8)[..., 0].int()
    slopes = [whole.diff(dim=axis) for axis in range(3)]
    changing = [axis for axis in range(3) if (slopes[axis] != 0).any()]
    assert len(changing) == 1
    assert (slopes[changing[0]] > 0).all()


def test_gradients_reach_tables_and_decoder_through_the_rounding():
    parameters, grids, (rays, edges) = vivid(), make_grids(), make_rays()
    parameters.provide(0, grids, rays, edges)
    features, weights = draw(grids, rays, edges)
    (features.square().sum() + weights.square().sum()).backward()
    slope = torch.cat([grids.voxel_records[:, :8], grids.plane_records[:, :8]]).clone()
    table, decoder = parameters.tables[0].clone(), parameters.decoder.clone()
    parameters.learn([grids], 1, 0.0)

    # The same by automatic differentiation of every vertex's value.
    blocks, texels = block_coordinates(grids), torch.arange(len(grids.planes))
    where = torch.cat([voxel_positions(grids.spec, blocks), texel_positions(grids.spec, texels)])
    twin_table, twin_decoder = table.clone().requires_grad_(), decoder.clone().requires_grad_()
    features = hash_encode(where / 4.0 + 0.5, twin_table, SMALL.hash)
    logits = mlp(10.0 * features, twin_decoder, (SMALL.hash.width, *SMALL.decoder, 8))
    (slope * torch.tensor([28.0] + 7 * [14.0]) * torch.sigmoid(logits)).sum().backward()
    got, wanted = parameters.moments[0][0] * 10.0, twin_table.grad
    decay = torch.cat([torch.full((n, 1), 0.01 / (2 * n)) for _, _, n in SMALL.hash.levels()])
    wanted = wanted + decay * table * (wanted != 0).any(-1, keepdim=True)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
    got = parameters.tensors([grids])["hash.adam.exp_avg"] * 10.0
    torch.testing.assert_close(got, twin_decoder.grad, rtol=1e-3, atol=1e-5 * float(got.abs().max()))
    assert torch.equal(parameters.tables[0], table) and torch.equal(parameters.decoder, decoder)


@pytest.mark.parametrize("form", ["explicit", "hash"])
def test_a_step_goes_downhill_and_leaves_no_gradient_behind(form):
    parameters = ExplicitParameters() if form == "explicit" else HashParameters(SMALL, 1)
    grids, (rays, edges) = make_grids(), make_rays()
    losses = []
    for step in range(1, 16):
        parameters.provide(0, grids, rays, edges)
        features, _ = draw(grids, rays, edges)
        loss = (features[:, :3] - torch.tensor([0.6, 0.1, 0.3])).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
        parameters.learn([grids], step, 0.1 if form == "explicit" else 0.01)
        assert not grids.voxel_touched.any() and not grids.plane_touched.any()
        assert not grids.voxel_records[:, :8].any() and not grids.plane_records[:, :8].any()
    assert losses[-1] < 0.5 * losses[0]


def test_submodels_have_tables_of_their_own_and_share_the_decoder():
    parameters, grids, (rays, edges) = vivid(2), [make_grids(), make_grids()], make_rays()
    parameters.provide(1, grids[1], rays, edges)
    draw(grids[1], rays, edges)[0].sum().backward()
    before = [table.clone() for table in parameters.tables]
    parameters.learn(grids, 1, 0.01)
    assert torch.equal(parameters.tables[0], before[0])
    assert not torch.equal(parameters.tables[1], before[1])
    parameters.finish(grids)
    assert not torch.equal(grids[0].voxels, grids[1].voxels)


def test_gradients_that_are_not_finite_do_no_harm():
    parameters, grids, (rays, edges) = vivid(), make_grids(), make_rays()
    parameters.provide(0, grids, rays, edges)
    draw(grids, rays, edges)[0].sum().backward()
    row = int(torch.nonzero(grids.voxel_touched)[0])
    grids.voxel_records[row, 2] = float("nan")
    parameters.learn([grids], 1, 0.01)
    assert all(bool(torch.isfinite(t).all()) for t in parameters.tensors([grids]).values())


@pytest.fixture
def one_thread():
    """Sums of several threads' gradients end in an order of their own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_continues_from_its_tensors(one_thread):
    (rays, edges), first, grids = make_rays(), vivid(), make_grids()

    def advance(parameters, grids, step):
        parameters.provide(0, grids, rays, edges)
        draw(grids, rays, edges)[0].sum().backward()
        parameters.learn([grids], step, 0.01)

    advance(first, grids, 1)
    saved = {name: value.clone() for name, value in first.tensors([grids]).items()}
    second, other = HashParameters(SMALL, 1), make_grids()
    second.restore([other], saved)
    advance(first, grids, 2)
    advance(second, other, 2)
    for one, two in zip(first.tensors([grids]).values(), second.tensors([other]).values(), strict=True):
        assert torch.equal(one, two)
