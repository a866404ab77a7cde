"""The depth of a baked scene is where its surfaces are."""

from __future__ import annotations

import numpy as np

from smerf.render.depth import render_depth
from smerf.scene.example import example_camera, example_scene
from smerf.vision.lift import lift


def test_depth_lies_on_the_room():
    camera = example_camera(40, 30)
    depth = render_depth(example_scene(64), camera)
    assert depth.shape == (30, 40) and depth.dtype == np.float32
    points, _ = lift(camera, depth)
    # The floor's upper side is at -0.62, the ceiling's lower at 0.72; interpolation thickens both by up to two texels.
    texel = 4.0 / 64
    assert points[:, 2].min() > -0.62 - texel and points[:, 2].max() < 0.72 + texel
    inside = np.abs(points[:, 0]) < 0.8
    floor = points[inside & (points[:, 2] < -0.5), 2]
    assert len(floor) > 20 and 0.0 <= float(np.median(floor)) + 0.62 < 2 * texel
    assert (points[:, 1] > -0.45).all()


def test_rays_into_the_open_have_no_depth():
    depth = render_depth(example_scene(64), example_camera(40, 30))
    assert (depth == 0).any() and (depth[depth > 0] > 0.2).all()
