import math

import pytest
import torch

from smerf.kernels import HashSpec, hash_encode
from smerf.kernels.reference.hash_encoding import hash_bucket, level_fade
from smerf.kernels.reference.hash_encoding import hash_encode as hash_encode_reference

# Cells per axis 4, 9, 19, 40: the first level is dense, the others are hashed into 512 entries.
SPEC = HashSpec(level_count=4, features=2, log2_size=9, base=4, finest=40)


def spec_with(features):
    return HashSpec(SPEC.level_count, features, SPEC.log2_size, SPEC.base, SPEC.finest)


def random_input(spec, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 3, generator=generator) * 1.4 - 0.2
    table = torch.randn(spec.entry_count, spec.features, generator=generator)
    sigma = torch.rand(count, generator=generator) ** 4
    upstream = torch.randn(count, spec.width, generator=generator)
    return x, table, sigma, upstream


def encode(x, table, spec, sigma, upstream):
    x, table = x.clone().requires_grad_(), table.clone().requires_grad_()
    out = hash_encode(x, table, spec, sigma)
    out.backward(upstream)
    return [out.detach(), table.grad, x.grad]


@pytest.mark.parametrize("with_sigma", [False, True])
@pytest.mark.parametrize("features", [1, 2, 4, 8])
def test_native_equals_reference(kernels, assert_close, features, with_sigma):
    spec = spec_with(features)
    for count in (0, 1, 17, 5000):
        x, table, sigma, upstream = random_input(spec, count)
        args = x, table, spec, sigma if with_sigma else None, upstream
        kernels()
        native = encode(*args)
        kernels("reference")
        # Fading subtracts nearly equal numbers where it is almost complete: 5e-6 off at worst.
        assert_close(native, encode(*args), rtol=1e-4, atol=1e-5)


def test_degenerate_points_encode_alike(kernels, assert_close):
    rows = [[0.0] * 3, [1.0] * 3, [0.5] * 3, [-5.0, 0.3, 9.0], [1e30, -1e30, 0.2], [math.inf, -math.inf, 0.5]]
    x = torch.tensor([*rows, [0.125, 0.375, 0.625], [1e-38, 1.0 - 1e-7, 0.25]])
    _, table, _, upstream = random_input(SPEC, len(x))
    for sigma in (None, torch.zeros(len(x)), torch.full((len(x),), 1e20), torch.full((len(x),), 1e-25)):
        kernels()
        native = encode(x, table, SPEC, sigma, upstream)
        kernels("reference")
        assert_close(native[:2], encode(x, table, SPEC, sigma, upstream)[:2])
        assert torch.isfinite(native[2]).all()
    outside = hash_encode(torch.tensor([[-5.0, 0.3, 9.0]]), table, SPEC)
    assert torch.equal(outside, hash_encode(torch.tensor([[0.0, 0.3, 1.0]]), table, SPEC))


@pytest.mark.parametrize("form", [None, "reference"])
def test_a_point_that_is_not_a_number_has_no_features_and_no_gradient(kernels, assert_close, form):
    kernels(form)
    x, table, sigma, upstream = random_input(SPEC, 40)
    clean = x.clone()
    x[3, 0] = x[20, 1] = x[39, 2] = math.nan
    gone = torch.zeros(40, dtype=torch.bool)
    gone[[3, 20, 39]] = True
    out, grad_table, grad_x = encode(x, table, SPEC, sigma, upstream)
    assert (out[gone] == 0).all() and (grad_x[gone] == 0).all()
    kept = encode(clean[~gone], table, SPEC, sigma[~gone], upstream[~gone])
    assert_close([out[~gone], grad_table, grad_x[~gone]], kept)


def test_the_centre_of_a_cell_reads_its_entry():
    spec = HashSpec(1, 2, 9, 8, 8)
    table = torch.arange(1024.0).view(512, 2)
    cells = torch.tensor([[0, 0, 0], [7, 7, 7], [1, 2, 3]])
    entries = cells[:, 0] + 8 * cells[:, 1] + 64 * cells[:, 2]
    assert torch.equal(hash_encode((cells + 0.5) / 8, table, spec), table[entries])


def test_hash_buckets_and_level_sizes_are_the_published_ones():
    cells = torch.tensor([[0, 0, 0], [1, 2, 3], [100, 200, 300], [-1, 5, 7], [8191, 8191, 8191]])
    assert hash_bucket(cells, 1 << 21).tolist() == [0, 228890, 1955368, 934629, 1073367]
    assert hash_bucket(cells, 1 << 22).tolist() == [0, 2326042, 1955368, 3031781, 1073367]
    sizes = [16, 22, 31, 43, 59, 83, 115, 159, 221, 307, 427, 592, 823, 1142, 1586, 2203, 3059, 4248, 5899]
    assert HashSpec(20, 2, 21, 16, 8192).resolutions() == (*sizes, 8192)


def test_native_hashing_finds_the_published_bucket():
    spec = HashSpec(1, 1, 21, 8192, 8192)
    table = torch.zeros(spec.entry_count, 1)
    table[[228890, 1955368, 1073367], 0] = torch.tensor([1.0, 2.0, 3.0])
    cells = torch.tensor([[1.0, 2.0, 3.0], [100.0, 200.0, 300.0], [8191.0, 8191.0, 8191.0]])
    assert hash_encode((cells + 0.5) / 8192, table, spec)[:, 0].tolist() == [1.0, 2.0, 3.0]


def test_fading_follows_the_error_function():
    sigma = torch.logspace(-4, 2, 200)
    exact = torch.erf(1.0 / (math.sqrt(8.0) * sigma * 16))
    assert (level_fade(sigma, 16) - exact).abs().max() < 0.007
    x, table, _, _ = random_input(SPEC, 30)
    plain = hash_encode(x, table, SPEC)
    assert torch.equal(hash_encode(x, table, SPEC, torch.zeros(30)), plain)
    assert (hash_encode(x, table, SPEC, torch.full((30,), 1e9)) == 0).all()


def test_gradients_of_the_reference_are_right():
    spec = HashSpec(2, 2, 6, 3, 6)
    x, table, sigma, _ = random_input(spec, 6, seed=3)
    x = x.clamp(0.05, 0.95).double().requires_grad_()
    table = table.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, t: hash_encode_reference(x, t, spec, sigma.double()), (x, table)
    )


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    x, table, sigma, upstream = random_input(SPEC, 9000)
    assert_repeats(lambda: encode(x, table, SPEC, sigma, upstream))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_build_gives_the_same(kernels, assert_close, isa):
    args = random_input(SPEC, 3000)
    kernels("reference")
    wanted = encode(*args[:2], SPEC, *args[2:])
    kernels(isa)
    assert_close(encode(*args[:2], SPEC, *args[2:]), wanted, rtol=1e-4, atol=1e-5)


def test_wrong_arguments_are_named():
    x, table, sigma, _ = random_input(SPEC, 5)
    with pytest.raises(ValueError, match=r"^x: expected torch.float32"):
        hash_encode(x.double(), table, SPEC)
    with pytest.raises(ValueError, match=r"^x: .*\(5, 2\)"):
        hash_encode(x[:, :2], table, SPEC)
    with pytest.raises(ValueError, match=r"^table: "):
        hash_encode(x, table[1:], SPEC)
    with pytest.raises(ValueError, match=r"^sigma: "):
        hash_encode(x, table, SPEC, sigma[:4])
    with pytest.raises(ValueError, match=r"^features: .* 3$"):
        spec_with(3)
    with pytest.raises(ValueError, match=r"^log2_size: "):
        HashSpec(2, 2, 0, 4, 8)
    with pytest.raises(ValueError, match="base <= finest"):
        HashSpec(2, 2, 9, 8, 4)
