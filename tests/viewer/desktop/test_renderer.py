"""Offscreen frames are those of the native renderer (and so of the reference, which tests/render compares it with)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from smerf.errors import MissingPartError
from smerf.render import march as native
from smerf.render import reference
from smerf.scene import load_scene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.supersample import pixel_angle
from smerf.scene.view import MarchOptions
from smerf.viewer.desktop.renderer import Renderer, at_size, pack_network, pinhole
from smerf.viewer.desktop.shaders import assemble
from tests.helpers.tiny_scene import look_at, make_scene, oracle, write_submodel

FRONT = look_at([0.3, -2.2, 0.5], [0, 0, 0])
PIXELS = [(48, 36), (40, 30), (56, 42), (52, 30), (2, 2), (93, 69), (10, 60)]


def to_bytes(image):
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.int16)


def assert_same(ours, theirs, share=0.999):
    assert ours.dtype == np.uint8 and ours.shape == theirs.shape
    difference = np.abs(ours - to_bytes(theirs)).max(-1)
    assert (difference <= 2).mean() >= share, f"worst {difference.max()}, {(difference > 2).sum()} pixels"


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"region": True},
        {"feature_gating": False},
        {"activation": "relu", "default_exposure": 0.3},
        {"deferred_rendering_mode": "vfr", "background": (0.1, 0.5, 0.9)},
        {"merge_features_combine_op": "sum", "range_features": (-5.0, 6.0), "range_density": (-12.0, 13.0)},
    ],
)
def test_every_kind_of_scene_looks_as_the_native_renderer_draws_it(gl, values):
    scene = example_scene(64, **values)
    renderer = Renderer(scene)
    for turn in (0.0, 2.0):
        camera = example_camera(80, 60, turn=turn)
        picture = renderer.image(camera)
        assert picture.std() > 1
        assert_same(picture, native.render_camera(scene, camera))
    renderer.free()


def test_a_frame_agrees_with_the_reference(gl):
    scene, camera = example_scene(64), example_camera(48, 36)
    renderer = Renderer(scene)
    assert_same(renderer.image(camera), reference.render_camera(scene, camera))
    renderer.free()


def test_submodels_follow_the_camera_and_networks_are_interpolated(gl):
    scene = example_scene(64, 2, (1, 2, 5), lattice=3)
    renderer = Renderer(scene)
    pictures = []
    for move in ([-0.4, -0.3, 0.3], [-0.4, 0.4, -0.4], [0.5, -0.2, 0.3]):
        camera = example_camera(60, 45)
        pose = camera.world_from_cam.copy()
        pose[:, 3] = move
        camera = replace(camera, world_from_cam=pose)
        pictures.append(renderer.image(camera))
        assert_same(pictures[-1], native.render_camera(scene, camera))
        k = scene.params.choose_submodel(pose[:, 3])
        assert np.array_equal(renderer.image(camera, k), pictures[-1])
    renderer.free()


def test_the_choices_of_the_march_act_as_in_the_native_renderer(gl):
    scene, camera = example_scene(64), example_camera(60, 45)
    options = MarchOptions(True, 0.8, step_multiplier=2, exposure=4.0)
    renderer = Renderer(scene, options, background=(1.0, 0.0, 0.0), near=0.4)
    theirs = native.render_camera(scene, camera, near=0.4, background=(1.0, 0.0, 0.0), options=options)
    assert_same(renderer.image(camera), theirs)
    renderer.free()


def test_a_lens_that_is_off_centre_and_not_square(gl):
    scene, camera = example_scene(64), example_camera(60, 45)
    lens = replace(camera.intrinsics, cx=22.0, cy=30.0, fx=camera.intrinsics.fx * 1.3)
    camera = replace(camera, intrinsics=lens)
    renderer = Renderer(scene)
    assert_same(renderer.image(camera), native.render_camera(scene, camera))
    smaller = at_size(camera, 30, 30)
    assert_same(renderer.image(smaller), native.render_camera(scene, smaller))
    renderer.free()


@pytest.mark.parametrize(
    "storage", [{"extension": "png", "joint": True}, {"extension": "raw"}, {"extension": "raw.gz"}]
)
def test_every_storage_form_agrees_with_an_independent_march(gl, tmp_path, storage):
    write_submodel(tmp_path / "sm_000", make_scene(), **storage)
    if storage["extension"] == "raw":
        (tmp_path / "sm_000" / "distance_grid_8_000.raw").unlink()
    renderer = Renderer(load_scene(tmp_path))
    picture = renderer.image(pinhole(FRONT, 96, 72, 40))
    expected = 255 * oracle(make_scene(), FRONT, 40, (96, 72), PIXELS)
    found = np.array([picture[row, column] for column, row in PIXELS])
    assert abs(found - expected).max() <= 2
    renderer.free()


def test_bands_join_without_a_seam_and_the_depth_is_that_of_the_box(gl, tmp_path):
    write_submodel(tmp_path / "sm_000", make_scene())
    renderer = Renderer(load_scene(tmp_path))
    camera = pinhole(look_at([0, -2.2, 0], [0, 0, 0]), 96, 72, 40)
    submodel = renderer.load(0)
    whole, bands = renderer.target("whole", 96, 72), renderer.target("bands", 96, 72)
    renderer.draw(whole, submodel, camera)
    for low in range(0, 72, 20):
        renderer.draw(bands, submodel, camera, low, min(72, low + 20))
    assert np.array_equal(renderer.read(whole), renderer.read(bands))
    # Dense samples begin at -0.375 and the empty ones before them lie at -0.625.
    assert 2.2 - 0.625 < renderer.depth_at(whole, 0.5, 0.5) < 2.2 - 0.3
    assert renderer.depth_at(whole, 0.02, 0.02) is None
    submodel.free()
    renderer.free()


def test_the_network_block_holds_bias_then_inputs_by_groups_of_four_outputs():
    rng = np.random.default_rng(0)
    widths = (34, 8, 4, 3)
    network = {}
    for i in range(3):
        network[f"ResampleDense_{i}/kernel"] = rng.normal(size=widths[i : i + 2]).astype(np.float32)
        network[f"ResampleDense_{i}/bias"] = rng.normal(size=widths[i + 1]).astype(np.float32)
    block = pack_network(network)
    assert block.shape == (2 * 37 + 9 + 5, 4)
    assert np.array_equal(block[37], network["ResampleDense_0/bias"][4:])
    assert np.array_equal(block[37 + 1 + 33], network["ResampleDense_0/kernel"][33, 4:])
    assert not block[1 + 34 : 37].any()
    assert np.array_equal(block[-4:, :3], network["ResampleDense_2/kernel"]) and not block[-5:, 3].any()


def test_a_network_that_does_not_fit_the_device_is_refused_with_the_reason(gl):
    scene = example_scene(32)
    for i, shape in enumerate([(41, 256), (256, 256), (256, 3)]):
        lattice = scene.mlp[f"ResampleDense_{i}/bias"].shape[:4]
        scene.mlp[f"ResampleDense_{i}/kernel"] = np.zeros((*lattice, *shape), np.float32)
        scene.mlp[f"ResampleDense_{i}/bias"] = np.zeros((*lattice, shape[1]), np.float32)
    with pytest.raises(MissingPartError, match="graphics device allows"):
        Renderer(scene)


def test_shaders_are_one_text_with_their_includes():
    text = assemble("march.frag", {"COARSE_SUM": "1"})
    assert text.startswith("#version 330 core\n#define COARSE_SUM 1\n")
    assert "#include" not in text and "float next_exit(" in text


def test_drawing_leaves_torch_alone(tmp_path):
    import subprocess
    import sys

    write_submodel(tmp_path / "sm_000", make_scene())
    code = (
        "import sys; from pathlib import Path; from smerf.export.desktop import desktop_viewer as d;"
        "d('context').offscreen_context(); d('window'); d('offscreen');"
        f"scene = d('window').open_scene(Path({str(tmp_path)!r}));"
        "v = d('viewer').Viewer(scene, (16, 12), 10**9); v.finish(); v.close();"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_nothing_hidden_nothing_lit_is_the_picture_of_a_scene_without_ids(gl):
    camera = example_camera(80, 60)
    pictures = []
    for objects in (False, True):
        renderer = Renderer(example_scene(64, region=True, objects=objects))
        pictures.append(renderer.image(camera))
        assert renderer.id_image(camera).any() == objects
        assert np.array_equal(renderer.image(camera), pictures[0])
        renderer.free()


def test_a_picture_smaller_than_trained_is_the_native_one_also_in_the_window(gl):
    from smerf.viewer.desktop.path import View
    from smerf.viewer.desktop.viewer import Viewer

    scene, camera = example_scene(128, region=True), example_camera(60, 45)
    bare = native.render_camera(scene, camera)
    scene.manifest = replace(scene.manifest, pixel_angle=pixel_angle(example_camera(180, 135).intrinsics))
    expected = native.render_camera(scene, camera)
    assert np.abs(bare - expected).mean() > 0.5 / 255
    renderer = Renderer(scene)
    assert_same(renderer.image(camera), expected)
    renderer.free()
    viewer = Viewer(scene, (60, 45), 10**9)
    viewer.show(View(camera.world_from_cam, 70.0))
    viewer.finish()
    assert viewer.statistics().rendered == (180, 135)
    assert_same(viewer.image(), expected)
    viewer.close()
