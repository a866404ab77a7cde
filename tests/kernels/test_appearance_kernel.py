import math

import pytest
import torch

from smerf.kernels import appearance, native
from smerf.kernels.appearance import appearance_size
from smerf.kernels.reference import appearance as reference
from smerf.student.appearance import AppearanceLattice
from tests.helpers import emulation


def make(rays, lattice, width, seed=0):
    """Return the arguments of ``appearance``: places in runs, some of them beyond the outermost vertices."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rays, 14, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    positions = 2.4 * torch.rand(rays, 3, generator=generator) - 1.2
    positions = positions[torch.arange(rays) // 3]
    params = 0.3 * torch.randn(lattice**3, appearance_size(width), generator=generator)
    return features, directions, positions, params, width


def evaluate(features, directions, positions, params, width, call=appearance):
    """Return the colours, and the gradients of the features and the parameters."""
    features, params = features.clone().requires_grad_(), params.clone().requires_grad_()
    colour = call(features, directions, positions, params, width)
    colour.backward(torch.linspace(-1.0, 1.0, colour.numel(), dtype=colour.dtype).view_as(colour))
    return [colour.detach(), features.grad, params.grad]


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("lattice", [1, 3])
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_native_equals_reference(kernels, assert_close, isa, lattice, width):
    kernels(isa)
    for rays in (0, 1, 700):
        args = make(rays, lattice, width)
        wanted = evaluate(*args, call=reference.appearance)
        assert_close(evaluate(*args), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lattice, width", [(1, 16), (3, 8), (3, 16), (2, 32), (2, 64)])
def test_the_cuda_kernel_equals_the_reference(emulated, monkeypatch, assert_close, lattice, width):
    emulation.use(monkeypatch, emulated("appearance"))
    for rays in (0, 1, 75):
        args = make(rays, lattice, width)
        wanted = evaluate(*args, call=reference.appearance)
        assert_close(evaluate(*args), wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["cpu", "cuda"])
def kind(request, kernels, monkeypatch):
    """Run the test with the native CPU library, then with the emulated kernels."""
    kernels()
    if request.param == "cuda":
        emulation.use(monkeypatch, request.getfixturevalue("emulated")("appearance"))
    elif native.load_cpu() is None:
        pytest.skip("the CPU library is not built")


def test_beyond_the_outermost_vertices_nothing_changes(kind, assert_close):
    features, directions, _, params, width = make(40, 3, 16)
    edge = torch.tensor([2 / 3, -2 / 3, 0.0]).expand(40, 3)
    wanted = evaluate(features, directions, edge, params, width)
    for far in (1.0, 7.0, 1e30, math.inf):
        beyond = torch.tensor([far, -far, 0.0]).expand(40, 3)
        assert_close(evaluate(features, directions, beyond, params, width), wanted, rtol=1e-5, atol=1e-6)
    # Vertex (z, y, x) = (1, 0, 2) has all of the gradient.
    assert torch.equal(wanted[2].any(-1).nonzero()[:, 0], torch.tensor([11]))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_a_number_stays_in_its_row(kind, which):
    args = make(30, 3, 16)
    wanted = evaluate(*args)
    broken = list(args)
    broken[which] = broken[which].clone()
    broken[which][4, 1] = math.nan
    others = torch.arange(30) != 4
    for got, want in zip(evaluate(*broken)[:2], wanted[:2], strict=True):
        assert got[4].isnan().any() and torch.equal(got[others], want[others])


def test_a_lattice_of_one_vertex_is_the_same_everywhere(kind):
    features, directions, positions, params, width = make(30, 1, 16)
    wanted = evaluate(features, directions, positions, params, width)
    lost = torch.full_like(positions, math.nan)
    for got, want in zip(evaluate(features, directions, lost, params, width), wanted, strict=True):
        assert torch.equal(got, want)


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    args = make(3000, 3, 16)
    assert_repeats(lambda: evaluate(*args))


def test_gradients_of_the_reference_are_right():
    features, directions, positions, params, _ = make(4, 2, 3)
    leaves = [tensor.double().requires_grad_() for tensor in (features, params)]

    def call(features, params):
        return reference.appearance(features, directions.double(), positions.double(), params, 3)

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def test_other_widths_double_precision_and_moving_rays_are_left_to_the_reference(kernels):
    kernels()
    for args in (make(9, 2, 5), [a.double() if isinstance(a, torch.Tensor) else a for a in make(9, 2, 16)]):
        for got, want in zip(evaluate(*args), evaluate(*args, call=reference.appearance), strict=True):
            assert torch.equal(got, want)
    features, directions, positions, params, width = make(9, 2, 16)
    directions.requires_grad_(), positions.requires_grad_()
    appearance(features, directions, positions, params, width).sum().backward()
    assert directions.grad.any() and positions.grad.any()


def test_gradients_reach_the_networks(kernels, assert_close):
    results = []
    for name in (None, "reference"):
        kernels(name)
        network = AppearanceLattice(3, 16, torch.Generator().manual_seed(0))
        features, directions, positions, _, _ = make(50, 3, 16)
        network(features, directions, positions).square().sum().backward()
        results.append([parameter.grad for parameter in network.parameters()])
        assert all(grad.any() for grad in results[-1])
    assert_close(*results, rtol=1e-4, atol=1e-5)


def test_the_kernel_is_in_the_table(kernels):
    kernels()
    wanted = "cpu" if native.load_cpu() else "reference"
    assert native.kernel_table()["appearance"]["cpu"] == wanted


def test_wrong_arguments_are_named():
    features, directions, positions, params, width = make(6, 2, 16)
    arguments = [features, directions, positions, params, width]
    for place, value, name in (
        (0, features[:, 1:], "features"),
        (0, features.half(), "features"),
        (1, directions[1:], "directions"),
        (1, directions.double(), "directions"),
        (2, positions[:, :2], "positions"),
        (3, params[:, 1:], "params"),
        (3, params[:7], "params"),
        (3, params[:0], "params"),
        (4, 8, "params"),
    ):
        wrong = arguments.copy()
        wrong[place] = value
        with pytest.raises(ValueError, match=f"^{name}: "):
            appearance(*wrong)
