import math

import pytest
import torch

from smerf.kernels import sparse_adam_
from smerf.kernels.teacher_step import reads_half


def state(rows, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator)
    gradient = torch.randn(rows, width, generator=generator)
    gradient[torch.rand(rows, generator=generator) < 0.4] = 0.0
    return [
        values,
        gradient,
        torch.randn(rows, width, generator=generator) * 0.1,
        torch.rand(rows, width) * 0.1,
    ]


def update(tensors, **options):
    copies = [tensor.clone() for tensor in tensors]
    sparse_adam_(*copies, **{"step": 3, "lr": 0.01, **options})
    return copies


@pytest.mark.parametrize("rows, width", [(0, 2), (1, 1), (50, 4), (6000, 8), (7, 3)])
def test_native_equals_reference(kernels, assert_close, rows, width):
    tensors = state(rows, width)
    for options in ({}, {"decay": 0.1, "betas": (0.8, 0.9), "eps": 1e-8}):
        kernels()
        native = update(tensors, **options)
        kernels("reference")
        assert_close(native, update(tensors, **options))


@pytest.mark.parametrize("form", [None, "reference"])
def test_dense_gradients_follow_torch_adam(kernels, assert_close, form):
    kernels(form)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(30, 2, generator=generator)
    theirs = torch.nn.Parameter(values.clone())
    adam = torch.optim.Adam([theirs], lr=0.02, betas=(0.9, 0.99), eps=1e-15)
    moments = torch.zeros(30, 2), torch.zeros(30, 2)
    for step in range(1, 6):
        gradient = torch.randn(30, 2, generator=generator)
        theirs.grad = gradient.clone()
        adam.step()
        sparse_adam_(values, gradient, *moments, step=step, lr=0.02)
        assert (gradient == 0).all()
    assert_close(values, theirs.detach())


@pytest.mark.parametrize("form", [None, "reference"])
def test_rows_without_a_gradient_do_not_move(kernels, form):
    kernels(form)
    tensors = state(200, 4)
    still = (tensors[1] == 0).all(-1)
    assert 0 < still.sum() < 200
    after = update(tensors, decay=0.5)
    for place in (0, 2, 3):
        assert torch.equal(after[place][still], tensors[place][still])
        assert (after[place][~still] != tensors[place][~still]).any(-1).all()


@pytest.mark.parametrize("form", [None, "reference"])
@pytest.mark.parametrize("rows, width", [(7, 3), (3, 1), (50, 2), (301, 4), (9, 8)])
def test_a_copy_in_half_floats_follows(kernels, form, rows, width):
    kernels()
    if not reads_half():
        form = "reference"
    kernels(form)
    tensors = state(rows, width)
    half = tensors[0].half()
    after = update(tensors, half=half)
    assert torch.equal(half, after[0].half())
    with pytest.raises(ValueError, match="half: expected"):
        update(tensors, half=half[1:])


@pytest.mark.parametrize("form", [None, "reference"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_dropped(kernels, form, bad):
    kernels(form)
    tensors = state(20, 3)
    tensors[1][:] = 1.0
    tensors[1][5, 1] = bad
    after = update(tensors)
    assert (after[1] == 0).all()
    for place in (0, 2, 3):
        assert torch.equal(after[place][5], tensors[place][5])
        assert torch.isfinite(after[place]).all()


def test_results_repeat_on_any_number_of_threads(assert_repeats):
    tensors = state(40000, 2)
    assert_repeats(lambda: update(tensors))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_build_gives_the_same(kernels, assert_close, isa):
    tensors = state(500, 4)
    kernels("reference")
    wanted = update(tensors)
    kernels(isa)
    assert_close(update(tensors), wanted)


def test_wrong_arguments_are_named():
    for place, name in enumerate(("values", "gradient", "moment1", "moment2")):
        for change in (
            torch.Tensor.double,
            lambda tensor: tensor[0],
            lambda tensor: tensor.t().contiguous().t(),
        ):
            wrong = state(4, 3)
            wrong[place] = change(wrong[place])
            with pytest.raises(ValueError, match=f"^{name}: "):
                sparse_adam_(*wrong, step=1, lr=0.1)
