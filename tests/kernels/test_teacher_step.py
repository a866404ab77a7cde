import dataclasses
import math

import pytest
import torch

from smerf.fields.rays import Spacing
from smerf.fields.rendering import (
    charbonnier,
    density_activation,
    distance_loss,
    distortion_loss,
    render_weights,
)
from smerf.kernels import (
    HashSpec,
    encode_directions,
    hash_encode,
    initial_params,
    native,
    radiance_head,
    ray_points,
    teacher_step,
)
from smerf.kernels.teacher_step import FusedField, TeacherPass, reads_half
from smerf.kernels.types import FieldGradients, FieldRays, TeacherLosses
from tests.helpers import emulation

GRID = HashSpec(3, 4, 9, 4, 24)
DENSITY, COLOUR = (12, 24, 9), (9 + 16, 40, 3)
BOUNDED, UNBOUNDED = Spacing(0.5, 3.0, True), Spacing(0.3, math.inf, False)
WEIGHTS = {
    "charbonnier": 0.05,
    "distortion_weight": 0.3,
    "opacity_weight": 0.02,
    "distance_weight": 0.4,
    "near_distance": 1.0,
}
SCALE = 1.2


def batch(rays, samples, seed=0):
    """Return origins, directions, radii, s edges, wanted colours and backgrounds."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.rand(rays, 3, generator=generator) - 0.5
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    radii = torch.rand(rays, generator=generator) * 1e-2
    s_edges = torch.rand(rays, samples + 1, generator=generator).sort(-1).values
    return origins, directions, radii, s_edges, *torch.rand(2, rays, 3, generator=generator)


def known_distances(rays):
    """Return where some rays meet something; 0 for every third, of which that is not known."""
    return torch.where(torch.arange(rays) % 3 > 0, torch.linspace(0.4, 4.0, rays), 0.0)


def field_for(spacing, seed=0, **settings):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(GRID.entry_count, GRID.features, generator=generator) * 0.5
    nets = [initial_params(dims, generator) for dims in (DENSITY, COLOUR)]
    return FusedField(GRID, table, nets[0], DENSITY, nets[1], COLOUR, spacing, SCALE, **settings)


def ladder(t):
    return 5.0 / 3.0 * (1.0 - (0.8 * t + 1.0) ** -1.5)


def by_autograd(field, spacing, parts):
    """Return edges, weights and colours, the five losses, and the gradients, all by separate kernels."""
    origins, directions, radii, s_edges, truth, background = parts
    leaves = [p.clone().requires_grad_() for p in (field.table, field.density_params, field.colour_params)]
    edges = spacing.t_from_s(s_edges)
    x, sigma = ray_points(origins, directions, edges, radii, SCALE)
    features = hash_encode(x, leaves[0], GRID, sigma)
    raw, logits = radiance_head(
        features, encode_directions(directions), leaves[1], DENSITY, leaves[2], COLOUR
    )
    density, colours = density_activation(raw).view(edges[:, 1:].shape), torch.sigmoid(logits)
    middle = spacing.t_from_s(0.5 * (s_edges[:, 1:] + s_edges[:, :-1]))
    share = (middle / WEIGHTS["near_distance"]).square().clamp_max(1.0)
    density.register_hook(lambda gradient: gradient * share)
    colours.register_hook(lambda gradient: gradient * share.reshape(-1, 1))
    weights = render_weights(density, edges)
    colour = torch.einsum("rs,rsc->rc", weights, colours.view(*weights.shape, 3))
    error = colour + (1.0 - weights.sum(-1, keepdim=True)) * background - truth
    losses = torch.stack(
        [
            charbonnier(error, WEIGHTS["charbonnier"]),
            distortion_loss(ladder(edges), weights),
            error.square().mean(),
            -torch.expm1(-density * edges.diff(dim=-1)).sum(-1).mean(),
            distance_loss(edges, weights, known_distances(len(origins))),
        ]
    )
    names = ("distortion_weight", "opacity_weight", "distance_weight")
    (losses[0] + sum(WEIGHTS[name] * losses[i] for name, i in zip(names, (1, 3, 4)))).backward()
    return [edges.detach(), weights.detach(), colour.detach()], losses.detach(), [p.grad for p in leaves]


def by_pass(field, parts, cache=None, cache_keep=0.9, **settings):
    gradients = [torch.zeros_like(p) for p in (field.table, field.density_params, field.colour_params)]
    run = TeacherPass(
        len(parts[0]), parts[3].shape[1] - 1, GRID.width, 0 if cache is None else cache.shape[0]
    )
    run.run(
        field, FieldRays(*parts[:4]), *parts[4:], FieldGradients(*gradients),
        TeacherLosses(**(WEIGHTS | settings)), cache, cache_keep, known_distances(len(parts[0])),
    )  # fmt: skip
    return run, gradients


def assert_gradients(found, wanted, worst=2e-3):
    for ours, theirs in zip(found, wanted, strict=True):
        # A ReLU at zero may fall on either side of it, which moves single rows.
        assert (ours - theirs).norm() <= worst * theirs.norm()
        assert (ours - theirs).abs().max() <= 10 * worst * theirs.abs().max()


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("spacing", [BOUNDED, UNBOUNDED], ids=["bounded", "unbounded"])
def test_the_fused_pass_equals_autograd_over_the_parts(kernels, assert_close, isa, spacing):
    for rays, samples in ((1, 1), (5, 3), (33, 13), (70, 32)):
        field, parts = field_for(spacing), batch(rays, samples, seed=samples)
        kernels("reference")
        answer, losses, gradients = by_autograd(field, spacing, parts)
        kernels(isa)
        # The ladder's far end magnifies the last bit of s: 1.2e-4 at a distance of 158.
        assert_close(list(field.query(FieldRays(*parts[:4]))), answer, rtol=1e-3, atol=1e-5)
        run, found = by_pass(field, parts)
        torch.testing.assert_close(run.losses.mean(0), losses, rtol=1e-4, atol=1e-6)
        assert_gradients(found, gradients)
        assert run.sample_fractions() == (1.0, 1.0)


@pytest.fixture
def cuda(emulated, monkeypatch):
    emulation.use(monkeypatch, emulated("teacher_step"))


@pytest.mark.parametrize("spacing", [BOUNDED, UNBOUNDED], ids=["bounded", "unbounded"])
def test_on_a_gpu_the_pass_equals_autograd_over_the_parts(cuda, assert_close, monkeypatch, spacing):
    assert FusedField.supports(DENSITY, COLOUR, spacing, 32, torch.device("cpu"))
    assert not FusedField.supports((12, 300, 9), COLOUR, spacing, 32)
    for rays, samples in ((1, 1), (5, 3), (33, 13), (20, 32)):
        field, parts = field_for(spacing), batch(rays, samples, seed=samples)
        answer, losses, gradients = by_autograd(field, spacing, parts)
        # A query comes in several parts.
        monkeypatch.setattr(teacher_step, "_GPU_RAYS", 14)
        assert_close(list(field.query(FieldRays(*parts[:4]))), answer, rtol=1e-3, atol=1e-5)
        run, found = by_pass(field, parts)
        torch.testing.assert_close(run.losses.mean(0), losses, rtol=1e-4, atol=1e-6)
        assert_gradients(found, gradients)
        assert run.sample_fractions() == (1.0, 1.0)


def test_a_gpu_leaves_out_what_the_cpu_leaves_out(kernels, emulated, monkeypatch, assert_close):
    kernels()
    if native.cpu_backend("smerf_teacher_step") is None:
        pytest.skip("the CPU library is not built")
    # Some cells hold more than the field says: they fall to a share, others rise.
    parts, seen = batch(60, 28), 12.0 * torch.rand(8, 8, 8, generator=torch.Generator().manual_seed(1))
    parts[4][7, 1], parts[0][9, 0] = math.nan, math.nan
    limits = {"min_depth": 0.24, "recheck": 0.2, "step": 3, "min_light": 1e-2, "min_weight": 3e-3}
    results = []
    for library in (None, emulated("teacher_step")):
        if library is not None:
            emulation.use(monkeypatch, library)
        cache = seen.clone()
        field = field_for(BOUNDED, cache=cache, **limits)
        field.density_params[-9] += 2.0
        answer = field.query(FieldRays(*parts[:4]))
        run, gradients = by_pass(field, parts, cache, min_gradient=0.05)
        results.append((answer, run.losses, cache, gradients, run.sample_fractions()))
    theirs, ours = results
    assert 0.1 < ours[4][0] < ours[4][1] < 0.8 and ours[4] == pytest.approx(theirs[4], abs=0.01)
    is_ray = torch.arange(60) != 9
    assert_close([one[is_ray] for one in ours[0]], [one[is_ray] for one in theirs[0]], rtol=1e-3, atol=1e-4)
    is_ray[7] = False
    torch.testing.assert_close(ours[1][is_ray], theirs[1][is_ray], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-3, atol=1e-4)
    assert (ours[2] > seen).any() and (ours[2] < seen).any() and (ours[2] >= 0.0).all()
    assert_gradients(ours[3], theirs[3], worst=5e-3)


def test_a_gpu_is_not_asked_for_sums_that_repeat(cuda):
    torch.use_deterministic_algorithms(True)
    try:
        assert not FusedField.supports(DENSITY, COLOUR, BOUNDED, 32)
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_hardly_counts_is_left_out_and_hardly_missed():
    parts = batch(200, 32)
    field = field_for(BOUNDED)
    field.density_params[-9] += 4.0
    quick = dataclasses.replace(field, min_light=1e-3, min_weight=3e-4)
    for ours, theirs in zip(
        quick.query(FieldRays(*parts[:4])), field.query(FieldRays(*parts[:4])), strict=True
    ):
        assert (ours - theirs).abs().max() < 1e-2
    # Opacity alone counts behind what is opaque, and distances a little.
    for distance_weight, worst in ((0.0, 2e-2), (0.4, 5e-2)):
        kept = {"opacity_weight": 0.0, "distance_weight": distance_weight}
        run, found = by_pass(quick, parts, min_gradient=1e-4, **kept)
        followed, evaluated = run.sample_fractions()
        assert followed < evaluated < 0.9
        _, wanted = by_pass(field, parts, **kept)
        assert_gradients(found, wanted, worst=worst)


def test_cells_that_hold_nothing_are_skipped_and_rechecked(kernels):
    kernels()
    parts = batch(100, 16)
    cache = torch.zeros(8, 8, 8)
    field = field_for(BOUNDED, cache=cache, min_depth=1e-3)
    assert (field.query(FieldRays(*parts[:4]))[1] == 0).all()
    run, _ = by_pass(dataclasses.replace(field, recheck=0.25, step=3), parts, cache)
    assert 0.2 < run.sample_fractions()[1] < 0.3
    assert (cache > 0).any()
    before = cache.clone()
    by_pass(dataclasses.replace(field, recheck=1.0), parts, cache, cache_keep=0.5)
    assert (cache >= 0.5 * before).all()


def test_half_floats_are_close(kernels, assert_close):
    kernels()
    if not reads_half():
        pytest.skip("the library in use reads no tables of half floats")
    parts, field = batch(60, 16), field_for(UNBOUNDED)
    half = dataclasses.replace(field, half_table=field.table.half())
    assert_close(
        list(half.query(FieldRays(*parts[:4]))),
        list(field.query(FieldRays(*parts[:4]))),
        rtol=1e-2,
        atol=2e-3,
    )


def test_a_wanted_colour_that_is_no_number_teaches_nothing():
    parts, field = batch(40, 8), field_for(UNBOUNDED)
    bad = [part.clone() for part in parts]
    bad[4][7] = math.nan
    colour_alone = dict.fromkeys(("distortion_weight", "opacity_weight", "distance_weight"), 0.0)
    _, found = by_pass(field, bad, **colour_alone)
    others = [part[torch.arange(40) != 7] for part in parts]
    _, wanted = by_pass(field, others, **colour_alone)
    assert_gradients(found, [39 / 40 * gradient for gradient in wanted])


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    parts, cache = batch(700, 16), torch.rand(8, 8, 8)
    field = field_for(UNBOUNDED, cache=cache, min_depth=1e-2, recheck=0.2, min_light=1e-3, min_weight=1e-4)

    def run():
        mine = cache.clone()
        passed, gradients = by_pass(dataclasses.replace(field, cache=mine), parts, mine)
        return [passed.losses, *gradients, mine]

    assert_repeats(run)


def test_no_rays_are_fine():
    parts, field = batch(0, 8), field_for(BOUNDED)
    assert [tuple(a.shape) for a in field.query(FieldRays(*parts[:4]))] == [(0, 9), (0, 8), (0, 3)]
    _, gradients = by_pass(field, parts)
    assert all((gradient == 0).all() for gradient in gradients)


def test_wrong_arguments_are_named():
    parts, field = batch(4, 8), field_for(BOUNDED)
    for place, name in enumerate(("origins", "directions", "radii", "s_edges", "truth", "background")):
        wrong = list(parts)
        wrong[place] = wrong[place].double()
        with pytest.raises(ValueError, match=f"^{name}: "):
            by_pass(field, wrong)
    for name in ("table", "density_params", "colour_params"):
        with pytest.raises(ValueError, match=f"^{name}: "):
            dataclasses.replace(field, **{name: getattr(field, name)[:-1]})
    with pytest.raises(ValueError, match="colour_dims: expected"):
        dataclasses.replace(field, colour_dims=(9 + 16, 40, 4), colour_params=torch.zeros(26 * 40 + 41 * 4))
    with pytest.raises(ValueError, match="s_edges: expected"):
        field.query(FieldRays(*parts[:3], torch.rand(4, 200)))


def test_without_a_library_nothing_is_read_in_halves(kernels):
    kernels("reference")
    assert native.load_cpu() is None and not reads_half()
