import functools

import pytest
import torch

from smerf.kernels import Grids, GridSpec, grid_adam_, grid_render, native
from smerf.kernels.appearance import appearance_size
from smerf.kernels.reference.volume_render import ray_distortion
from smerf.kernels.student_step import GridState, StudentRays, StudentStep
from smerf.kernels.types import Adam, LatticeNetworks, StudentLosses
from smerf.student.appearance import AppearanceLattice, expose
from smerf.student.losses import patch_dissimilarity
from tests.helpers import emulation

SPEC = GridSpec(32, 72, scale=1.3, centre=(0.1, -0.2, 0.05))
RATE = 0.02
GEOMETRY, DSSIM, DISTORTION = 0.02, 1.5, 0.3


def make_grids(records, seed=0):
    generator = torch.Generator().manual_seed(seed)
    has_block = torch.rand(SPEC.blocks**3, generator=generator) < 0.7
    index = torch.where(has_block, has_block.long().cumsum(0) - 1, -1).view(3 * (SPEC.blocks,))
    grids = Grids.allocate(SPEC, index, records=records)
    grids.voxels.copy_(torch.randint(70, 190, grids.voxels.shape, generator=generator))
    grids.planes.copy_(torch.randint(100, 156, grids.planes.shape, generator=generator))
    return grids


def make_rays(count=200, samples=20, seed=0, exposed=False, pixels=1, spread=False):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator)  # noqa: E731
    directions = torch.nn.functional.normalize(draw(count, 3) - 0.5, dim=-1)
    edges = (0.01 + 0.2 * draw(count, samples + 1)).cumsum(-1)
    edges[::7, 5:8] = edges[::7, 4:5]  # intervals of no length
    weights = draw(count, samples) * 1.5 / samples
    logs = 2.0 * draw(count) - 3.0 if exposed else None
    origins = draw(count, 3) - 0.5
    count -= count % pixels
    # Half the patches stand in one place each.
    origins[count // 2 : count] = origins[count // 2 : count : pixels].repeat_interleave(pixels, 0)
    parts = (origins, directions, edges, weights, draw(len(edges), 3), draw(len(edges), 3), logs)
    whole = (None if part is None else part[:count] for part in parts)
    s_edges = edges[:count] / (1.0 + edges[:count]) if spread else None
    return StudentRays(*whole, s_edges, pixels)


def make_network(lattice, width):
    network = AppearanceLattice(lattice, width, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def by_autograd(grids, network, rays, tau, backdrop):
    """Return losses (R, 5) and weights by the separate parts; gradients are left in the records and the network."""
    features, weights = grid_render(
        grids, torch.zeros(1, requires_grad=True), rays.origins, rays.directions, rays.edges, tau
    )
    rest = (1.0 - weights.sum(-1, keepdim=True)).clamp_min(0.0)
    if backdrop is not None:
        features, rest = features + rest * backdrop, torch.zeros_like(rest)
    behind = torch.cat([features[:, :3] + rest * rays.background, features[:, 3:]], -1)
    if rays.log_exposure is not None:
        behind = expose(behind, rays.log_exposure[:, None])
    positions = (rays.origins - torch.tensor(SPEC.centre)) * 1.4
    colour = features[:, :3] + network(behind, rays.directions, positions)
    gap = (1.0 - rays.weights.sum(-1, keepdim=True)).clamp_min(0.0)
    truth = rays.colour + gap * rays.background
    error = colour - truth
    losses = [torch.sqrt(error**2 + 1e-6).mean(-1), GEOMETRY * (weights - rays.weights).abs().sum(-1)]
    losses += [torch.zeros(len(error)), torch.zeros(len(error))]
    if rays.pixels > 1:
        patches = zip(colour.split(rays.pixels), truth.split(rays.pixels))
        each = torch.stack([patch_dissimilarity(ours, theirs, rays.pixels) for ours, theirs in patches])
        losses[2] = DSSIM * each.repeat_interleave(rays.pixels)
    if rays.s_edges is not None:
        losses[3] = DISTORTION * ray_distortion(rays.s_edges, weights)
    sum(each.sum() for each in losses).backward()
    losses.insert(2, error.square().mean(-1))
    return torch.stack(losses, -1).detach(), weights.detach()


def take_step(grids, state, network, rays, tau, backdrop, step=1):
    rows = network.rows().detach()
    gradient = torch.zeros_like(rows)
    losses, weights = StudentStep().run(
        grids, state, rays, LatticeNetworks(rows, gradient, network.dims[1], 1.4),
        StudentLosses(tau, GEOMETRY, DSSIM, DISTORTION), Adam(step, RATE), backdrop,
    )  # fmt: skip
    return losses, weights, gradient


@pytest.mark.parametrize(
    "lattice, width, tau, backed, exposed",
    [
        (1, 16, 0.0, False, False),
        (3, 8, 0.01, True, False),
        (2, 64, 0.0, True, True),
        (1, 16, 0.0, False, True),
    ],
)
def test_a_step_equals_the_separate_parts(kernels, lattice, width, tau, backed, exposed):
    kernels()
    backdrop = torch.linspace(0.1, 0.9, 14) if backed else None
    check_steps(functools.partial(make_rays, exposed=exposed), make_network(lattice, width), tau, backdrop)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("pixels, spread, lattice", [(9, False, 1), (9, True, 3), (4, True, 2), (1, True, 1)])
def test_patches_and_distortion_equal_the_separate_parts(kernels, isa, pixels, spread, lattice):
    kernels(isa)
    check_steps(functools.partial(make_rays, pixels=pixels, spread=spread), make_network(lattice, 16))


@pytest.fixture
def cuda(emulated, monkeypatch):
    emulation.use(monkeypatch, emulated("student_step"))


@pytest.mark.parametrize(
    "lattice, width, tau, backed, exposed, pixels, spread",
    [
        (1, 16, 0.0, False, False, 1, False),
        (3, 8, 0.01, True, False, 9, True),
        (2, 64, 0.0, True, True, 1, True),
        (1, 32, 0.0, False, True, 4, False),
    ],
)
def test_a_gpu_takes_the_same_steps(cuda, lattice, width, tau, backed, exposed, pixels, spread):
    assert StudentStep.supports(width, torch.device("cpu"))
    backdrop = torch.linspace(0.1, 0.9, 14) if backed else None
    make = functools.partial(make_rays, 72, exposed=exposed, pixels=pixels, spread=spread)
    check_steps(make, make_network(lattice, width), tau, backdrop, steps=2)


def test_a_gpu_takes_the_cpus_step_and_leaves_its_memory_clean(kernels, emulated, monkeypatch):
    kernels()
    if native.cpu_backend("smerf_student_step") is None:
        pytest.skip("the CPU library is not built")
    limits = StudentLosses(0.002, GEOMETRY, DSSIM, DISTORTION, min_gradient=2e-3)
    results = []
    for library in (None, emulated("student_step")):
        if library is not None:
            emulation.use(monkeypatch, library)
        grids, rows, step = make_grids(False), make_network(2, 16).rows().detach(), StudentStep()
        state = GridState(grids)
        started = [one.clone() for one in state.logits()]
        networks = LatticeNetworks(rows, torch.zeros_like(rows), 16, 1.4)
        # Long rays: a warp takes them in several rounds.
        rays = make_rays(36, 70, pixels=9, spread=True)
        outputs = step.run(grids, state, rays, networks, limits, Adam(1, RATE))
        results.append([*started, *outputs, networks.gradient, *state.logits()])
        if library is not None:
            assert not step._memory["gradient"].any() and not step._memory["touched"].any()
    for ours, theirs in zip(*results):
        scale = max(1.0, float(theirs.abs().max()))
        close = (ours - theirs).abs() < 1e-3 * scale
        # A sample whose gradient is just at the limit may count or not.
        assert close.float().mean() > 0.999
    moved = [(now - was).abs() > 0.0 for now, was in zip(results[1][-2:], results[1][:2])]
    assert all(0.0 < one.float().mean() < 0.9 for one in moved)


def test_on_a_gpu_rays_that_are_not_numbers_change_nothing(cuda):
    grids, rays = make_grids(False), make_rays(20)
    state, before = GridState(grids), (grids.voxels.clone(), grids.planes.clone())
    rays.colour[:] = float("nan")
    take_step(grids, state, make_network(1, 16), rays, 0.0, None)
    assert torch.equal(grids.voxels, before[0]) and torch.equal(grids.planes, before[1])


def check_steps(make_rays, network, tau=0.0, backdrop=None, steps=4):
    apart, fused = make_grids(True), make_grids(False)
    apart.read_bytes()
    state = GridState(fused)
    for one, other in zip(state.logits(), (apart.voxel_records, apart.plane_records)):
        torch.testing.assert_close(one, other[:, 8:16])
    for step in range(1, steps + 1):
        rays = make_rays(seed=step)
        network.zero_grad(set_to_none=True)
        # Both read the same bytes: the rounding of half floats must not grow into other gradients.
        apart.voxels.copy_(fused.voxels), apart.planes.copy_(fused.planes)
        wanted, wanted_weights = by_autograd(apart, network, rays, tau, backdrop)
        slopes = [apart.voxel_records[:, :8].clone(), apart.plane_records[:, :8].clone()]
        before = [one.clone() for one in state.logits()]
        apart_before = [apart.voxel_records[:, 8:16].clone(), apart.plane_records[:, 8:16].clone()]
        losses, weights, gradient = take_step(fused, state, network, rays, tau, backdrop, step)
        grid_adam_(apart, step=step, lr=RATE)
        torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weights, wanted_weights, rtol=1e-4, atol=1e-5)
        wanted_rows = torch.cat(
            [p.grad.flatten(0, 2).flatten(1) for pair in zip(network.kernels, network.biases) for p in pair],
            -1,
        )
        torch.testing.assert_close(
            gradient, wanted_rows, rtol=1e-3, atol=1e-3 * float(wanted_rows.abs().max())
        )
        for now, was, records, apart_was, slope in zip(
            state.logits(), before, (apart.voxel_records, apart.plane_records), apart_before, slopes
        ):
            untouched = (slope == 0.0).all(-1)
            assert torch.equal(now[untouched], was[untouched]) and not untouched.all()
            # Adam's step has the size of the rate even where the gradient is all rounding.
            clear = slope.abs() > 1e-3 * slope.abs().max()
            wanted_step = records[:, 8:16] - apart_was
            assert (now - was - wanted_step)[clear].abs().max() < 0.05 * RATE
        for values, logits in zip((fused.voxels, fused.planes), state.logits()):
            moved = values != 128
            exact = 255.0 * torch.sigmoid(logits)
            assert ((values - exact).abs()[moved] <= 0.501).all()


@pytest.mark.parametrize("pixels", [1, 9])
def test_results_do_not_depend_on_the_number_of_threads(kernels, pixels):
    kernels()
    make = functools.partial(make_rays, pixels=pixels, spread=True)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            grids, network = make_grids(False), make_network(2, 16)
            state = GridState(grids)
            outputs = [take_step(grids, state, network, make(seed=i), 0.001, None, i + 1) for i in range(3)]
            results.append([grids.voxels, grids.planes, state.voxels, state.planes, *outputs[-1]])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_steps_go_downhill_and_rays_that_are_not_numbers_change_nothing(kernels):
    kernels()
    grids, network, rays = make_grids(False), make_network(1, 16), make_rays()
    state = GridState(grids)
    losses = [
        float(take_step(grids, state, network, rays, 0.0, None, i)[0][:, 0].mean()) for i in range(1, 40)
    ]
    assert losses[-1] < 0.75 * losses[0]
    before = grids.voxels.clone(), grids.planes.clone()
    broken = make_rays()
    broken.colour[:] = float("nan")
    take_step(grids, state, network, broken, 0.0, None, 40)
    assert torch.equal(grids.voxels, before[0]) and torch.equal(grids.planes, before[1])


def test_other_shapes_are_refused(kernels):
    kernels()
    grids, rays = make_grids(False), make_rays()
    state, size = GridState(grids), appearance_size(16)

    def run(params, gradient):
        networks = LatticeNetworks(params, gradient, 16, 1.0)
        StudentStep().run(grids, state, rays, networks, StudentLosses(0.0, 0.0), Adam(1, 0.1))

    with pytest.raises(ValueError, match="params: expected"):
        run(torch.zeros(1, 7), torch.zeros(1, 7))
    with pytest.raises(ValueError, match="gradient: expected"):
        run(torch.zeros(1, size), torch.zeros(8, size))
    with pytest.raises(ValueError, match="colour: expected"):
        StudentRays(rays.origins, rays.directions, rays.edges, rays.weights, rays.colour[:5], rays.background)
    with pytest.raises(ValueError, match="pixels: expected whole patches, got 200 rays in patches of 9"):
        StudentRays(**{**vars(rays), "pixels": 9})
    with pytest.raises(ValueError, match="s_edges: expected"):
        StudentRays(**{**vars(rays), "s_edges": rays.weights})
    assert not StudentStep.supports(17, torch.device("cpu"))


def test_neutral_planes_take_no_memory_to_start():
    grids = make_grids(False)
    grids.planes.fill_(128)
    assert not GridState(grids).planes.any()
