import math

import pytest
import torch

from smerf.kernels import ray_points
from smerf.kernels.reference.contraction import contract, contraction_scale, contraction_speed, uncontract

POINTS = torch.tensor(
    [[0.3, -0.2, 0.9], [2, 1, 0.5], [3, -6, 1.5], [-1.5, 0.2, 0.1], [1000, 10, -3], [1, 1, 1], [-4, 4, 1]],
    dtype=torch.float64,
)
CONTRACTED = torch.tensor(
    [
        [0.3, -0.2, 0.9],
        [1.5, 0.5, 0.25],
        [0.5, -1.8333333333, 0.25],
        [-1.3333333333, 0.1333333333, 0.0666666667],
        [1.999, 0.01, -0.003],
        [1, 1, 1],
        [-1.75, 1, 0.25],
    ],
    dtype=torch.float64,
)


def random_rays(rays, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.rand(rays, 3, generator=generator) * 2 - 1
    directions = torch.randn(rays, 3, generator=generator)
    steps = 10.0 ** (torch.rand(rays, samples + 1, generator=generator) * 4 - 3)
    return origins, directions, steps.cumsum(-1), torch.rand(rays, generator=generator) * 0.01


def test_contraction_has_the_published_values():
    torch.testing.assert_close(contract(POINTS), CONTRACTED, rtol=0, atol=1e-9)
    torch.testing.assert_close(uncontract(contract(POINTS)), POINTS, rtol=1e-9, atol=0)
    x = torch.tensor([[3.0, -6.0, 1.5]], dtype=torch.float64)
    speed = contraction_speed(x, torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64))
    assert abs(speed.item() - 0.1714139) < 1e-7
    assert abs((1 / 512) / speed.item() - 0.0113942) < 1e-7


def test_speed_and_scale_belong_to_the_jacobian():
    generator = torch.Generator().manual_seed(1)
    for x in torch.randn(20, 3, generator=generator, dtype=torch.float64) * 3:
        jacobian = torch.autograd.functional.jacobian(contract, x)
        d = torch.nn.functional.normalize(torch.randn(3, generator=generator, dtype=torch.float64), dim=0)
        torch.testing.assert_close(contraction_speed(x, d), (jacobian @ d).norm())
        torch.testing.assert_close(contraction_scale(x) ** 3, torch.linalg.det(jacobian).abs())
    x = (torch.randn(10, 3, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    assert torch.autograd.gradcheck(contract, (x,))
    assert torch.autograd.gradcheck(uncontract, (contract(x).detach().requires_grad_(),))


def test_native_points_have_the_published_contraction():
    points = POINTS.float()
    zero = torch.zeros(len(points), 2)
    x, sigma = ray_points(points, torch.ones_like(points), zero, torch.ones(len(points)), 1.0)
    torch.testing.assert_close(4 * x - 2, CONTRACTED.float(), rtol=0, atol=1e-6)
    assert (sigma == 0).all()


@pytest.mark.parametrize("rays, samples", [(0, 3), (5, 0), (1, 1), (200, 9)])
def test_native_equals_reference(kernels, assert_close, rays, samples):
    args = *random_rays(rays, samples), 0.7
    kernels()
    native = ray_points(*args)
    kernels("reference")
    assert_close(native, ray_points(*args))
    assert native[0].shape == (rays * samples, 3) and native[1].shape == (rays * samples,)


def test_points_stay_in_the_unit_cube_however_far(kernels, assert_close):
    origins, directions, _, radii = random_rays(6, 1)
    edges = torch.tensor([[0.0, 0.0], [1e6, 1e6], [1e10, 3e10], [1e20, 1e20], [1e30, 1e30], [1e-30, 1e-30]])
    results = []
    for form in (None, "reference"):
        kernels(form)
        results.append(ray_points(origins, directions, edges, radii, 2.5))
    assert_close(*results)
    x, sigma = results[0]
    assert x.min() >= 0 and x.max() <= 1 and torch.isfinite(sigma).all() and (sigma >= 0).all()


def test_the_footprint_is_half_the_cone_in_the_cube():
    origin, direction = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])
    _, near = ray_points(origin, direction, torch.tensor([[0.4, 0.6]]), torch.tensor([0.01]), 1.0)
    _, far = ray_points(origin, direction, torch.tensor([[7.0, 9.0]]), torch.tensor([0.01]), 1.0)
    assert math.isclose(near.item(), 0.5 * 0.01 * 0.5 / 4, rel_tol=1e-6)
    assert math.isclose(far.item(), 0.5 * 0.01 * 8 / 4 * 8 ** (-4 / 3), rel_tol=1e-5)


def test_what_is_not_a_number_stays_so_and_harms_no_other_ray():
    origins, directions, edges, radii = random_rays(3, 4)
    clean, _ = ray_points(origins, directions, edges, radii, 1.0)
    origins[1, 2] = math.nan
    x, _ = ray_points(origins, directions, edges, radii, 1.0)
    assert torch.isnan(x[4:8]).any(-1).all()
    assert torch.equal(x[:4], clean[:4]) and torch.equal(x[8:], clean[8:])


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    args = random_rays(2000, 5)
    assert_repeats(lambda: ray_points(*args, 1.3))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_build_gives_the_same(kernels, assert_close, isa):
    args = random_rays(100, 5)
    kernels("reference")
    wanted = ray_points(*args, 1.3)
    kernels(isa)
    assert_close(ray_points(*args, 1.3), wanted)


def test_wrong_arguments_are_named():
    args = list(random_rays(4, 3))
    for place, name in enumerate(("origins", "directions", "edges", "radii")):
        for value in (args[place].double(), args[place][None]):
            wrong = args.copy()
            wrong[place] = value
            with pytest.raises(ValueError, match=f"^{name}: expected torch.float32"):
                ray_points(*wrong, 1.0)
