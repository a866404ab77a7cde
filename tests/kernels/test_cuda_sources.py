"""The CUDA kernels, run on the CPU thread by thread, against the PyTorch reference."""

import ctypes
import math

import numpy as np
import pytest
import torch

from smerf.errors import SmerfError
from smerf.kernels import (
    Frustums,
    Grids,
    GridSpec,
    HashSpec,
    abi,
    block_samples,
    blurred_interlevel,
    distance_grid,
    encode_directions,
    grid_adam_,
    grid_mark,
    grid_read,
    grid_render,
    hash_encode,
    importance_sample,
    initial_params,
    mark_alive_,
    mlp,
    multisample_encode,
    native,
    param_count,
    radiance_head,
    ray_points,
    sparse_adam_,
    volume_render,
)
from smerf.kernels.surface_intervals import surface_intervals
from smerf.kernels.types import Spacing
from smerf.render import reference as picture_reference
from smerf.render.march import DeviceRenderer
from smerf.scene.example import example_camera, example_scene
from smerf.scene.view import MarchOptions
from tests.helpers import emulation
from tests.helpers.cell_rays import rays_through_cells
from tests.helpers.surface_rays import rays_past_a_ball


@pytest.fixture
def compare(emulated, monkeypatch, assert_close):
    """Run a function with the emulated kernels of a source, then with the reference, and compare its tensors."""

    def run(source, evaluate, rtol=1e-4, atol=1e-5, **options):
        emulation.use(monkeypatch, emulated(source, **options))
        got = evaluate()
        monkeypatch.setattr(native, "backend", lambda tensor, name=None: None)
        wanted = evaluate()
        assert_close(got, wanted, rtol=rtol, atol=atol)

    return run


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encode(spec, count=75):
    # Neighbours share cells, as the samples of a ray do; some lie outside, one is not a number.
    x = 0.5 + 0.02 * random(count, 3).cumsum(0)
    x[3], x[40, 1] = 1.7, math.nan
    x.requires_grad_()
    table, sigma = (
        random(spec.entry_count, spec.features, seed=1).requires_grad_(),
        random(count, seed=2).abs() * 0.05,
    )
    out = hash_encode(x, table, spec, sigma)
    out.backward(random(count, spec.width, seed=3))
    return [out.detach(), table.grad, x.grad]


@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_hash_encoding(compare, features):
    compare("hash_encoding", lambda: encode(HashSpec(5, features, 8, 3, 40)))


def test_hash_encoding_adds_float_by_float_on_older_gpus(compare):
    compare("hash_encoding", lambda: encode(HashSpec(3, 4, 7, 3, 20)), architecture=800)


def test_hash_gradients_repeat_when_asked(compare):
    torch.use_deterministic_algorithms(True)
    try:
        compare("hash_encoding", lambda: encode(HashSpec(5, 2, 8, 3, 40)))
    finally:
        torch.use_deterministic_algorithms(False)


def test_ray_points(compare):
    def run():
        edges = random(20, 8).abs().cumsum(-1)
        return list(ray_points(random(20, 3), random(20, 3, seed=1), edges, random(20, seed=2).abs(), 0.7))

    compare("ray_points", run)


@pytest.mark.parametrize("layers", [1, 3])
def test_surface_intervals(compare, layers):
    spacing = Spacing(0.4, float("inf"), False)
    # Far ends are huge.
    compare(
        "surface_intervals",
        lambda: list(surface_intervals(*rays_past_a_ball(70, layers), spacing, 32, 0.01)),
        atol=2e-3,
        rtol=1e-3,
    )


@pytest.mark.parametrize("width", [1, 3, 4])
def test_sparse_adam(compare, width):
    def run():
        values, first, second = (
            random(300, width),
            random(300, width, seed=1),
            random(300, width, seed=2).square(),
        )
        gradient = random(300, width, seed=3)
        gradient[::3], gradient[7, 0], gradient[11, 0] = 0.0, math.nan, math.inf
        sparse_adam_(values, gradient, first, second, step=3, lr=0.1, decay=0.01)
        return [values, gradient, first, second]

    compare("optimiser", run)


@pytest.mark.parametrize("dims", [(1, 1), (12, 16, 1), (40, 64, 8), (7, 65, 33, 16, 2)])
def test_networks(compare, dims):
    def run():
        x, params = (
            random(130, dims[0]).requires_grad_(),
            (0.3 * random(param_count(dims), seed=1)).requires_grad_(),
        )
        out = mlp(x, params, dims)
        out.backward(random(130, dims[-1], seed=2))
        return [out.detach(), x.grad, params.grad]

    compare("mlp", run)


@pytest.mark.parametrize("density, colour", [((32, 64, 16), (32, 64, 64, 3)), ((10, 32, 5), (21, 24, 3))])
def test_the_radiance_head(compare, density, colour):
    def run():
        generator = torch.Generator().manual_seed(4)
        nets = [(initial_params(dims, generator) + 0.05).requires_grad_() for dims in (density, colour)]
        features = random(11 * 13, density[0]).requires_grad_()
        outputs = radiance_head(
            features, random(11, colour[0] - density[-1], seed=1), nets[0], density, nets[1], colour
        )
        torch.autograd.backward(outputs, (random(143, seed=2), random(143, 3, seed=3)))
        return [*(output.detach() for output in outputs), features.grad, *(net.grad for net in nets)]

    compare("mlp", run)


def test_the_precision_of_tensor_cores_is_enough(compare):
    def run():
        deep, flat = (32, 64, 64, 3), (32, 16)
        x, params = random(70, 32), initial_params(deep, torch.Generator().manual_seed(1))
        # Gradients of one layer alone: behind a ReLU, rounding decides on which side of zero a few values lie.
        weights = random(param_count(flat), seed=2).requires_grad_()
        mlp(x, weights, flat).backward(random(70, 16, seed=3))
        return [mlp(x, params, deep), weights.grad]

    compare("mlp", run, rtol=0.0, atol=3e-3, tf32=True)


def test_networks_too_large_for_the_kernel_are_left_to_the_reference(compare):
    dims = (16, 256, 256, 4)
    compare("mlp", lambda: [mlp(random(5, 16), random(param_count(dims), seed=1), dims)])


def make_grids():
    spec = GridSpec(16, 32, scale=1.7, centre=(0.1, -0.2, 0.05))
    alive = random(spec.blocks**3) < 0.7
    index = torch.where(alive, alive.long().cumsum(0) - 1, -1).view(3 * (spec.blocks,))
    grids = Grids.allocate(spec, index)
    for seed, records in enumerate((grids.voxel_records, grids.plane_records)):
        records[:, 8:16] = random(records.shape[0], 8, seed=seed)
    grids.requantise()
    return grids


def make_rays(rays, samples):
    directions = torch.nn.functional.normalize(random(rays, 3, seed=1), dim=-1)
    widths = 0.1 * random(rays, samples, seed=2).exp() / samples**0.5
    widths[:, ::7] = 0.0
    edges = torch.cat([torch.full((rays, 1), 0.02), widths], -1).cumsum(-1)
    return 0.5 * random(rays, 3), directions, edges


@pytest.mark.parametrize("samples", [1, 24, 70])
@pytest.mark.parametrize("tau", [0.0, 0.01])
def test_grid_rendering(compare, samples, tau):
    def run():
        grids, rays, anchor = make_grids(), make_rays(21, samples), torch.zeros(1, requires_grad=True)
        outputs = grid_render(grids, anchor, *rays, tau)
        torch.autograd.backward(outputs, (random(21, 14, seed=3), random(21, samples, seed=4)))
        flags = [grids.voxel_touched.float(), grids.plane_touched.float()]
        gradients = [grids.voxel_records[:, :8].clone(), grids.plane_records[:, :8].clone()]
        return [*(output.detach() for output in outputs), *gradients, *flags]

    compare("grid_render", run, rtol=1e-3)


def test_light_that_is_used_up_ends_a_ray(compare):
    def run():
        grids = make_grids()
        grids.voxel_records[:, 8] += 3.0
        grids.requantise()
        anchor = torch.zeros(1, requires_grad=True)
        outputs = grid_render(grids, anchor, *make_rays(12, 100))
        torch.autograd.backward(outputs, (random(12, 14, seed=3), random(12, 100, seed=4)))
        return [*(output.detach() for output in outputs), grids.voxel_records[:, :8].clone()]

    compare("grid_render", run, rtol=1e-3, atol=1e-4)


def test_grid_marking_reading_and_learning(compare):
    def run():
        grids = make_grids()
        grid_mark(grids, *make_rays(9, 10))
        flags = [grids.voxel_touched.float(), grids.plane_touched.float()]
        points = random(50, 3)
        points[4, 0] = math.nan
        values = [one.float() for one in grid_read(grids, points)]
        grids.voxel_records[:, :8] = random(len(grids.voxel_records), 8, seed=5)
        grids.voxel_records[grids.voxel_touched.nonzero()[0], 2] = math.inf
        grid_adam_(grids, step=2, lr=0.3)
        learnt = grids.voxel_records[flags[0].bool()]
        return [*flags, *values, learnt, grids.voxels.float(), grids.voxel_touched.float()]

    compare("grid_render", run)


@pytest.mark.parametrize("share", [0.0, 0.004, 0.3])
def test_the_distance_grid(compare, share):
    def run():
        occupied = torch.rand(13, 9, 21, generator=torch.Generator().manual_seed(1)) < share
        return [distance_grid(occupied).float()]

    compare("distance_grid", run, rtol=0.0, atol=0.0)


def test_alive_cells(compare):
    def run():
        spec = GridSpec(16, 64, 1.3, (0.1, -0.2, 0.05))
        seen, solid = (torch.zeros(16, 16, 16, dtype=torch.bool) for _ in range(2))
        mark_alive_(seen, solid, spec, *rays_through_cells(spec, 16, 300), 0.1, 0.6)
        return [seen.float(), solid.float()]

    compare("mark_alive", run, rtol=0.0, atol=0.0)


def test_samples_of_blocks(compare):
    def run():
        grids = make_grids()
        coords = torch.nonzero(torch.ones_like(grids.block_index)).int()
        return [block_samples(grids, coords).float(), block_samples(grids, coords[:0]).float()]

    compare("block_samples", run, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("size", "region", "hidden", "lit"),
    [((40, 30), False, (), ()), ((33, 18), True, (), ()), ((40, 30), True, (77,), (1,))],
)
def test_the_march_draws_the_reference_picture(emulated, monkeypatch, size, region, hidden, lit):
    emulation.use(monkeypatch, emulated("march"))
    scene, camera = example_scene(64, region=region, objects=bool(hidden)), example_camera(*size)
    options = MarchOptions(hidden=frozenset(hidden), lit=frozenset(lit))
    picture = DeviceRenderer(scene, "cpu").render(camera, options=options)
    wanted = picture_reference.render_camera(scene, camera, options=options)
    difference = np.abs(picture - wanted).max(-1)
    assert picture.std() > 0.005 and (difference <= 1 / 255).mean() >= 0.999


def test_an_error_of_the_driver_is_told_with_its_name():
    class Library:
        def smerf_ray_points(self, *arguments):
            return 700

        @staticmethod
        def smerf_error(code):
            return b"an illegal memory access was encountered"

    backend = emulation.EmulatedBackend("cuda", Library())
    with pytest.raises(
        SmerfError, match="smerf_ray_points on cuda: CUDA error 700: an illegal memory access"
    ):
        backend.call(
            "smerf_ray_points", *map(torch.zeros, (3, 3, 3, 1)), 1.0, 1, 2, torch.zeros(3), torch.zeros(1)
        )


def test_tensors_on_different_devices_are_refused_by_name():
    spec = HashSpec(2, 2, 8, 4, 9)
    table = torch.empty(spec.entry_count, 2, device="meta")
    with pytest.raises(ValueError, match="table: expected a tensor on cpu, got one on meta"):
        hash_encode(torch.rand(4, 3), table, spec)


@pytest.mark.parametrize("points, seed, contraction", [(1, None, "cube"), (3, 7, "ball"), (6, None, "ball")])
def test_multisampled_encoding(compare, points, seed, contraction):
    def run():
        spec = HashSpec(4, 2, 9, 4, 40)
        table = random(spec.entry_count, 2).requires_grad_()
        edges, radii = random(15, 6, seed=1).abs().cumsum(-1), random(15, seed=2).abs() * 0.02
        rays = 0.5 * random(15, 3), torch.nn.functional.normalize(random(15, 3, seed=3), dim=-1), edges, radii
        out = multisample_encode(
            *rays, table, spec, Frustums(0.8, points, contraction, seed), torch.arange(4.0)
        )
        out.backward(random(*out.shape, seed=4))
        return [out.detach(), table.grad]

    compare("multisample", run, atol=4e-5)


@pytest.mark.parametrize("kind", ["spherical", "sinusoidal"])
def test_direction_encodings(compare, kind):
    def run():
        directions = torch.nn.functional.normalize(random(40, 3), dim=-1).requires_grad_()
        out = encode_directions(directions, kind)
        out.backward(random(*out.shape, seed=1))
        return [out.detach(), directions.grad]

    compare("directions", run)


def test_volume_rendering(compare):
    def run():
        density = random(30, 12).exp().requires_grad_()
        colour = random(30, 12, 3, seed=1).sigmoid().requires_grad_()
        edges = random(30, 13, seed=2).abs().cumsum(-1)
        seen = volume_render(density, edges, colour, edges / edges[:, -1:])
        torch.autograd.backward(tuple(seen), [random(*one.shape, seed=3) for one in seen])
        return [*(one.detach() for one in seen), density.grad, colour.grad]

    compare("volume_render", run)


def test_placing_samples(compare):
    def run():
        edges = torch.linspace(0.0, 1.0, 11).expand(20, -1)
        return [
            importance_sample(edges, random(20, 10).square(), 8, random(20, seed=1).clamp(-0.5, 0.5), 0.1)
        ]

    compare("importance_sample", run)


def test_the_proposal_loss(compare):
    def run():
        edges = torch.linspace(0.0, 1.0, 9).expand(20, -1).contiguous()
        outer = torch.linspace(0.0, 1.0, 6).expand(20, -1).contiguous()
        weights, proposal = random(20, 8).softmax(-1), random(20, 5, seed=1).softmax(-1).requires_grad_()
        loss = blurred_interlevel(edges, weights, outer, proposal, 0.02)
        loss.sum().backward()
        return [loss.detach(), proposal.grad]

    compare("interlevel", run)


def test_the_cuda_library_takes_the_structures_of_the_table(emulated):
    library = emulated("runtime")
    sizes = {name: library.smerf_sizeof(name.encode()) for name in abi.STRUCTURES}
    assert sizes == {name: ctypes.sizeof(abi._TYPES[name]) for name in abi.STRUCTURES}


def test_every_kernel_of_the_table_but_one_has_a_cuda_form():
    text = "".join(path.read_text() for path in (emulation.ROOT / "cuda" / "gpu").glob("*.cu"))
    # Tables of half floats are for CPUs alone.
    assert [name for name in abi.KERNELS if f" {name}(" not in text] == ["smerf_sparse_adam_half"]
