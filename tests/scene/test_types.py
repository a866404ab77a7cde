import numpy as np
import pytest

from smerf.scene import SceneParams, lattice_mlp_at
from smerf.scene.example import example_scene


def params(**values) -> SceneParams:
    return SceneParams(64, 16, submodel_grid_resolution=3, params_to_sm=(2, 13, 26), **values)


def test_regions_are_numbered_z_fastest_and_points_outside_belong_to_the_nearest():
    shared = params()
    assert shared.region_of(np.array([-0.9, -0.9, 0.9])) == 2
    assert shared.region_of(np.array([0.0, 0.0, 0.0])) == 13
    assert shared.region_of(np.array([7.0, 1.0, 1.2])) == 26
    assert np.allclose(shared.submodel_centre(0), [-2 / 3, -2 / 3, 2 / 3])


def test_a_region_without_submodel_is_drawn_by_the_nearest_one():
    shared = params()
    assert shared.sm_to_params[2] == 0 and shared.sm_to_params[0] == -1
    assert shared.choose_submodel(np.array([-0.9, -0.9, 0.9])) == 0
    assert shared.choose_submodel(np.array([0.9, 0.9, 0.0])) == 2


def lattice(shared: SceneParams, grid: int) -> dict[str, np.ndarray]:
    """A network whose every value is a + 2x + 4y + 8z at lattice vertices (region coordinates in [-1, 1])."""
    vertex = (np.arange(grid) + 0.5) / grid * 2 - 1
    z, y, x = np.meshgrid(vertex, vertex, vertex, indexing="ij")
    value = np.stack([100.0 * k + 2 * x + 4 * y + 8 * z for k in range(3)]).astype(np.float32)
    names = [f"ResampleDense_{i}/{part}" for i in range(3) for part in ("kernel", "bias")]
    return {
        name: np.broadcast_to(value[..., None, None], (3, grid, grid, grid, 4, 4)).copy()
        if "kernel" in name
        else np.broadcast_to(value[..., None], (3, grid, grid, grid, 4)).copy()
        for name in names
    }


def test_networks_are_interpolated_at_the_camera_centre_with_z_first_axes():
    shared = params(submodel_scale=2.4)
    mlp = lattice(shared, 4)
    local = np.array([0.3, -0.5, 0.6])
    position = shared.submodel_centre(1) + local / 3
    found = lattice_mlp_at(shared, mlp, 1, position)
    assert found["ResampleDense_0/kernel"].shape == (4, 4)
    assert np.allclose(found["ResampleDense_2/bias"], 100 + local @ [2, 4, 8], atol=1e-4)


def test_networks_are_constant_outside_the_outermost_vertices():
    shared = params()
    mlp = lattice(shared, 2)
    near = lattice_mlp_at(shared, mlp, 0, shared.submodel_centre(0) + np.array([0.5, 0, 0]) / 3)
    far = lattice_mlp_at(shared, mlp, 0, shared.submodel_centre(0) + np.array([5.0, 0, 0]))
    assert np.array_equal(near["ResampleDense_1/kernel"], far["ResampleDense_1/kernel"])


def test_only_the_latest_submodels_stay_in_memory():
    scene = example_scene(32, submodel_grid_resolution=2, params_to_sm=(0, 3, 7))
    scene.cache_size = 2
    loads = []
    load = scene.load
    scene.load = lambda k: loads.append(k) or load(k)
    for k in (0, 1, 0, 2, 0, 1):
        assert scene.submodel(k).index == scene.params.params_to_sm[k]
    assert loads == [0, 1, 2, 1]


def test_a_submodel_that_does_not_exist_is_an_index_error():
    with pytest.raises(IndexError, match="submodel 1"):
        example_scene(32).submodel(1)
