import math
from dataclasses import replace

import pytest
import torch

from smerf.kernels import Frustums, HashSpec, hash_encode, multisample_encode, ray_points
from smerf.kernels.reference.multisample import contract_ball, frustum_points

SPEC = HashSpec(level_count=4, features=2, log2_size=9, base=4, finest=40)
SCALES = torch.tensor([0.5, 1.0, 2.0, 3.0])


def random_rays(rays, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.rand(rays, 3, generator=generator) * 2.0 - 1.0
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    edges = torch.rand(rays, samples + 1, generator=generator).cumsum(-1) * 0.3
    radii = torch.rand(rays, generator=generator) * 0.05
    return origins, directions, edges, radii


def table_of(spec=SPEC, seed=1):
    return torch.randn(spec.entry_count, spec.features, generator=torch.Generator().manual_seed(seed))


def encode(rays, frustums, scales=SCALES, spec=SPEC):
    table = table_of(spec).requires_grad_()
    out = multisample_encode(*rays, table, spec, frustums, scales)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(2)))
    return [out.detach(), table.grad]


@pytest.mark.parametrize("contraction", ["ball", "cube"])
@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("points", [1, 3, 6])
def test_native_equals_reference(kernels, assert_close, points, seed, contraction):
    frustums = Frustums(0.8, points, contraction, seed, first_ray=5)
    for rays, samples in ((0, 4), (3, 0), (1, 1), (70, 9)):
        args = random_rays(rays, samples), frustums
        kernels()
        native = encode(*args)
        assert native[0].shape == (rays * samples, SPEC.width + SPEC.level_count)
        kernels("reference")
        # A point that falls on the border of a cell on one side alone changes little: 2e-5 at worst.
        assert_close(native, encode(*args), rtol=1e-4, atol=4e-5)


@pytest.mark.parametrize("features", [1, 4, 8])
def test_any_number_of_features_and_no_scales(kernels, assert_close, features):
    spec = replace(SPEC, features=features)
    args = random_rays(40, 7), Frustums(1.0), None, spec
    kernels()
    native = encode(*args)
    kernels("reference")
    assert_close(native, encode(*args), rtol=1e-4, atol=4e-5)


def test_one_midpoint_is_what_single_samples_are():
    rays = random_rays(30, 8)
    x, sigma = ray_points(*rays, 0.7)
    table = table_of()
    single = hash_encode(x, table, SPEC, sigma)
    found = multisample_encode(*rays, table, SPEC, Frustums(0.7, 1, "cube"))
    torch.testing.assert_close(found, single, rtol=1e-4, atol=1e-5)


def test_degenerate_intervals_are_encoded_alike(kernels, assert_close):
    origins, directions, edges, radii = random_rays(6, 5)
    directions[0], directions[1] = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, -1.0])
    edges[2], edges[3] = 0.0, 0.5
    edges[4] = torch.logspace(0, 4, 6)
    radii[5] = 0.0
    args = (origins, directions, edges, radii), Frustums(1.0, 6, "ball", 3)
    kernels()
    native = encode(*args)
    assert all(bool(part.isfinite().all()) for part in native)
    kernels("reference")
    assert_close(native, encode(*args), rtol=1e-4, atol=4e-5)


def test_six_points_have_the_moments_of_the_frustum():
    """Mean, variance along the ray and total variance across it are exact; the rest averages out by turning."""
    t0, t1, radius = 2.0, 2.6, 0.05
    ray = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[t0, t1]]), torch.tensor([radius])
    rays = [part.double() for part in ray]
    x, _ = frustum_points(*rays, Frustums(0.2))
    points = (4.0 * x[0] - 2.0) / 0.2
    t = torch.linspace(t0, t1, 200_001, dtype=torch.float64)
    share = t**2 / (t**2).sum()
    mean = (share * t).sum()
    along, lateral = (share * (t - mean) ** 2).sum(), (share * (radius * t) ** 2 / 4).sum()
    assert points[:, 2].mean().item() == pytest.approx(mean.item(), rel=1e-5)
    assert points[:, 2].var(unbiased=False).item() == pytest.approx(along.item(), rel=1e-4)
    assert points[:, :2].mean(0).abs().max() < 0.1 * radius
    assert (points[:, :2] ** 2).mean(0).sum().item() == pytest.approx(2.0 * lateral.item(), rel=1e-4)
    assert (points[:, :2] ** 2).mean(0).diff().abs().item() < 0.1 * lateral.item()


def test_the_pattern_turns_with_the_seed_and_stays_without():
    rays = random_rays(50, 6)

    def points(seed, first=0, count=50):
        part = [a[first : first + count] for a in rays]
        return frustum_points(*part, Frustums(1.0, 6, "ball", seed, first))[0].view(count, 6, 6, 3)

    assert torch.equal(points(None), points(None))
    assert torch.equal(points(3), points(3)) and not torch.equal(points(3), points(4))
    assert torch.equal(points(3)[20:30], points(3, 20, 10))


def test_the_ball_contraction_keeps_the_unit_ball_and_directions():
    inside, outside = torch.tensor([0.3, -0.4, 0.5]), torch.tensor([0.0, 3.0, 4.0])
    assert torch.equal(contract_ball(inside), inside)
    torch.testing.assert_close(contract_ball(outside), torch.tensor([0.0, 0.6, 0.8]) * 1.8)
    jacobian = torch.autograd.functional.jacobian(contract_ball, outside.double())
    rays = outside[None] - torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    _, sigma = frustum_points(*rays, torch.tensor([[1.0, 1.0]]), torch.ones(1), Frustums(1.0, 1))
    assert sigma.item() == pytest.approx(0.125 * jacobian.det().item() ** (1 / 3), rel=1e-5)


def test_wide_cones_fade_fine_levels_and_say_so():
    origins, directions, edges, _ = random_rays(10, 4)
    thin = multisample_encode(
        origins, directions, edges, torch.zeros(10), table_of(), SPEC, Frustums(), SCALES
    )
    wide = multisample_encode(
        origins, directions, edges, torch.ones(10), table_of(), SPEC, Frustums(), SCALES
    )
    torch.testing.assert_close(thin[:, SPEC.width :], SCALES.expand(40, -1))
    finest = slice(SPEC.width - SPEC.features, SPEC.width)
    assert wide[:, finest].abs().mean() < 0.5 * thin[:, finest].abs().mean()
    assert (wide[:, -1] < thin[:, -1]).all()


def test_gradients_reach_the_rays():
    origins, directions, edges, radii = random_rays(4, 3, seed=6)
    table = table_of()
    origins.requires_grad_(), directions.requires_grad_()
    upstream = torch.randn(12, SPEC.width, generator=torch.Generator().manual_seed(3))

    def value(o, d):
        return (
            multisample_encode(o, d, edges, radii, table, SPEC, Frustums(0.5, 6, "ball", 1)) * upstream
        ).sum()

    value(origins, directions).backward()
    for which, gradient in ((0, origins.grad), (1, directions.grad)):
        moved = [origins.detach().clone(), directions.detach().clone()]
        moved[which][2, 1] += 1e-3
        ahead = value(*moved)
        moved[which][2, 1] -= 2e-3
        slope = (ahead - value(*moved)).item() / 2e-3
        # A finite difference across cells of 1/40: within a few percent.
        assert gradient[2, 1].item() == pytest.approx(slope, rel=0.1, abs=0.05)


def test_the_ray_path_gives_the_same_features():
    rays = random_rays(20, 5)
    plain = multisample_encode(*rays, table_of(), SPEC, Frustums(), SCALES)
    rays[0].requires_grad_()
    torch.testing.assert_close(
        multisample_encode(*rays, table_of(), SPEC, Frustums(), SCALES).detach(), plain, rtol=1e-4, atol=4e-5
    )


def test_a_broken_ray_leaves_its_neighbours_alone():
    rays = random_rays(5, 4)
    wanted = encode(rays, Frustums())[0].view(5, 4, -1)
    rays[1][2] = math.nan
    found = encode(rays, Frustums())
    assert torch.equal(found[0].view(5, 4, -1)[[0, 1, 3, 4]], wanted[[0, 1, 3, 4]])
    assert found[1].isfinite().all()


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    rays = random_rays(300, 12)
    assert_repeats(lambda: encode(rays, Frustums(1.0, 6, "ball", 4)))


def test_wrong_arguments_are_named():
    origins, directions, edges, radii = random_rays(4, 3)
    table = table_of()
    with pytest.raises(ValueError, match=r"^origins: expected .*\(4, 3\), got .*\(3, 3\)"):
        multisample_encode(origins[1:], directions, edges, radii, table, SPEC, Frustums())
    with pytest.raises(ValueError, match=r"^edges: expected torch.float32"):
        multisample_encode(origins, directions, edges.double(), radii, table, SPEC, Frustums())
    with pytest.raises(ValueError, match=r"^table: "):
        multisample_encode(origins, directions, edges, radii, table[1:], SPEC, Frustums())
    with pytest.raises(ValueError, match=r"^level_scales: expected .*\(4,\)"):
        multisample_encode(origins, directions, edges, radii, table, SPEC, Frustums(), SCALES[1:])
    with pytest.raises(ValueError, match=r"^table: expected device cpu"):
        multisample_encode(origins, directions, edges, radii, table.to("meta"), SPEC, Frustums())
    with pytest.raises(ValueError, match=r"^points: expected 1, 3 or 6, got 2"):
        Frustums(points=2)
    with pytest.raises(ValueError, match=r"^contraction: "):
        Frustums(contraction="box")
