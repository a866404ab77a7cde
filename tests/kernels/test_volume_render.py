import math

import pytest
import torch

from smerf.kernels import volume_render
from smerf.kernels.reference.volume_render import volume_render as volume_render_reference


def random_input(rays, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    edges = torch.rand(rays, samples + 1, generator=generator).cumsum(-1)
    density = torch.rand(rays, samples, generator=generator) ** 4 * 5.0
    colour = torch.rand(rays, samples, 3, generator=generator)
    coordinates = torch.rand(rays, samples + 1, generator=generator).cumsum(-1) / max(1, samples)
    return density, edges, colour, coordinates


def render(density, edges, colour, coordinates, seed=1):
    """Return the rendering and the gradients of a random upstream."""
    generator = torch.Generator().manual_seed(seed)
    density = density.clone().requires_grad_()
    colour = None if colour is None else colour.clone().requires_grad_()
    result = volume_render(density, edges, colour, coordinates)
    total = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in result)
    total.backward()
    gradients = [density.grad] + ([] if colour is None else [colour.grad])
    return [part.detach() for part in result] + gradients


@pytest.mark.parametrize("with_colour", [False, True])
@pytest.mark.parametrize("with_coordinates", [False, True])
def test_native_equals_reference(kernels, assert_close, with_colour, with_coordinates):
    for rays, samples in ((0, 8), (3, 0), (5, 1), (300, 33)):
        density, edges, colour, coordinates = random_input(rays, samples)
        args = density, edges, colour if with_colour else None, coordinates if with_coordinates else None
        kernels()
        native = render(*args)
        kernels("reference")
        assert_close(native, render(*args), rtol=1e-4, atol=1e-5)


def test_degenerate_rays_render_alike(kernels, assert_close):
    density, edges, colour, coordinates = random_input(8, 12)
    density[0], density[1], density[2, 4] = 0.0, 1e-7, 1e7
    edges[3] = 2.0
    edges[4, 3:8], coordinates[4, 3:8] = edges[4, 3].clone(), coordinates[4, 3].clone()
    edges[5] = torch.logspace(-3, 4, 13)
    density[6, 5:] = 3e6
    kernels()
    native = render(density, edges, colour, coordinates)
    kernels("reference")
    wanted = render(density, edges, colour, coordinates)
    assert all(bool(part.isfinite().all()) for part in native)
    # The last gradients are as large as the interval of length 5000: compared at that scale.
    assert_close(native, wanted, rtol=1e-4, atol=1e-5)


def test_a_wall_hides_what_is_behind_it_and_nothing_before_it():
    density = torch.tensor([[0.5, 0.2, 3e6, 1.0]], requires_grad=True)
    edges = torch.arange(5.0)[None]
    colour = torch.eye(3)[[0, 1, 2, 0]][None]
    seen = volume_render(density, edges, colour)
    first, second = 1.0 - math.exp(-0.5), math.exp(-0.5) * (1.0 - math.exp(-0.2))
    assert seen.colour[0].tolist() == pytest.approx([first, second, 1.0 - first - second], abs=1e-6)
    assert seen.opacity.item() == pytest.approx(1.0, abs=1e-6)
    depth = 0.5 * first + 1.5 * second + 2.5 * (1.0 - first - second)
    assert seen.depth.item() == pytest.approx(depth, abs=1e-5)
    seen.colour[0, 2].backward()
    # More matter before the wall takes light from it; behind it nothing matters.
    wanted = [-math.exp(-0.7), -math.exp(-0.7), 0.0, 0.0]
    assert density.grad[0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_thin_matter_keeps_its_precision():
    seen = volume_render(torch.full((1, 4), 1e-6), torch.arange(5.0)[None])
    torch.testing.assert_close(seen.weights, torch.full((1, 4), 1e-6), rtol=1e-5, atol=0)


def test_distortion_equals_the_double_sum():
    density, edges, _, coordinates = random_input(6, 14, seed=5)
    seen = volume_render(density, edges, None, coordinates)
    w, e = seen.weights.double(), coordinates.double()
    middle = 0.5 * (e[:, 1:] + e[:, :-1])
    pairs = w[:, :, None] * w[:, None] * (middle[:, :, None] - middle[:, None]).abs()
    wanted = pairs.sum((1, 2)) + (w**2 * e.diff(dim=-1)).sum(-1) / 3
    torch.testing.assert_close(seen.distortion.double(), wanted, rtol=1e-4, atol=1e-6)


def test_gradients_of_the_reference_are_right():
    density, edges, colour, coordinates = (a.double() for a in random_input(3, 5))
    args = density.requires_grad_(), colour.requires_grad_()
    assert torch.autograd.gradcheck(lambda d, c: volume_render_reference(d, edges, c, coordinates), args)


def test_a_broken_ray_leaves_its_neighbours_alone(assert_close):
    density, edges, colour, coordinates = random_input(5, 9)
    wanted = render(density, edges, colour, coordinates)
    density[2, 3] = math.nan
    found = render(density, edges, colour, coordinates)
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(got[[0, 1, 3, 4]], want[[0, 1, 3, 4]])


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    args = random_input(900, 20)
    assert_repeats(lambda: render(*args))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_build_gives_the_same(kernels, assert_close, isa):
    args = random_input(100, 20)
    kernels("reference")
    wanted = render(*args)
    kernels(isa)
    assert_close(render(*args), wanted, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_named():
    density, edges, colour, coordinates = random_input(4, 6)
    with pytest.raises(ValueError, match=r"^density: expected torch.float32"):
        volume_render(density.double(), edges)
    with pytest.raises(ValueError, match=r"^edges: expected .*\(4, 7\), got .*\(4, 6\)"):
        volume_render(density, edges[:, 1:])
    with pytest.raises(ValueError, match=r"^colour: "):
        volume_render(density, edges, colour[..., :2])
    with pytest.raises(ValueError, match=r"^coordinates: "):
        volume_render(density, edges, colour, coordinates[:3])
    with pytest.raises(ValueError, match=r"^edges: expected device cpu like density, got meta"):
        volume_render(density, edges.to("meta"))
