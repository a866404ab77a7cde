import pytest
import torch

from smerf.kernels import GridSpec, mark_alive_
from smerf.kernels.reference import mark_alive as reference
from tests.helpers.cell_rays import rays_through_cells

SPEC = GridSpec(16, 64, 1.3, (0.1, -0.2, 0.05))
SIZE = 16


def empty():
    return torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool), torch.zeros(SIZE, SIZE, SIZE, dtype=torch.bool)


def marked(mark, *rays, least=0.3, least_solid=0.7):
    seen, solid = empty()
    mark(seen, solid, SPEC, *rays, least, least_solid)
    return seen, solid


@pytest.mark.parametrize("name", [None, "baseline", "avx2"])
def test_cells_equal_those_of_the_reference(kernels, name):
    kernels(name)
    rays = rays_through_cells(SPEC, SIZE, 700)
    found, wanted = marked(mark_alive_, *rays), marked(reference.mark_alive_, *rays)
    assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])
    assert 300 < found[0].sum() < 600 and found[1].sum() < 0.6 * found[0].sum()
    assert (found[0] | ~found[1]).all()


def test_marks_stay_and_only_what_weighs_enough_is_marked(kernels):
    kernels()
    origins, directions, edges, weights = rays_through_cells(SPEC, SIZE, 1)
    weights[0, 1] = 0.3
    seen, solid = empty()
    seen[0, 0, 0] = True
    mark_alive_(seen, solid, SPEC, origins, directions, edges, weights, 0.3, 0.7)
    assert seen.sum() == 1
    mark_alive_(seen, solid, SPEC, origins, directions, edges, weights, 0.29, 0.3)
    assert seen.sum() == 2 and not solid.any()


def test_rays_that_are_not_numbers_mark_nothing(kernels):
    for name in (None, "reference"):
        kernels(name)
        origins, directions, edges, weights = rays_through_cells(SPEC, SIZE, 3)
        origins[:] = float("nan")
        assert not marked(mark_alive_, origins, directions, edges, weights.fill_(1.0))[0].any()


def test_other_shapes_are_refused():
    rays = rays_through_cells(SPEC, SIZE, 3)
    with pytest.raises(ValueError, match="solid"):
        mark_alive_(empty()[0], torch.zeros(2, 2, 2, dtype=torch.bool), SPEC, *rays, 0.3, 0.7)
    with pytest.raises(ValueError, match="edges"):
        mark_alive_(*empty(), SPEC, *rays[:2], rays[2][:, :2], rays[3], 0.3, 0.7)
