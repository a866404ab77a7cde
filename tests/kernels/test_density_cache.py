import math

import pytest
import torch

from smerf.kernels import Spacing
from smerf.kernels.density_cache import cache_raise_, cache_sample
from smerf.kernels.reference import density_cache as reference
from smerf.kernels.types import CacheSampling
from tests.helpers import emulation

LINEAR, LADDER = Spacing(0.5, 3.0, True), Spacing(0.2, math.inf, False)
SIZES = {"bins": 48, "samples": 16, "scale": 1.3, "cap": 0.35, "mix": 0.1}


def sampling(spacing, **sizes):
    return CacheSampling(spacing, **(SIZES | sizes))


def scene(rays, seed=0, resolution=16):
    generator = torch.Generator().manual_seed(seed)
    cache = torch.rand(resolution, resolution, resolution, generator=generator) ** 8 * 30.0
    origins = torch.rand(rays, 3, generator=generator) * 2.0 - 1.0
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=generator), dim=-1)
    shift, jitter = torch.rand(2, rays, generator=generator) - 0.5
    return cache, origins, directions, shift, jitter


def sample(parts, spacing, **sizes):
    cache, origins, directions, shift, jitter = parts
    return cache_sample(cache, origins, directions, sampling(spacing, **sizes), shift, jitter)


@pytest.fixture
def switch(kernels, emulated, monkeypatch):
    """Choose the kernels that run, those for GPUs included."""

    def choose(form):
        if form == "cuda":
            emulation.use(monkeypatch, emulated("density_cache"))
        else:
            kernels(form)

    return choose


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "cuda"])
@pytest.mark.parametrize("spacing", [LINEAR, LADDER], ids=["linear", "ladder"])
def test_native_equals_reference(kernels, switch, isa, spacing):
    for rays, sizes in (
        (0, {}),
        (1, {}),
        (300, {}),
        (300, {"samples": 1}),
        (300, {"bins": 1}),
        (40, {"mix": 1.0}),
    ):
        parts = scene(rays)
        kernels("reference")
        wanted = reference.cache_sample(*parts[:3], sampling(spacing, **sizes), *parts[3:])
        switch(isa)
        found = sample(parts, spacing, **sizes)
        assert found.shape == wanted.shape
        # A midpoint on the border of two cells may be read from either: one ray then differs as a whole.
        differs = ((found - wanted).abs() > 2e-5).any(-1)
        assert differs.sum() <= 0.05 * rays, differs.sum()


def test_samples_gather_where_the_cache_is_full_and_never_go_blind_behind_it():
    cache = torch.zeros(32, 32, 32)
    cache[:, :, 16] = 1e6  # an opaque wall a little above x = 0
    origins, directions = torch.tensor([[-1.0, 0.1, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]])
    edges = cache_sample(cache, origins, directions, sampling(LINEAR, scale=1.0, bins=96, samples=64))
    x = LINEAR.t_from_s(edges[0]) - 1.0
    near_wall = ((x > -0.1) & (x < 0.3)).sum()
    assert near_wall > 40
    assert (x > 0.3).sum() >= 2 and (x < -0.1).sum() >= 1
    empty = cache_sample(torch.zeros_like(cache), origins, directions, sampling(LINEAR))
    torch.testing.assert_close(empty.diff(), torch.full((1, 16), 1 / 16), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [None, "reference"])
def test_edges_ascend_in_the_unit_interval(kernels, form):
    kernels(form)
    edges = sample(scene(500, seed=3), LADDER)
    assert edges.min() >= 0.0 and edges.max() <= 1.0 and (edges.diff(dim=-1) >= 0.0).all()
    parts = list(scene(8))
    parts[2] = parts[2].clone()
    parts[2][3] = math.nan
    broken, whole = sample(parts, LADDER), sample(scene(8), LADDER)
    kept = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(broken[kept], whole[kept]) and bool(broken.isfinite().all())


@pytest.mark.parametrize("form", [None, "reference", "cuda"])
def test_cells_rise_to_what_is_seen_and_never_fall(switch, form):
    switch(form)
    cache = torch.full((4, 4, 4), 0.5)
    x = torch.tensor([[0.1, 0.3, 0.9], [0.1, 0.3, 0.9], [0.6, 0.6, 0.6], [1.0, 1.0, 1.0]])
    cache_raise_(cache, x, torch.tensor([2.0, 3.0, 0.1, math.inf]))
    wanted = torch.full((4, 4, 4), 0.5)
    wanted[3, 1, 0] = 3.0
    assert torch.equal(cache, wanted)


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    parts = scene(3000)
    assert_repeats(lambda: [sample(parts, LADDER)])


def test_wrong_arguments_are_named():
    cache, origins, directions, shift, jitter = scene(4)
    good = {"cache": cache, "origins": origins, "directions": directions, "shift": shift, "jitter": jitter}
    for name in good:
        wrong = good | {name: good[name].double()}
        with pytest.raises(ValueError, match=f"^{name}: "):
            cache_sample(sampling=sampling(LINEAR), **wrong)
    with pytest.raises(ValueError, match="bins, samples: expected"):
        sampling(LINEAR, bins=257)
