"""A scene without surroundings shows the photos' background, softly, in every renderer."""

import numpy as np
import pytest
import torch

from smerf.baking import bake
from smerf.render.march import render_camera as render_native
from smerf.render.reference import render_camera
from smerf.student.backdrop import backdrop_features
from tests.baking.test_bake import RAW, mark, psnr, simulate
from tests.helpers.toy_room import Room, make_capture, make_student

GREY = (0.4, 0.4, 0.4)


class Spheres(Room):
    """The spheres of the room without its walls: rays may miss everything."""

    def _depth(self, points):
        depth = super()._depth(points)
        depth[..., 3] = -1.0
        return depth

    def density(self, points):
        return 50.0 * torch.sigmoid(100.0 * self._depth(points)).amax(-1)


@pytest.fixture
def spheres(tmp_path):
    student = make_student(Spheres(), noise=0.05)
    with torch.no_grad():
        # Without a view-dependent part what is drawn is the composite alone.
        student.networks[0].biases[2].fill_(-30.0)
    capture = make_capture(tmp_path)
    mark(student, capture)
    return student, capture


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), GREY])
@pytest.mark.parametrize("render", [render_camera, render_native])
def test_rays_that_miss_show_the_backdrop_and_soft_edges_blend_with_it(tmp_path, spheres, colour, render):
    student, capture = spheres
    student.backdrop = colour
    scene = bake(student, capture, RAW, folder=tmp_path / "baked")
    for frame in capture.frames[::3]:
        drawn, simulated = render(scene, frame.camera), simulate(student, frame.camera)
        assert np.isfinite(drawn).all()
        assert psnr(drawn, simulated) > 40.0
        is_empty = np.abs(simulated - colour).max(-1) < 0.004
        assert 0.05 < is_empty.mean() < 0.95
        assert np.abs(drawn[is_empty] - colour).max() < 0.03


def test_the_shell_costs_few_blocks(tmp_path, spheres):
    student, capture = spheres
    plain = bake(student, capture, RAW, folder=tmp_path / "plain").submodel(0)
    student.backdrop = GREY
    shelled = bake(student, capture, RAW, folder=tmp_path / "shelled").submodel(0)
    plain_blocks = (plain.block_indices[..., 0] != 255).sum()
    shell_blocks = (shelled.block_indices[..., 0] != 255).sum() - plain_blocks
    assert shell_blocks == 4**3 - 2**3
    slots = np.prod([edge // 9 for edge in shelled.atlas.shape[:3]])
    # Faces, edges and corners of the shell: 26 different blocks at most.
    assert slots <= plain_blocks + 26 + 3


def test_a_ray_that_meets_nothing_has_the_backdrops_colour():
    spec = make_student().submodels[0].grids.spec
    features = backdrop_features((1.0, 0.5, 0.0), spec)
    assert features.shape == (14,)
    torch.testing.assert_close(features[:3], torch.tensor([1.0, 0.5, 0.0]), atol=0.008, rtol=0.0)
    torch.testing.assert_close(features[7:10], features[:3])
    assert features[3:6].max() < 0.001
