import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.kernels import march
from smerf.kernels import native as libraries
from smerf.render import march as native
from smerf.render import reference
from smerf.render.camera import near_rays
from smerf.render.scene import renderable
from smerf.scene import BakedScene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.grids import pack_bits
from smerf.scene.view import MarchOptions


def test_the_native_marcher_is_built_wherever_there_is_a_compiler():
    assert march.is_available() or shutil.which("g++") is None


def assert_same_picture(scene: BakedScene, camera, **arguments) -> np.ndarray:
    ours = native.render_camera(scene, camera, **arguments)
    theirs = reference.render_camera(scene, camera, **arguments)
    assert ours.shape == theirs.shape and ours.dtype == np.float32 and np.isfinite(ours).all()
    difference = np.abs(ours - theirs).max(-1)
    # A ray that grazes a cell border may take the other cell: rounding decides.
    assert (difference <= 1 / 255).mean() >= 0.999, f"worst {255 * difference.max():.1f}/255"
    return ours


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"feature_gating": False},
        {"activation": "relu"},
        {"deferred_rendering_mode": "vfr", "background": (0.1, 0.5, 0.9)},
        {"merge_features_combine_op": "sum"},
        {"default_exposure": 0.3},
        {"range_features": (-5.0, 6.0), "range_density": (-12.0, 13.0)},
        {"region": True},
    ],
)
def test_every_kind_of_scene_looks_as_the_reference_draws_it(values):
    scene = example_scene(64, **values)
    for turn in (0.0, 2.0):
        picture = assert_same_picture(scene, example_camera(40, 30, turn=turn))
        assert picture.std() > 0.005


@pytest.mark.parametrize(
    "options",
    [
        MarchOptions(enlarge_steps_when_occluded=True, visibility_delay=0.8),
        MarchOptions(step_multiplier=3),
        MarchOptions(exposure=4.0),
    ],
)
def test_every_option_acts_as_in_the_reference(options):
    scene, camera = example_scene(64), example_camera(40, 30)
    picture = assert_same_picture(scene, camera, options=options)
    assert not np.array_equal(picture, native.render_camera(scene, camera))


def test_several_submodels_and_atlases_of_many_slots():
    scene = example_scene(64, 2, (1, 2, 5), lattice=3)
    camera = example_camera(40, 30)
    pictures = [assert_same_picture(scene, camera, k=k) for k in range(3)]
    chosen = scene.params.choose_submodel(camera.world_from_cam[:, 3])
    assert np.array_equal(pictures[chosen], renderable(scene).render(camera))
    assert_same_picture(example_scene(256), example_camera(40, 30))


@pytest.mark.parametrize("hidden", [4, 32, 80])
def test_networks_of_any_width(hidden):
    scene = example_scene(32)
    rng = np.random.default_rng(0)
    widths = (41, hidden, hidden, 3)
    for i in range(3):
        lattice = scene.mlp[f"ResampleDense_{i}/bias"].shape[:4]
        kernel = rng.normal(0, widths[i] ** -0.5, (*lattice, widths[i], widths[i + 1]))
        scene.mlp[f"ResampleDense_{i}/kernel"] = kernel.astype(np.float32)
        scene.mlp[f"ResampleDense_{i}/bias"] = np.zeros((*lattice, widths[i + 1]), np.float32)
    assert_same_picture(scene, example_camera(16, 12))


def test_near_plane_and_background_arguments():
    scene, camera = example_scene(64), example_camera(40, 30)
    far = assert_same_picture(scene, camera, near=0.6, background=(1.0, 0.0, 0.0))
    assert np.abs(far - native.render_camera(scene, camera)).max() > 0.05


def test_cameras_outside_the_unit_cube_and_rays_along_axes():
    scene = example_scene(64)
    directions = np.concatenate([np.eye(3), -np.eye(3), [[1, 1, 0], [1, -1, 1], [1e-20, 1, 0]]]).astype(
        np.float32
    )
    for origin in ([0.0, 0.0, 0.0], [3.0, -2.0, 1.5], [1.0, 1.0, 1.0], [0.0, 5.0, 0.0]):
        ours = native.render_rays(scene, 0, origin, 0.1 * directions)
        theirs = reference.render_rays(scene, 0, np.array([origin]), 0.1 * directions).numpy()
        assert np.isfinite(ours).all() and np.isfinite(theirs).all()
        assert np.mean(np.abs(ours - theirs).max(-1) <= 1 / 255) >= 0.8


def test_the_order_of_rays_does_not_change_their_colours():
    scene, camera = example_scene(64), example_camera(37, 21)
    origin = camera.world_from_cam[:, 3]
    directions = near_rays(camera, 0.2)[1]
    as_picture = native.render_rays(scene, 0, origin, directions, width=37)
    assert np.array_equal(as_picture, native.render_rays(scene, 0, origin, directions))
    assert np.array_equal(as_picture[::-1], native.render_rays(scene, 0, origin, directions[::-1]))
    cut = native.render_rays(scene, 0, origin, directions[:200], width=37)
    assert np.array_equal(cut, as_picture[:200])


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_draws_the_same_picture(isa, monkeypatch):
    expected = native.render_camera(example_scene(64), example_camera(40, 30))
    names = [row["name"] for row in libraries.status() if row["state"] != "absent"]
    used = next((row["name"] for row in libraries.status() if row["state"] == "used"), None)
    # A library for a better processor than this one must not run.
    if f"cpu-{isa}" not in names or names.index(f"cpu-{isa}") > names.index(used):
        return
    monkeypatch.setenv("SMERF_ISA", isa)
    libraries.load_cpu.cache_clear()
    try:
        picture = native.render_camera(example_scene(64), example_camera(40, 30))
    finally:
        libraries.load_cpu.cache_clear()
    assert np.mean(np.abs(picture - expected).max(-1) <= 1 / 255) >= 0.999


def test_samples_equal_the_reference():
    scene = example_scene(128)
    points = np.random.default_rng(0).uniform(-2, 2, (4000, 3)).astype(np.float32)
    found = march.sample_assets(native.march_settings(scene.params), scene.submodel(0), points)
    wanted = reference.sample_assets(scene.submodel(0), scene.params, torch.from_numpy(points))
    alive = wanted[0].numpy() > -math.inf
    assert 0.05 < alive.mean() < 0.95
    # At a block's border rounding may pick the neighbour, which holds the same values unless it is empty.
    assert (np.isfinite(found[0]) == alive).mean() > 0.998
    both = alive & np.isfinite(found[0])
    for a, b in zip(found, wanted):
        assert np.allclose(a[both], b.numpy()[both], atol=2e-4)


def test_no_rays_give_no_colours():
    assert native.render_rays(example_scene(32), 0, np.zeros(3), np.zeros((0, 3))).shape == (0, 3)


def test_arrays_of_the_wrong_shape_are_refused():
    scene = example_scene(32)
    settings, submodel = native.march_settings(scene.params), scene.submodel(0)
    with pytest.raises(ValueError, match="points"):
        march.sample_assets(settings, submodel, np.zeros((4, 2), np.float32))
    broken = type(submodel)(**{**vars(submodel), "planes": submodel.planes[:, :16]})
    with pytest.raises(ValueError, match="planes"):
        march.sample_assets(settings, broken, np.zeros((4, 3), np.float32))


def test_without_the_library_the_reference_draws(monkeypatch):
    scene, camera = example_scene(32), example_camera(8, 6)
    expected = reference.render_camera(scene, camera)
    monkeypatch.setattr(march.native, "load_cpu", lambda: None)
    assert np.array_equal(native.render_camera(scene, camera), expected)


def test_what_lies_where_a_ray_crosses_a_region_briefly_is_rendered():
    # A shell about the unit cube's surface: near the cube's edges rays are in a region for a few steps only.
    scene, size = example_scene(256), 64
    part = scene.submodel(0)
    centre = np.abs((np.arange(size) + 0.5) * 4 / size - 2)
    far = np.maximum.reduce(np.broadcast_arrays(centre[:, None, None], centre[:, None], centre))
    atlas = np.full_like(part.atlas, 128)
    atlas[..., 7] = 175
    shell = replace(
        part,
        atlas=atlas,
        planes=np.full_like(part.planes, 128),
        block_indices=np.zeros_like(part.block_indices),
        occupancy={8: pack_bits((far > 0.9) & (far < 1.3))},
        distance={8: np.zeros_like(part.distance[8])},
    )
    scene = BakedScene(scene.params, scene.mlp, scene.manifest, lambda k: shell, cache_size=1)
    turn = np.linspace(-0.35, 0.35, 401)
    directions = np.stack([np.ones_like(turn), 1 + turn, 1 - 0.6 * turn], axis=1)
    directions = (0.3 * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    origin = np.array([0.25, 0.1, 0.0]) / scene.params.submodel_scale
    for colours in (
        native.render_rays(scene, 0, origin, directions),
        reference.render_rays(scene, 0, origin[None], directions).numpy(),
    ):
        assert np.ptp(colours) > 0.02
        # Passing a region over would show as an edge between neighbouring rays.
        assert np.abs(np.diff(colours, axis=0)).max() < 0.01
