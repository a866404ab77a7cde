import pytest
import torch

from smerf.kernels import initial_params, mlp, param_count, radiance_head
from smerf.kernels.reference import mlp as reference

DENSITY, COLOUR = (10, 32, 5), (5 + 16, 24, 24, 3)


def network(dims, rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    params = initial_params(dims, generator) + 0.1 * torch.randn(param_count(dims), generator=generator)
    x = torch.randn(rows, dims[0], generator=generator)
    return x, params, torch.randn(rows, dims[-1], generator=generator)


def evaluate(dims, x, params, upstream):
    x, params = x.clone().requires_grad_(), params.clone().requires_grad_()
    out = mlp(x, params, dims)
    out.backward(upstream)
    return [out.detach(), x.grad, params.grad]


def head_input(rays, samples, seed=0):
    features, density, up_density = network(DENSITY, rays * samples, seed)
    _, colour, up_colour = network(COLOUR, rays * samples, seed + 1)
    directions = torch.randn(rays, 16, generator=torch.Generator().manual_seed(seed))
    return features, directions, density, colour, up_density[:, 0].contiguous(), up_colour


def evaluate_head(features, directions, density, colour, up_density, up_colour):
    leaves = [tensor.clone().requires_grad_() for tensor in (features, density, colour)]
    outputs = radiance_head(leaves[0], directions, leaves[1], DENSITY, leaves[2], COLOUR)
    torch.autograd.backward(outputs, (up_density, up_colour))
    return [*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dims", [(3, 4), (1, 1, 1), (40, 64, 8), (7, 65, 33, 16, 2), (16, 16, 16)])
def test_native_equals_reference(kernels, assert_close, dims):
    for rows in (0, 1, 127, 129, 2500):
        x, params, upstream = network(dims, rows)
        kernels()
        native = evaluate(dims, x, params, upstream)
        kernels("reference")
        # Sums of 2500 float32 products in another order.
        assert_close(native, evaluate(dims, x, params, upstream), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rays, samples", [(0, 4), (4, 0), (1, 1), (3, 1), (1, 130), (100, 31)])
def test_the_radiance_head_equals_its_reference(kernels, assert_close, rays, samples):
    args = head_input(rays, samples)
    kernels()
    native = evaluate_head(*args)
    kernels("reference")
    assert_close(native, evaluate_head(*args), rtol=1e-4, atol=1e-5)


def test_the_colour_net_reads_the_density_net_and_the_direction():
    features, directions, density, colour, _, _ = head_input(2, 3)
    raw_density, raw_colour = radiance_head(features, directions, density, DENSITY, colour, COLOUR)
    geometry = mlp(features, density, DENSITY)
    joined = torch.cat([geometry, directions.repeat_interleave(3, 0)], -1)
    torch.testing.assert_close(raw_density, geometry[:, 0])
    torch.testing.assert_close(raw_colour, mlp(joined, colour, COLOUR))


def test_large_and_vanishing_inputs(kernels, assert_close):
    dims = (8, 16, 4)
    x, params, upstream = network(dims, 64)
    for scale in (0.0, 1e-30, 1e15):
        kernels()
        native = evaluate(dims, scale * x, params, upstream)
        kernels("reference")
        assert_close(native, evaluate(dims, scale * x, params, upstream), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_reference_are_right():
    x, params, _ = network((3, 6, 2), 5)
    arguments = x.double().requires_grad_(), params.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, p: reference.mlp(x, p, (3, 6, 2)), arguments)
    features, directions, density, colour, _, _ = head_input(2, 2)
    leaves = [tensor.double().requires_grad_() for tensor in (features, density, colour)]

    def head(features, density, colour):
        return reference.radiance_head(features, directions.double(), density, DENSITY, colour, COLOUR)

    assert torch.autograd.gradcheck(head, leaves, fast_mode=True)


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    plain, head = network((10, 32, 4), 5000), head_input(170, 30)
    assert_repeats(lambda: [*evaluate((10, 32, 4), *plain), *evaluate_head(*head)])


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_build_gives_the_same(kernels, assert_close, isa):
    plain, head = network((10, 50, 4), 300), head_input(20, 30)
    kernels("reference")
    wanted = [*evaluate((10, 50, 4), *plain), *evaluate_head(*head)]
    kernels(isa)
    assert_close([*evaluate((10, 50, 4), *plain), *evaluate_head(*head)], wanted, rtol=1e-4, atol=1e-5)


def test_initial_weights_are_he_uniform_with_zero_bias():
    dims = (50, 40, 3)
    params = initial_params(dims, torch.Generator().manual_seed(0))
    (first, bias), (second, _) = reference.layers(params, dims)
    assert params.shape == (param_count(dims),) and (bias == 0).all()
    for weights, width in ((first, 50), (second, 40)):
        limit = (6 / width) ** 0.5
        assert weights.abs().max() <= limit and weights.abs().max() > 0.9 * limit
        assert abs(float(weights.std()) - limit / 3**0.5) < 0.1 * limit


def test_wrong_arguments_are_named():
    x, params, _ = network((3, 6, 2), 5)
    with pytest.raises(ValueError, match=r"^x: "):
        mlp(x[:, :2], params, (3, 6, 2))
    with pytest.raises(ValueError, match=r"^params: "):
        mlp(x, params[1:], (3, 6, 2))
    with pytest.raises(ValueError, match=r"^params: expected torch.float32"):
        mlp(x, params.half(), (3, 6, 2))
    with pytest.raises(ValueError, match=r"^dims: "):
        mlp(x, params, (3,))
    features, directions, density, colour, _, _ = head_input(4, 3)
    arguments = [features, directions, density, DENSITY, colour, COLOUR]
    for place, value, name in (
        (0, features[:, 1:], "features"),
        (0, features[:-1], "features"),
        (1, directions[:, 1:], "directions"),
        (1, directions[:0], "features"),
        (2, density.double(), "density_params"),
        (4, colour[1:], "colour_params"),
    ):
        wrong = arguments.copy()
        wrong[place] = value
        with pytest.raises(ValueError, match=f"^{name}: "):
            radiance_head(*wrong)
    with pytest.raises(ValueError, match=r"^colour_dims: "):
        radiance_head(*arguments[:4], initial_params((21, 4), torch.Generator()), (21, 4))
