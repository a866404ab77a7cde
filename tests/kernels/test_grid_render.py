import math

import pytest
import torch

from smerf.kernels import Grids, GridSpec, grid_adam_, grid_mark, grid_read, grid_render
from smerf.kernels.reference import grid_render as reference

SPEC = GridSpec(32, 64, scale=1.7, centre=(0.1, -0.2, 0.05))


def make_grids(seed=0, spec=SPEC, share=0.7, density=0.0):
    """Return grids of random values with a random share of the blocks; ``density`` shifts channel 0."""
    generator = torch.Generator().manual_seed(seed)
    has_block = torch.rand(spec.blocks**3, generator=generator) < share
    index = torch.where(has_block, has_block.long().cumsum(0) - 1, -1).view(3 * (spec.blocks,))
    grids = Grids.allocate(spec, index)
    for records in (grids.voxel_records, grids.plane_records):
        records[:, 8:16] = torch.randn(records.shape[0], 8, generator=generator)
    grids.voxel_records[:, 8] += density
    grids.requantise()
    return grids


def full_block_index(spec):
    return torch.arange(spec.blocks**3).view(3 * (spec.blocks,))


def make_rays(rays, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.rand(rays, 3, generator=generator) * 2 - 1
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    widths = 10.0 ** (torch.rand(rays, samples, generator=generator) * 2 - 2)
    widths[torch.rand(rays, samples, generator=generator) < 0.1] = 0.0
    edges = torch.cat([torch.full((rays, 1), 0.02), widths], -1).cumsum(-1)
    upstream = torch.randn(rays, 14, generator=generator), torch.randn(rays, samples, generator=generator)
    return origins, directions, edges, upstream


def evaluate(make, origins, directions, edges, upstream, tau):
    """Return outputs, gradients and flags of new grids from ``make``."""
    grids, anchor = make(), torch.zeros(1, requires_grad=True)
    outputs = grid_render(grids, anchor, origins, directions, edges, tau)
    torch.autograd.backward(outputs, upstream)
    assert (anchor.grad == 0).all()
    assert (grids.voxel_records[:, 16:] == 0).all() and (grids.plane_records[:, 16:] == 0).all()
    gradients = [grids.voxel_records[:, :8].clone(), grids.plane_records[:, :8].clone()]
    return [*(o.detach() for o in outputs), *gradients], [grids.voxel_touched, grids.plane_touched]


@pytest.mark.parametrize("tau", [0.0, 0.005, 0.3])
@pytest.mark.parametrize("density", [-3.0, 0.0, 2.0])
def test_native_equals_reference(kernels, assert_close, tau, density):
    rays = make_rays(150, 24)
    kernels()
    native, flags = evaluate(lambda: make_grids(density=density), *rays, tau)
    kernels("reference")
    wanted, wanted_flags = evaluate(lambda: make_grids(density=density), *rays, tau)
    # exp of a density logit of up to 15 magnifies the rounding of the interpolation: 4e-6 off at worst.
    assert_close(native, wanted, rtol=1e-3, atol=1e-5)
    assert all(map(torch.equal, flags, wanted_flags))
    assert native[0].abs().max() > 0.1 and wanted_flags[0].sum() > 500


@pytest.mark.parametrize("rays, samples", [(0, 4), (3, 0), (1, 1), (1, 256)])
def test_few_rays_and_samples(kernels, assert_close, rays, samples):
    results = []
    for form in (None, "reference"):
        kernels(form)
        results.append(evaluate(make_grids, *make_rays(rays, samples), 0.005)[0])
    assert results[0][0].shape == (rays, 14) and results[0][1].shape == (rays, samples)
    assert_close(*results, rtol=1e-3, atol=1e-5)


def test_without_any_block_everything_is_empty(kernels):
    for form in (None, "reference"):
        kernels(form)
        (features, weights, _, on_planes), flags = evaluate(
            lambda: make_grids(share=0.0), *make_rays(40, 5), 0.0
        )
        assert not features.any() and not weights.any() and not on_planes.any()
        assert not any(flag.any() for flag in flags)


def test_intervals_that_are_empty_or_nowhere_harm_nothing(kernels, assert_close):
    origins, directions, _, (up, _) = make_rays(8, 1)
    rows = [[0, 0, 0, 0], [1, 1, 1, 2], [0.5, 0.4, 0.6, 0.6], [1, 10, 1e6, 1e12], [0.1, math.nan, 0.5, 0.6]]
    edges = torch.tensor([*rows, [0.1, 0.3, 0.5, math.inf], [0.1, 0.3, 0.5, 0.9], [0.1, 0.3, 0.5, 0.9]])
    origins[6, 1], origins[7] = math.nan, torch.tensor([1e30, -1e25, 3e37])

    def mist():
        return constant_grids([140, *7 * [128]], [128] * 8)

    results = []
    for form in (None, "reference"):
        kernels(form)
        upstream = up, torch.ones(8, 3)
        values, flags = evaluate(mist, origins, directions, edges, upstream, 0.0)
        assert all(torch.isfinite(value).all() for value in values)
        weights = values[1]
        assert not weights[0].any() and not weights[1, :2].any() and weights[1, 2] > 0
        assert weights[2, 0] == 0 and weights[2, 2] == 0 and weights[2, 1] > 0
        assert not weights[4, :2].any() and not weights[6].any()
        results.append([*values, *flags])
    assert_close(*results, rtol=1e-3, atol=1e-5)


def constant_grids(voxel_bytes, plane_bytes, spec=SPEC):
    grids = Grids.allocate(spec, full_block_index(spec))
    grids.voxels[:] = torch.tensor(voxel_bytes, dtype=torch.uint8)
    grids.planes[:] = torch.tensor(plane_bytes, dtype=torch.uint8)
    return grids


@pytest.mark.parametrize("form", [None, "reference"])
def test_a_uniform_scene_follows_the_formulas(kernels, form):
    kernels(form)
    voxel, plane = [140, 30, 200, 128, 90, 60, 250, 146], [129, 100, 140, 200, 127, 90, 10, 180]
    grids = constant_grids(voxel, plane)
    v = [-14 + 28 * voxel[0] / 255] + [-7 + 14 * b / 255 for b in voxel[1:]]
    t = [3 * (-14 + 28 * plane[0] / 255)] + [3 * (-7 + 14 * b / 255) for b in plane[1:]]
    gate = v[7]
    sigma = math.exp(gate * t[0] + v[0] - 1)
    edges = torch.tensor([[0.1, 0.3, 0.35]])
    features, weights = grid_render(
        grids, torch.zeros(1, requires_grad=True), torch.zeros(1, 3), torch.tensor([[0.0, 0.6, 0.8]]), edges
    )
    first = 1 - math.exp(-0.2 * sigma)
    second = math.exp(-0.2 * sigma) * (1 - math.exp(-0.05 * sigma))
    assert weights[0].tolist() == pytest.approx([first, second], rel=1e-4)
    fine = [1 / (1 + math.exp(-(gate * t[c] + v[c]))) for c in range(1, 8)]
    coarse = [1 / (1 + math.exp(-v[c])) for c in range(1, 8)]
    wanted = [(first + second) * value for value in fine + coarse]
    assert features[0].tolist() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("form", [None, "reference"])
def test_culling_compares_alpha_over_one_marching_step(kernels, form):
    kernels(form)
    grids = constant_grids([128, 128, 128, 128, 128, 128, 128, 128], [128] * 8)
    v, t = 28 * 128 / 255 - 14, 3 * (28 * 128 / 255 - 14)
    sigma = math.exp((14 * 128 / 255 - 7) * t + v - 1)
    inside = 1 - math.exp(-sigma * SPEC.step / SPEC.scale)
    direction, anchor = torch.tensor([[0.6, 0.8, 0.0]]), torch.zeros(1, requires_grad=True)

    def weight(origin, tau):
        edges = torch.tensor([[0.0, 1e-3]])
        return grid_render(grids, anchor, torch.tensor([origin]), direction, edges, tau)[1].item()

    near = list(SPEC.centre)
    assert weight(near, 0.99 * inside) > 0 and weight(near, 1.01 * inside) == 0
    # At submodel point (3, -6, 1.5) the contraction's speed along (0.6, 0.8, 0) is 0.1714139.
    far = [3 / SPEC.scale + 0.1, -6 / SPEC.scale - 0.2, 1.5 / SPEC.scale + 0.05]
    outside = 1 - math.exp(-sigma * SPEC.step / SPEC.scale / 0.1714139)
    assert weight(far, 0.995 * outside) > 0 and weight(far, 1.005 * outside) == 0


@pytest.mark.parametrize("form", [None, "reference"])
def test_the_rest_of_an_opaque_ray_is_skipped(kernels, form):
    kernels(form)
    grids = constant_grids([200, *7 * [128]], [128] * 8)
    edges = torch.linspace(0.0, 0.5, 11)[None]
    anchor = torch.zeros(1, requires_grad=True)
    features, weights = grid_render(grids, anchor, torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]]), edges)
    assert weights[0, 0] > 1 - 1e-4 and not weights[0, 1:].any()
    features.sum().backward()
    touched = int(grids.voxel_touched.sum())
    assert 1 <= touched <= 8 and int(grids.plane_touched.sum()) <= 12


def test_gradients_predict_the_change_of_a_byte(kernels):
    """Differences of the rendering itself, a byte or two up and down (error of fourth order)."""
    kernels()
    grids = make_grids(density=-2.0)
    origins, directions, edges, (up_features, up_weights) = make_rays(12, 10, seed=4)
    anchor = torch.zeros(1, requires_grad=True)

    def loss():
        features, weights = grid_render(grids, anchor, origins, directions, edges)
        return (features * up_features).double().sum() + (weights * up_weights).double().sum()

    loss().backward()
    for records, values in ((grids.voxel_records, grids.voxels), (grids.plane_records, grids.planes)):
        for channel in range(8):
            vertex = int(records[:, channel].abs().argmax())
            value, width = int(values[vertex, channel]), 28.0 if channel == 0 else 14.0
            at = {}
            for change in (-2, -1, 1, 2):
                values[vertex, channel] = value + change
                at[change] = loss().item()
            values[vertex, channel] = value
            slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * width / 255)
            assert slope == pytest.approx(float(records[vertex, channel]), rel=0.02, abs=1e-3)


def test_gradients_of_the_reference_are_right():
    generator = torch.Generator().manual_seed(0)
    v, t = torch.randn(2, 3, 4, 8, generator=generator, dtype=torch.float64)
    dt = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    alive = torch.rand(3, 4, generator=generator) < 0.8

    def composited(v, t):
        return reference.composite(v, t, dt, torch.full_like(dt, 0.01), alive, 0.003)[:2]

    kept = reference.composite(v, t, dt, torch.full_like(dt, 0.01), alive, 0.003)[2]
    assert kept.any() and (alive & ~kept).any()
    assert torch.autograd.gradcheck(composited, (v.requires_grad_(), t.requires_grad_()))


def test_bytes_coordinates_and_means_are_the_published_ones(assert_close):
    s = torch.tensor([[0.0, 0.0, 0.0], [1.5, 0.5, -0.25]], dtype=torch.float64)
    high = reference.grid_coordinates(reference.viewer_axes(s), 2048)
    assert high.tolist() == [[1023.5] * 3, [255.5, 895.5, 1279.5]]
    assert reference.grid_coordinates(reference.viewer_axes(s[1]), 512).tolist() == [63.5, 223.5, 319.5]
    mean = reference.frustum_mean(torch.tensor(1.0), torch.tensor(2.0))
    assert mean.item() == pytest.approx(1.6071429, rel=1e-6)
    grids = Grids.allocate(GridSpec(8, 8, 1.0), torch.zeros(1, 1, 1))
    grids.voxel_records[:5, 8:16] = torch.tensor([-10.0, -1.0, 0.0, 0.3, 5.0])[:, None]
    grids.requantise()
    assert grids.voxels[:5].tolist() == [[byte] * 8 for byte in (0, 69, 128, 146, 253)]
    cells = torch.tensor([[0.0, 0, k] for k in range(5)])
    v, _, _ = grid_read(grids, (cells + 0.5) / 2 - 2)
    wanted = torch.tensor([-7, -3.211765, 0.027451, 1.015686, 6.890196])
    assert_close(v, torch.cat([2 * wanted[:, None], wanted[:, None].expand(-1, 7)], 1), atol=1e-5)


@pytest.mark.parametrize("form", [None, "reference"])
def test_reading_at_a_vertex_gives_its_value(kernels, assert_close, form):
    kernels(form)
    grids = make_grids(share=1.0)
    resolution = SPEC.plane_resolution
    cell = torch.tensor([[5, 9, 30], [0, 63, 17]])
    _, t, alive = grid_read(grids, (cell + 0.5) * (4 / resolution) - 2)
    assert alive.all()
    planes = grids.planes.view(3, resolution, resolution, 8).float()
    a, b, c = cell.unbind(-1)
    total = planes[0, b, c] + planes[1, a, c] + planes[2, a, b]
    low, width = torch.tensor([-14.0, *7 * [-7.0]]), torch.tensor([28.0, *7 * [14.0]])
    assert_close(t, 3 * low + width * total / 255, atol=1e-5)
    voxel = torch.tensor([[13, 2, 31]])
    v, _, _ = grid_read(grids, (voxel + 0.5) / 8 - 2)
    block, inside = grids.block_index[1, 0, 3].item(), (5 * 8 + 2) * 8 + 7
    assert_close(v[0], low + width * grids.voxels[512 * block + inside].float() / 255, atol=1e-5)


@pytest.mark.parametrize("form", [None, "reference"])
def test_beside_a_missing_block_density_fades_and_behind_it_nothing_is(kernels, form):
    kernels(form)
    spec = GridSpec(16, 16, 1.0)
    index = torch.full((2, 2, 2), -1)
    index[0, 0, 0] = 0
    grids = Grids.allocate(spec, index)
    grids.voxels[:] = 255
    # The last voxel of the block is centred at -0.125 and the first of the missing one at 0.125.
    v, t, alive = grid_read(
        grids, torch.tensor([[-0.125, -1, -1], [0.0, -1, -1], [0.124, -1, -1], [0.126, -1, -1]])
    )
    assert alive.tolist() == [True, True, True, False]
    assert v[:2, 0].tolist() == pytest.approx([14, 0], abs=1e-4)
    assert v[1, 1:].tolist() == pytest.approx([0.5 * (7 - 7 + 14 * 128 / 255)] * 7, abs=1e-4)
    assert not v[3].any() and not t[3].any()


def test_read_equals_its_reference(kernels, assert_close):
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(500, 3, generator=generator) * 4.2 - 2.1
    points[7, 1], points[8], points[9] = math.nan, 2.0, -2.0
    results = []
    for form in (None, "reference"):
        kernels(form)
        results.append(grid_read(make_grids(), points))
        assert not results[-1][2][7] and not results[-1][0][7].any()
        assert grid_read(make_grids(), points[:0])[0].shape == (0, 8)
    assert torch.equal(results[0][2], results[1][2]) and 100 < results[0][2].sum() < 450
    assert_close(results[0][:2], results[1][:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", [None, "reference"])
def test_marking_finds_exactly_what_the_backward_pass_touches(kernels, form):
    kernels(form)
    rays = make_rays(60, 12)

    def thin_grids():
        """Return grids in which no ray becomes opaque."""
        grids = make_grids(density=-20.0)
        grids.planes[:, 0] = 128
        return grids

    _, flags = evaluate(thin_grids, *rays, 0.0)
    marked = thin_grids()
    grid_mark(marked, *rays[:3])
    assert torch.equal(marked.voxel_touched, flags[0]) and torch.equal(marked.plane_touched, flags[1])
    assert 0 < flags[0].sum() < flags[0].numel()
    assert not marked.voxel_records[:, :8].any()


def with_gradients(bad=None):
    grids = make_grids(1)
    generator = torch.Generator().manual_seed(7)
    for records, touched in (
        (grids.voxel_records, grids.voxel_touched),
        (grids.plane_records, grids.plane_touched),
    ):
        touched[:] = torch.rand(touched.shape, generator=generator) < 0.5
        records[:, :8] = torch.randn(records.shape[0], 8, generator=generator) * touched[:, None]
        records[:, 16:] = torch.rand(records.shape[0], 16, generator=generator)
        if bad is not None:
            records[:5, 3], touched[:5] = bad, 1
    return grids


def test_adam_equals_its_reference(kernels, assert_close):
    options = {"step": 4, "lr": 0.05, "plane_lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-12}
    before, results = with_gradients(), []
    for form in (None, "reference"):
        kernels(form)
        grids = with_gradients()
        grid_adam_(grids, **options)
        assert not grids.voxel_touched.any() and not grids.plane_touched.any()
        assert not grids.voxel_records[:, :8].any()
        still = before.voxel_touched == 0
        assert torch.equal(grids.voxel_records[still], before.voxel_records[still])
        assert (grids.voxel_records[~still, 8:16] != before.voxel_records[~still, 8:16]).any(-1).all()
        stored = torch.round(255 * torch.sigmoid(grids.voxel_records[:, 8:16])).to(torch.uint8)
        assert ((stored.int() - grids.voxels.int()).abs() > 0).float().mean() < 1e-3
        results.append(grids)
    ours, theirs = results
    records = [[grids.voxel_records, grids.plane_records] for grids in results]
    assert_close(*records, rtol=1e-4, atol=1e-5)
    for name in ("voxels", "planes"):
        difference = (getattr(ours, name).int() - getattr(theirs, name).int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("form", [None, "reference"])
def test_a_gradient_that_is_not_finite_is_dropped(kernels, form, bad):
    kernels(form)
    grids, before = with_gradients(bad), with_gradients(bad)
    grid_adam_(grids, step=1, lr=0.1)
    assert torch.isfinite(grids.voxel_records).all() and torch.isfinite(grids.plane_records).all()
    assert torch.equal(grids.voxel_records[:5, 8:], before.voxel_records[:5, 8:])
    assert torch.equal(grids.voxels[:5], before.voxels[:5])
    assert not grids.voxel_touched.any()


@pytest.mark.parametrize("form", [None, "reference"])
def test_a_colour_is_learnt(kernels, form):
    kernels(form)
    grids = constant_grids([140, *7 * [128]], [128] * 8, GridSpec(16, 32, 1.0))
    grids.voxel_records[:, 8:16] = torch.logit(grids.voxels.float() / 255)
    grids.plane_records[:, 8:16] = torch.logit(grids.planes.float() / 255)
    origins, directions, edges, _ = make_rays(40, 8, seed=1)
    anchor, target = torch.zeros(1, requires_grad=True), torch.tensor([0.8, 0.2, 0.4])
    losses = []
    for step in range(1, 41):
        features, _ = grid_render(grids, anchor, origins, directions, edges)
        loss = ((features[:, :3] - target) ** 2).mean()
        loss.backward()
        grid_adam_(grids, step=step, lr=0.1)
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    rays = make_rays(400, 16)

    def run():
        values, flags = evaluate(make_grids, *rays, 0.005)
        grids = with_gradients()
        grid_adam_(grids, step=2, lr=0.1)
        return [*values, *flags, grids.voxel_records, grids.planes]

    assert_repeats(run)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_build_gives_the_same(kernels, assert_close, isa):
    rays = make_rays(60, 12)
    kernels("reference")
    wanted, wanted_flags = evaluate(make_grids, *rays, 0.005)
    kernels(isa)
    values, flags = evaluate(make_grids, *rays, 0.005)
    assert_close(values, wanted, rtol=1e-3, atol=1e-5)
    assert all(map(torch.equal, flags, wanted_flags))


def test_wrong_arguments_are_named():
    grids, anchor = make_grids(), torch.zeros(1, requires_grad=True)
    rays = make_rays(4, 3)[:3]
    for place, name in enumerate(("origins", "directions", "edges")):
        for value in (rays[place].double(), rays[place][None]):
            wrong = list(rays)
            wrong[place] = value
            with pytest.raises(ValueError, match=f"^{name}: expected torch.float32"):
                grid_render(grids, anchor, *wrong)
            with pytest.raises(ValueError, match=f"^{name}: expected torch.float32"):
                grid_mark(grids, *wrong)
    for samples in (-1, 257):
        with pytest.raises(ValueError, match=r"^edges: expected 1 to 257 interval ends"):
            grid_render(grids, anchor, *rays[:2], torch.zeros(4, samples + 1))
    with pytest.raises(ValueError, match=r"^points: "):
        grid_read(grids, torch.zeros(4, 2))
