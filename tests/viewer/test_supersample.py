"""Pictures smaller than trained in the page: the rule is Python's, the picture at rest the native renderer's."""

from __future__ import annotations

import numpy as np
import pytest

from smerf.evaluation.viewers import WebGPUViewer
from smerf.render.march import render_camera
from smerf.scene.example import example_camera, example_scene
from smerf.scene.supersample import pixel_angle, rays_per_axis
from smerf.scene.write import write_scene
from tests.viewer.conftest import start_browser
from tests.viewer.test_backends import go, picture

SIZE = (96, 72)


@pytest.fixture(scope="module")
def browser():
    """A browser with WebGPU in software, where it has any."""
    with start_browser(WebGPUViewer.flags) as browser:
        yield browser


@pytest.fixture(scope="module")
def scene():
    """Trained on photos three times as fine as the canvas."""
    from dataclasses import replace

    scene = example_scene(128, region=True)
    scene.manifest = replace(scene.manifest, pixel_angle=pixel_angle(example_camera(288, 216).intrinsics))
    return scene


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory, scene):
    folder = tmp_path_factory.mktemp("small") / "scene"
    write_scene(folder, scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    return folder


@pytest.mark.parametrize("backend", ["webgl", "webgpu"])
def test_the_picture_at_rest_is_the_native_one(visit, scene, scene_dir, backend):
    page = visit(scene_dir, f"ui=0&free=1&backend={backend}").ready()
    if backend == "webgpu" and page.page.evaluate("smerf.stats().backend") != "WebGPU":
        pytest.skip("Chromium gives no WebGPU adapter here")
    bare = type(scene)(scene.params, scene.mlp, type(scene.manifest)(), scene.load)
    for turn in (0.0, 1.0):
        camera = example_camera(*SIZE, turn=turn)
        go(page, camera)
        image, expected = picture(page), 255 * render_camera(scene, camera)
        assert (abs(image - expected).max(-1) <= 2).mean() >= 0.999
        assert abs(image - expected).mean() < 0.4
        assert abs(255 * render_camera(bare, camera) - expected).mean() > 0.5
    assert page.page.evaluate("[smerf.stats().renderWidth, smerf.stats().renderHeight]") == [288, 216]
    assert page.errors == []


def test_a_limit_on_rendered_pixels_holds(visit, scene_dir):
    page = visit(scene_dir, "ui=0&free=1&backend=webgl&quality=phone", size=(300, 200)).ready()
    go(page, example_camera(300, 200))
    assert page.page.evaluate("smerf.stats().renderWidth") == 300


def test_the_rule_is_that_of_python(visit, scene_dir):
    page = visit(scene_dir, "ui=0&backend=webgl")
    angles = [float(angle) for angle in np.geomspace(1e-4, 1e-1, 40)] + [1.5e-3, 2.5e-3, 3.5e-3]
    found = page.page.evaluate(
        """async ({ angles, module }) => {
          const { raysPerAxis } = await import(module);
          return [1e-3, null, undefined].map((trained) => angles.map((angle) => raysPerAxis(angle, trained)));
        }""",
        {
            "angles": angles,
            "module": page.page.evaluate(
                "new URL('quality.js', document.querySelector('script[src]').src).href"
            ),
        },
    )
    assert found[0] == [rays_per_axis(angle, 1e-3) for angle in angles]
    assert set(found[0]) == {1, 2, 3, 4}
    assert found[1] == found[2] == [1] * len(angles)
