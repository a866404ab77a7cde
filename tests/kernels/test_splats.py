import dataclasses

import pytest
import torch

from smerf.kernels import Spacing
from smerf.kernels.reference import splats as reference
from smerf.kernels.splat_tree import SplatCamera, build_splat_tree
from smerf.kernels.splats import splat_image, splat_rays
from tests.helpers import emulation

# Three splats: A and B on the way to C. Values of two independent float64 computations that agree to 2e-12.
MEANS = [[0.05, -0.02, 2.0], [-0.03, 0.04, 2.5], [0.0, 0.0, 4.0]]
SCALES = [[0.1, 0.04, 0.02], [0.2, 0.2, 0.02], [1.5, 1.0, 0.05]]
QUATERNIONS = [[0.9, 0.1, -0.3, 0.2], [1.0, 0.0, 0.0, 0.0], [0.7, 0.7, 0.1, 0.0]]
OPACITIES = [0.8, 0.95, 0.999]
COLOURS = [[0.9, 0.2, 0.1], [0.1, 0.8, 0.3], [0.2, 0.3, 0.9]]
SPACING = Spacing(0.2, 8.0, True)


def covariances(scales, quaternions):
    w, x, y, z = (quaternions / quaternions.norm(dim=-1, keepdim=True)).unbind(-1)
    rotation = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).view(-1, 3, 3)  # fmt: skip
    factor = rotation * scales[:, None]
    full = factor @ factor.transpose(1, 2)
    return full[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]]


def tree_of(means, scales, quaternions, opacities, colours, **changes):
    values = [
        torch.tensor(each, dtype=torch.float32) for each in (means, scales, quaternions, opacities, colours)
    ]
    means, scales, quaternions, opacities, colours = values
    sh = ((colours - 0.5) / 0.28209479177387814)[:, None]
    return dataclasses.replace(
        build_splat_tree(means, covariances(scales, quaternions), opacities, sh), **changes
    )


def first(count, **changes):
    parts = (each[:count] for each in (MEANS, SCALES, QUATERNIONS, OPACITIES, COLOURS))
    return tree_of(*parts, **changes)


def camera(size=32, focal=40.0, **changes):
    middle = 0.5 * size
    return SplatCamera(
        (1, 0, 0, 0, 1, 0, 0, 0, 1),
        (0, 0, 0),
        focal,
        focal,
        middle,
        middle,
        size,
        size,
        by_depth=True,
        **changes,
    )


def random_tree(count=400, degree=2, seed=1, **changes):
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(count, 3, generator=generator) + torch.tensor([0.0, 0.0, 5.0])
    scales = torch.exp(torch.randn(count, 3, generator=generator) - 2.5)
    quaternions = torch.randn(count, 4, generator=generator)
    opacities = torch.rand(count, generator=generator)
    sh = torch.randn(count, (degree + 1) ** 2, 3, generator=generator) * 0.5
    return dataclasses.replace(
        build_splat_tree(means, covariances(scales, quaternions), opacities, sh), **changes
    )


def random_rays(count, seed=2):
    generator = torch.Generator().manual_seed(seed)
    origins = 0.3 * torch.randn(count, 3, generator=generator)
    targets = torch.randn(count, 3, generator=generator) + torch.tensor([0.0, 0.0, 5.0])
    directions = targets - origins
    return origins, directions / directions.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("name", [None, "baseline", "avx2", "reference"])
@pytest.mark.parametrize(
    ("count", "pixel", "antialiased", "colour", "light"),
    [
        (1, (16, 16), False, (0.410631, 0.091251, 0.045626), 0.543743),
        (1, (17, 15), False, (0.666679, 0.148151, 0.074075), 0.259246),
        (1, (17, 15), True, (0.519620, 0.115471, 0.057736), 0.422645),
        (2, (16, 16), False, (0.459940, 0.485724, 0.193553), 0.050652),
        (3, (16, 16), False, (0.476131 - 0.007576, 0.506223 - 0.007576, 0.239897 - 0.007576), 0.007576),
        (3, (12, 18), False, (0.529249 - 0.476943, 0.895389 - 0.476943, 0.633860 - 0.476943), 0.476943),
    ],
)
def test_images_have_the_known_pixels(kernels, name, count, pixel, antialiased, colour, light):
    kernels(name)
    image = splat_image(first(count, antialiased=antialiased), camera())
    wanted = torch.tensor([*colour, light])
    torch.testing.assert_close(image[pixel[1], pixel[0]], wanted, rtol=0.0, atol=2e-6)


def test_a_splat_beside_the_image_is_clamped_as_in_training(kernels):
    kernels()
    tree = tree_of([[1.5, 0.1, 1.5]], [[0.6, 0.3, 0.3]], [[1.0, 0, 0, 0]], [0.9], [[0.5, 0.6, 0.7]])
    wanted = torch.tensor([0.145814, 0.174976, 0.204139, 0.708373])
    torch.testing.assert_close(splat_image(tree, camera())[16, 31], wanted, rtol=0.0, atol=2e-6)


def test_a_tiny_splat_vanishes_where_it_keeps_its_opacity(kernels):
    kernels()
    ball = ([[0.01, 0, 2.0]], [[0.001] * 3], [[1.0, 0, 0, 0]], [0.9], [[1.0, 1.0, 1.0]])
    plain = splat_image(tree_of(*ball), camera())[16, 16]
    torch.testing.assert_close(plain, torch.tensor([0.511058] * 3 + [0.488942]), rtol=0.0, atol=2e-6)
    assert splat_image(tree_of(*ball, antialiased=True), camera())[16, 16].tolist() == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("name", [None, "baseline", "avx2", "reference"])
def test_a_ray_meets_splats_in_the_order_of_their_centres(kernels, name):
    kernels(name)
    ray = torch.tensor([[(12.5 - 16) / 40, (18.5 - 16) / 40, 1.0]])
    origin, direction = torch.zeros(1, 3), ray / ray.norm()
    edges, weights, colour = splat_rays(first(3), origin, direction, SPACING, 32, 0.002)
    wanted = torch.tensor([[0.052403, 0.412721, 0.158708]])
    torch.testing.assert_close(colour, wanted, rtol=0.0, atol=2e-6)
    assert float(weights.sum()) == pytest.approx(1.0 - 0.480974, abs=2e-6)
    assert edges[0, 0] == pytest.approx(0.2) and edges[0, -1] == pytest.approx(8.0)


@pytest.mark.parametrize("name", ["baseline", "avx2"])
@pytest.mark.parametrize("spacing", [SPACING, Spacing(0.05, float("inf"), False)])
@pytest.mark.parametrize("antialiased", [False, True])
def test_rays_equal_those_of_the_reference(kernels, name, spacing, antialiased):
    kernels(name)
    turn = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    tree = random_tree(near=0.2, dilation=0.3 / 300**2, antialiased=antialiased, sh_rotation=turn)
    rays = random_rays(200)
    edges, weights, colours = splat_rays(tree, *rays, spacing, 24, 1 / 1024)
    wanted = reference.splat_rays(tree, *rays, spacing, 24, 1 / 1024, 0.1)
    torch.testing.assert_close(colours, wanted[2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.sum(-1), wanted[1].sum(-1), rtol=0.0, atol=1e-5)
    middle = 0.5 * (wanted[0][:, 1:] + wanted[0][:, :-1])
    mean = [(w * 0.5 * (e[:, 1:] + e[:, :-1])).sum(-1) for e, w in ((edges, weights), wanted[:2])]
    torch.testing.assert_close(mean[0], mean[1], rtol=1e-3, atol=1e-4)
    assert middle.shape == weights.shape and float(weights.sum(-1).mean()) > 0.3


@pytest.mark.parametrize("name", ["baseline", "avx2"])
@pytest.mark.parametrize("by_depth", [False, True])
def test_images_equal_those_of_the_reference(kernels, name, by_depth):
    kernels(name)
    view = dataclasses.replace(camera(40, 45.0), by_depth=by_depth, eye=(0.1, -0.2, 0.3))
    tree = random_tree(degree=3)
    torch.testing.assert_close(
        splat_image(tree, view), reference.splat_image(tree, view), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", [None, "reference"])
def test_intervals_tile_the_ray_and_hold_its_opacity(kernels, name):
    kernels(name)
    edges, weights, _ = splat_rays(random_tree(), *random_rays(100), SPACING, 32, 1 / 1024)
    assert (edges.diff(dim=-1) > 0.0).all() and (weights >= 0.0).all()
    torch.testing.assert_close(edges[:, 0], torch.full((100,), 0.2))
    torch.testing.assert_close(edges[:, -1], torch.full((100,), 8.0))
    one, one_weights, _ = splat_rays(random_tree(), *random_rays(100), SPACING, 1, 1 / 1024)
    assert one.shape == (100, 2)
    torch.testing.assert_close(weights.sum(-1), one_weights[:, 0], rtol=0.0, atol=1e-5)


def test_rays_that_meet_nothing_are_divided_evenly(kernels):
    for name in (None, "reference"):
        kernels(name)
        origin, direction = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -1.0]])
        edges, weights, colour = splat_rays(random_tree(), origin, direction, SPACING, 4, 1 / 1024)
        torch.testing.assert_close(edges[0], torch.linspace(0.2, 8.0, 5))
        assert not weights.any() and not colour.any()


def test_flat_splats_place_their_weight_on_their_plane(kernels):
    kernels()
    # A surfel that faces (0, 1, 1) at distance 3 from the eye along z.
    quaternion = [0.9238795, -0.3826834, 0.0, 0.0]
    tree = tree_of([[0.0, 0.0, 3.0]], [[1.0, 1.0, 1e-4]], [quaternion], [0.95], [[1, 1, 1]])
    direction = torch.tensor([[0.0, 0.1, 1.0]])
    direction = direction / direction.norm()
    edges, weights, _ = splat_rays(tree, torch.zeros(1, 3), direction, SPACING, 64, 1 / 1024)
    place = float((weights * 0.5 * (edges[:, 1:] + edges[:, :-1])).sum() / weights.sum())
    # The plane y + z = 3 in the direction of the ray.
    assert place == pytest.approx(3.0 / float(direction[0, 1] + direction[0, 2]), abs=0.02)


def test_answers_repeat_on_any_number_of_threads(kernels, assert_repeats):
    kernels()
    tree = random_tree(2000)
    rays = random_rays(500)
    assert_repeats(
        lambda: [*splat_rays(tree, *rays, SPACING, 32, 1 / 1024), splat_image(tree, camera(48, 60.0))]
    )


def test_damaged_arrays_are_refused():
    with pytest.raises(ValueError, match="none is opaque enough"):
        tree_of([[0, 0, 1]], [[1, 1, 1]], [[1, 0, 0, 0]], [0.001], [[0, 0, 0]])
    with pytest.raises(ValueError, match="sh"):
        build_splat_tree(torch.zeros(2, 3), torch.ones(2, 6), torch.ones(2), torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match="samples"):
        splat_rays(random_tree(), *random_rays(1), SPACING, 500, 0.001)


def test_a_dilated_ray_has_the_known_colour(kernels):
    for name in (None, "reference"):
        kernels(name)
        ray = torch.tensor([[(17.5 - 16) / 40, (15.5 - 16) / 40, 1.0]])
        # The pixel's pitch along this ray: the cosine of its angle to the axis over the focal length.
        tree = first(3, dilation=0.3 * (1.0 / (40.0 * float(ray.norm()))) ** 2)
        _, weights, colour = splat_rays(tree, torch.zeros(1, 3), ray / ray.norm(), SPACING, 32, 0.002)
        wanted = torch.tensor([[0.693829, 0.315035, 0.170214]])
        torch.testing.assert_close(colour, wanted, rtol=0.0, atol=2e-6)
        assert 1.0 - float(weights.sum()) == pytest.approx(0.024541, abs=2e-6)


@pytest.mark.parametrize("name", ["baseline", "avx2", "reference"])
def test_colours_may_be_half_floats(kernels, name):
    kernels(name)
    tree = random_tree(degree=3, dilation=1e-5)
    half = dataclasses.replace(tree, sh=tree.sh.half())
    for draw in (
        lambda each: splat_rays(each, *random_rays(100), SPACING, 8, 1 / 1024)[2],
        lambda each: splat_image(each, camera(24, 30.0)),
    ):
        difference = (draw(half) - draw(tree)).abs()
        assert 0.0 < float(difference.max()) < 5e-4


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("antialiased", [False, True])
def test_cuda_sources_give_the_rays_and_images_of_the_reference(emulated, monkeypatch, half, antialiased):
    tree = random_tree(300, near=0.2, dilation=0.3 / 300**2, antialiased=antialiased)
    tree = dataclasses.replace(tree, sh=tree.sh.half()) if half else tree
    rays, view = random_rays(140), dataclasses.replace(camera(40, 45.0), by_depth=False, eye=(0.1, -0.2, 0.3))
    for source, evaluate, wanted in (
        ("splat_rays", lambda: splat_rays(tree, *rays, SPACING, 24, 1 / 1024), None),
        ("splat_image", lambda: (splat_image(tree, view),), (reference.splat_image(tree, view),)),
    ):
        wanted = wanted or reference.splat_rays(tree, *rays, SPACING, 24, 1 / 1024, 0.1)
        emulation.use(monkeypatch, emulated(source))
        got = evaluate()
        torch.testing.assert_close(got[-1], wanted[-1], rtol=1e-3, atol=1e-4)
        if len(got) == 3:
            assert (got[0].diff(dim=-1) > 0.0).all()
            torch.testing.assert_close(got[1].sum(-1), wanted[1].sum(-1), rtol=0.0, atol=1e-5)
            mean, other = ((w * 0.5 * (e[:, 1:] + e[:, :-1])).sum(-1) for e, w in (got[:2], wanted[:2]))
            torch.testing.assert_close(mean, other, rtol=1e-3, atol=1e-4)
