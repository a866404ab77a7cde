import math

import pytest
import torch

from smerf.kernels import DIRECTION_WIDTHS, encode_directions
from smerf.kernels.reference import directions as reference


def unit_vectors(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)


def encode(directions, kind):
    directions = directions.clone().requires_grad_()
    out = encode_directions(directions, kind)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(upstream)
    return [out.detach(), directions.grad]


@pytest.mark.parametrize("kind", DIRECTION_WIDTHS)
def test_native_equals_reference(kernels, assert_close, kind):
    for directions in (unit_vectors(0), unit_vectors(5000), torch.eye(3), torch.zeros(1, 3)):
        kernels()
        native = encode(directions, kind)
        assert native[0].shape == (len(directions), DIRECTION_WIDTHS[kind])
        kernels("reference")
        assert_close(native, encode(directions, kind), rtol=1e-4, atol=1e-5)


def test_spherical_harmonics_are_orthonormal():
    directions = unit_vectors(200_000)
    values = encode_directions(directions).double()
    gram = 4.0 * math.pi * values.T @ values / len(values)
    # A random sum over the sphere: off by 0.02 at worst.
    assert (gram - torch.eye(16)).abs().max() < 0.05


def test_sinusoids_hold_the_direction_and_four_octaves():
    d = unit_vectors(1)
    found = encode_directions(d, "sinusoidal")[0]
    torch.testing.assert_close(found[:3], d[0])
    torch.testing.assert_close(found[3:9], torch.cat([d[0].sin(), d[0].cos()]))
    torch.testing.assert_close(found[21:], torch.cat([(8 * d[0]).sin(), (8 * d[0]).cos()]))


@pytest.mark.parametrize("form", [reference.spherical_harmonics, reference.sinusoids])
def test_gradients_of_the_reference_are_right(form):
    assert torch.autograd.gradcheck(form, (unit_vectors(4).double().requires_grad_(),))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"^directions: expected torch.float32"):
        encode_directions(unit_vectors(4).double())
    with pytest.raises(ValueError, match=r"^kind: expected one of spherical, sinusoidal, got 'cubic'"):
        encode_directions(unit_vectors(4), "cubic")
