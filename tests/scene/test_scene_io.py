import gzip
import json
import math
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from smerf.capture.types import Camera, Intrinsics, Similarity
from smerf.errors import InvalidDataError, UsageError
from smerf.scene import Manifest, SceneCamera, StartCamera, load_scene, verify_manifest, write_scene
from smerf.scene.arrays import encode_array
from smerf.scene.example import example_scene


@pytest.fixture(scope="module")
def scene():
    return example_scene(64)


@pytest.fixture(scope="module")
def pair():
    return example_scene(32, submodel_grid_resolution=2, params_to_sm=(3, 7), lattice=3, submodel_scale=1.6)


def write(scene, path, **options):
    count = len(scene.params.params_to_sm)
    submodels = (scene.submodel(k) for k in range(count))
    return write_scene(path, scene.params, scene.mlp, submodels, scene.manifest, **options)


def assert_same(a, b):
    assert a.params == b.params
    assert set(a.mlp) == set(b.mlp) and all(np.array_equal(a.mlp[name], b.mlp[name]) for name in a.mlp)
    for k in range(len(a.params.params_to_sm)):
        x, y = a.submodel(k), b.submodel(k)
        assert x.index == y.index
        for name in ("atlas", "block_indices", "planes"):
            assert np.array_equal(getattr(x, name), getattr(y, name)), name
        for grid in ("occupancy", "distance"):
            assert np.array_equal(getattr(x, grid)[8], getattr(y, grid)[8])


@pytest.mark.parametrize("array_format", ["png", "raw", "raw.gz"])
def test_a_written_scene_reads_back_the_same(scene, tmp_path, array_format):
    written = write(scene, tmp_path / "scene", array_format=array_format)
    assert_same(scene, written)
    assert verify_manifest(tmp_path / "scene") == []
    assert_same(scene, load_scene(tmp_path / "scene" / "sm_000"))


def test_several_submodels_lie_side_by_side_with_the_whole_network_each(pair, tmp_path):
    assert_same(pair, write(pair, tmp_path / "scene"))
    assert sorted(p.name for p in (tmp_path / "scene").iterdir()) == ["manifest.json", "sm_003", "sm_007"]
    networks = [
        (tmp_path / "scene" / name / "deferred_mlp.json").read_bytes() for name in ("sm_003", "sm_007")
    ]
    assert networks[0] == networks[1]
    assert_same(pair, load_scene(tmp_path / "scene" / "sm_007"))


def test_the_official_viewer_finds_every_key_and_file_it_needs(pair, tmp_path):
    write(pair, tmp_path / "scene")
    folder = tmp_path / "scene" / "sm_007"
    value = json.loads((folder / "scene_params.json").read_text())
    assert value["params_to_sm"] == [3, 7] and value["sm_to_params"] == [-1, -1, -1, 0, -1, -1, -1, 1]
    assert value["submodel_idx"] == 7 and value["num_local_submodels"] == 2 and value["num_submodels"] == 8
    assert value["submodel_voxel_size"] == 1.0 and value["submodel_scale"] == 1.6
    assert value["triplane_voxel_size"] == 4 / 32 and value["sparse_grid_voxel_size"] == 4 / 8
    assert value["useBits"] is True and value["useDistanceGrid"] is True
    assert value["atlas_depth"] % value["num_slices"] == 0 and value["atlas_width"] % 9 == 0
    names = ["deferred_mlp.json", "sparse_grid_block_indices.png", "occupancy_grid_8_000.png"]
    names += ["distance_grid_8_000.png", "sparse_grid_density_000.png"]
    names += [f"plane_{kind}_{i}.png" for kind in ("rgb", "features", "density") for i in range(3)]
    assert not [name for name in names if not (folder / name).is_file()]


def test_png_bytes_lie_as_the_official_viewer_reads_them(scene, tmp_path):
    write(scene, tmp_path / "scene")
    folder, submodel = tmp_path / "scene" / "sm_000", scene.submodel(0)
    plane = np.asarray(Image.open(folder / "plane_features_1.png"))
    assert plane.shape == (64, 64, 4) and np.array_equal(plane[5, 9], submodel.planes[1, 9, 5, 4:8])
    density = np.asarray(Image.open(folder / "sparse_grid_density_000.png"))
    width, height, depth = submodel.atlas.shape[:3]
    assert density.shape == (height * depth, width, 2)
    x, y, z = 3, 7, 2
    assert np.array_equal(density[z * height + y, x], submodel.atlas[x, y, z][[0, 7]])


def test_large_grids_are_cut_into_eight_slices(tmp_path):
    from smerf.scene.params_io import params_to_json, parse_params
    from smerf.scene.read import _read_grid

    params = example_scene(32).params
    params = type(params)(2560, 640)
    value = params_to_json(params, 0, (9, 9, 9), 1, "raw.gz")
    grid = np.zeros((320, 320, 320), np.uint8)
    grid[1, 2, 300] = 7
    for i in range(8):
        part = grid[:, :, 40 * i : 40 * (i + 1), None]
        (tmp_path / f"occupancy_grid_8_{i:03d}.raw.gz").write_bytes(encode_array(part, "raw.gz"))
    _, layout = parse_params(value, "x")
    assert np.array_equal(_read_grid(tmp_path, layout, "occupancy_grid", 8, params), grid)


def older_layout(scene, folder):
    """Write what an old exporter writes: joint, padded, unsuffixed 0/1 grids, plain inline network, no
    distance grid.
    """
    submodel, shared = scene.submodel(0), scene.params
    atlas = submodel.atlas
    folder.mkdir()

    def put(name, array):
        (folder / f"{name}.png").write_bytes(encode_array(array, "png"))

    depth = atlas.shape[2] // 2
    for i in range(2):
        part = atlas[:, :, depth * i : depth * (i + 1)]
        put(f"sparse_grid_rgb_and_density_{i:03d}", part[..., [1, 2, 3, 0]])
        put(f"sparse_grid_features_{i:03d}", part[..., 4:])
    put("sparse_grid_block_indices", submodel.block_indices)
    for i, plane in enumerate(submodel.planes):
        put(f"plane_rgb_and_density_{i}", plane[..., [1, 2, 3, 0]])
        put(f"plane_features_{i}", plane[..., 4:])
    occupied = (submodel.occupancy[8] != 0).astype(np.uint8)
    put("occupancy_grid_8", np.repeat(occupied[..., None], 4, -1))
    network = {
        name.removeprefix("Resample"): {
            "shape": list(value.shape[4:]),
            "data": value[0, 0, 0, 0].ravel().tolist(),
        }
        for name, value in scene.mlp.items()
    }
    value = {
        "triplane_resolution": 64,
        "sparse_grid_resolution": 16,
        "data_block_size": 8,
        "num_slices": 2,
        "range_features": list(shared.range_features),
        "range_density": list(shared.range_density),
        "params_to_sm": [0],
        "submodel_scale": 1,
        "merge_features_combine_op": "coarse_sum",
        "legacyGrids": True,
        "deferred_mlp": network,
    }
    value |= {f"atlas_{axis}": size for axis, size in zip(("width", "height", "depth"), atlas.shape)}
    (folder / "scene_params.json").write_text(json.dumps(value))


def test_joint_padded_unsuffixed_scenes_with_an_inline_plain_network_read_too(tmp_path):
    scene = example_scene(64, lattice=1)
    older_layout(scene, tmp_path / "any name")
    read = load_scene(tmp_path / "any name")
    a, b = scene.submodel(0), read.submodel(0)
    assert read.params == scene.params
    assert np.array_equal(a.atlas, b.atlas) and np.array_equal(a.planes, b.planes)
    assert np.array_equal(b.occupancy[8], np.where(a.occupancy[8] != 0, 255, 0))
    assert np.array_equal(a.distance[8], b.distance[8])
    assert all(np.array_equal(scene.mlp[name], read.mlp[name]) for name in scene.mlp)


def test_compressed_json_reads_too(scene, tmp_path):
    write(scene, tmp_path / "scene")
    for name in ("scene_params.json", "deferred_mlp.json"):
        path = tmp_path / "scene" / "sm_000" / name
        path.with_name(name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert_same(scene, load_scene(tmp_path / "scene"))


def change(folder, key, value):
    path = folder / "scene_params.json"
    content = json.loads(path.read_text())
    content.pop(key, None)
    if value is not None:
        content[key] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("triplane_resolution", None),
        ("triplane_resolution", "64"),
        ("triplane_resolution", 64.5),
        ("triplane_resolution", 1e9),
        ("atlas_height", 9 * 10**6),
        ("range_features", [7, -7]),
        ("range_density", None),
        ("num_slices", 5),
        ("atlas_width", 10),
        ("data_block_size", 7),
        ("params_to_sm", [1]),
        ("params_to_sm", []),
        ("num_submodels", 9),
        ("submodel_scale", 0),
        ("activation", "tanh"),
        ("feature_gating", "yes"),
        ("export_array_format", "npy.gz"),
        ("triplane_voxel_size", 0.5),
        ("triplane_resolution", 10**400),
        ("range_features", [-1e300, 1e300]),
        ("range_density", [10**400, 1]),
        ("submodel_scale", 1e300),
        ("default_exposure", -1.0),
    ],
)
def test_bad_parameters_are_named(scene, tmp_path, key, value):
    folder = tmp_path / "scene" / "sm_000"
    write(scene, tmp_path / "scene")
    change(folder, key, value)
    with pytest.raises(InvalidDataError, match=key) as caught:
        load_scene(tmp_path / "scene")
    assert "scene_params.json" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b'{"triplane_resolution": NaN}', b"\xff\xfe", b"[" * 100000]
)
def test_parameters_that_are_not_a_json_object_are_refused(scene, tmp_path, content):
    write(scene, tmp_path / "scene")
    (tmp_path / "scene" / "sm_000" / "scene_params.json").write_bytes(content)
    with pytest.raises(InvalidDataError, match=r"scene_params\.json"):
        load_scene(tmp_path / "scene")


@pytest.mark.parametrize("array_format", ["png", "raw", "raw.gz"])
@pytest.mark.parametrize("fault", ["cut", "missing", "long", "garbage"])
def test_damaged_arrays_are_named(scene, tmp_path, array_format, fault):
    write(scene, tmp_path / "scene", array_format=array_format)
    path = tmp_path / "scene" / "sm_000" / f"plane_features_1.{array_format}"
    data = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif fault == "garbage":
        path.write_bytes(b"not an array")
    else:
        array = np.zeros((64, 65, 4), np.uint8)
        path.write_bytes(encode_array(array, array_format))
    with pytest.raises(InvalidDataError, match="plane_features_1"):
        load_scene(tmp_path / "scene").submodel(0)
    assert any("plane_features_1" in line for line in verify_manifest(tmp_path / "scene"))


def test_an_atlas_that_no_machine_holds_is_refused_before_memory_is_taken(scene, tmp_path):
    write(scene, tmp_path / "scene")
    for axis in ("width", "height", "depth"):
        change(tmp_path / "scene" / "sm_000", f"atlas_{axis}", 8190)
    with pytest.raises(InvalidDataError, match=r"scene_params.json.*atlas"):
        load_scene(tmp_path / "scene")


@pytest.mark.parametrize("name", ["plane_rgb_0.raw.gz", "scene_params.json.gz"])
def test_a_file_that_unpacks_without_end_is_refused(scene, tmp_path, name):
    write(scene, tmp_path / "scene", array_format="raw.gz")
    folder = tmp_path / "scene" / "sm_000"
    (folder / name.removesuffix(".gz")).unlink(missing_ok=True)
    (folder / name).write_bytes(gzip.compress(bytes(200 << 20), 9))
    peak = tracemalloc_peak(lambda: load_scene(tmp_path / "scene").submodel(0), name.removesuffix(".gz"))
    assert peak < 150 << 20


def tracemalloc_peak(call, name):
    """Run a call that has to refuse a file of this name, and return the most bytes that it held."""
    tracemalloc.start()
    try:
        with pytest.raises(InvalidDataError, match=name):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_png_that_holds_more_than_it_says_is_read_as_it_says(scene, tmp_path):
    write(scene, tmp_path / "scene")
    path = tmp_path / "scene" / "sm_000" / "plane_density_0.png"
    (tmp_path / "scene" / "manifest.json").unlink()
    small = path.read_bytes()
    large = encode_array(np.zeros((64, 6400, 1), np.uint8), "png")
    path.write_bytes(small[:33] + large[33:])
    assert load_scene(tmp_path / "scene").submodel(0).planes.shape == (3, 64, 64, 8)
    path.write_bytes(large)
    with pytest.raises(InvalidDataError, match=r"plane_density_0.*64x6400"):
        load_scene(tmp_path / "scene").submodel(0)


def test_a_png_of_another_pixel_type_is_refused(scene, tmp_path):
    write(scene, tmp_path / "scene")
    path = tmp_path / "scene" / "sm_000" / "plane_density_0.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path)
    with pytest.raises(InvalidDataError, match=r"plane_density_0.*colour type 2"):
        load_scene(tmp_path / "scene").submodel(0)


def test_block_indices_that_point_outside_the_atlas_are_refused(scene, tmp_path):
    write(scene, tmp_path / "scene", array_format="raw")
    path = tmp_path / "scene" / "sm_000" / "sparse_grid_block_indices.raw"
    path.write_bytes(bytes([200]) * path.stat().st_size)
    with pytest.raises(InvalidDataError, match="sparse_grid_block_indices"):
        load_scene(tmp_path / "scene").submodel(0)


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("ResampleDense_1/bias", None, "ResampleDense_1/bias"),
        ("ResampleDense_1/bias", {"shape": [1, 2, 2, 2, 16], "data": [0.0]}, "1 values"),
        ("ResampleDense_0/bias", {"shape": [1, 2, 2, 2, 12], "data": [0.0] * 96}, "layer 0"),
        (
            "ResampleDense_2/bias",
            {"shape": [1, 2, 2, 2, 3], "data": [1e39] * 24},
            "layer 2 holds NaN",
        ),
        ("ResampleDense_2/bias", {"shape": [1, 2, 2, 2, 3], "data": ["a"] * 24}, "flat list of numbers"),
    ],
)
def test_a_bad_network_is_named(scene, tmp_path, name, entry, message):
    write(scene, tmp_path / "scene")
    path = tmp_path / "scene" / "sm_000" / "deferred_mlp.json"
    value = json.loads(path.read_text())
    value.pop(name)
    if entry:
        value[name] = entry
    path.write_text(json.dumps(value))
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_scene(tmp_path / "scene")
    assert "deferred_mlp.json" in str(caught.value)


def test_a_missing_neighbour_is_named(pair, tmp_path):
    write(pair, tmp_path / "scene")
    (tmp_path / "scene" / "sm_007").rename(tmp_path / "elsewhere")
    with pytest.raises(InvalidDataError, match="sm_007"):
        load_scene(tmp_path / "scene")


def test_a_folder_without_a_scene_is_refused(tmp_path):
    with pytest.raises(InvalidDataError, match=r"scene_params\.json"):
        load_scene(tmp_path)
    with pytest.raises(InvalidDataError, match="no such folder"):
        load_scene(tmp_path / "nothing")


def test_the_manifest_keeps_what_it_is_given(scene, tmp_path):
    lens = Intrinsics("OPENCV", 640, 480, 500.0, 501.0, 320.0, 240.5, (0.1, -0.02, 0.001, 0.0))
    pose = np.arange(12.0).reshape(3, 4)
    manifest = Manifest(
        generator="test",
        training_from_source=Similarity(2.0, np.diag([1.0, -1.0, -1.0]), np.array([1.0, 2.0, 3.0])),
        start=StartCamera(pose, 55.0),
        near=0.03,
        background=(0.0, 0.5, 1.0),
        cameras=(SceneCamera("a.jpg", "test", Camera(lens, pose)),),
        extra={"note": [1, 2]},
    )
    read = write_scene(tmp_path / "scene", scene.params, scene.mlp, [scene.submodel(0)], manifest).manifest
    assert read.training_from_source.scale == 2.0 and read.near == 0.03 and read.background == (0.0, 0.5, 1.0)
    assert np.array_equal(read.training_from_source.translation, [1, 2, 3])
    assert np.array_equal(read.start.world_from_cam, pose) and read.start.fov_degrees == 55.0
    assert read.cameras[0].camera.intrinsics == lens and read.cameras[0].split == "test"
    assert read.extra == {"note": [1, 2]} and "sm_000/scene_params.json" in read.files


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 2, "version 2"),
        ("version", True, "version True"),
        ("format", "other", "format"),
        ("required_features", ["time travel"], "time travel"),
        ("near", -1, "near"),
        ("files", {"../secret": {"sha256": "", "bytes": 0}}, "outside"),
        ("start", {"world_from_cam": [[1, 2, 3]], "fov_degrees": 50}, "world_from_cam"),
    ],
)
def test_a_manifest_that_cannot_be_honoured_is_refused(scene, tmp_path, key, value, message):
    write(scene, tmp_path / "scene")
    path = tmp_path / "scene" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_scene(tmp_path / "scene")
    assert "manifest.json" in str(caught.value)


def test_verification_names_changed_and_unlisted_files(scene, tmp_path):
    write(scene, tmp_path / "scene", array_format="raw")
    path = tmp_path / "scene" / "sm_000" / "plane_rgb_0.raw"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    (path.parent / "stray.raw").write_bytes(b"")
    problems = verify_manifest(tmp_path / "scene")
    assert problems == [
        "sm_000/plane_rgb_0.raw: contents changed (sha256 differs)",
        "sm_000/stray.raw: not listed in manifest.json",
    ]


def test_a_failed_write_leaves_the_old_scene_and_no_litter(scene, tmp_path):
    write(scene, tmp_path / "scene")
    before = (tmp_path / "scene" / "manifest.json").read_bytes()

    def broken():
        raise RuntimeError("baking failed")
        yield

    with pytest.raises(RuntimeError, match="baking failed"):
        write_scene(tmp_path / "scene", scene.params, scene.mlp, broken())
    with pytest.raises(InvalidDataError, match="sm_000"):
        write_scene(tmp_path / "scene", scene.params, scene.mlp, [])
    assert (tmp_path / "scene" / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene"]


def test_rewriting_replaces_a_scene_but_never_another_folder(scene, tmp_path):
    write(scene, tmp_path / "scene")
    write(scene, tmp_path / "scene", array_format="raw")
    assert not list((tmp_path / "scene" / "sm_000").glob("*.png"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    with pytest.raises(UsageError, match="photos"):
        write(scene, tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_arrays_that_do_not_fit_are_refused_before_anything_is_written(scene, tmp_path):
    submodel = scene.submodel(0)
    broken = type(submodel)(**{**vars(submodel), "planes": submodel.planes[:, :32]})
    with pytest.raises(InvalidDataError, match="planes"):
        write_scene(tmp_path / "scene", scene.params, scene.mlp, [broken])
    network = dict(scene.mlp)
    network["ResampleDense_1/bias"] = np.full_like(network["ResampleDense_1/bias"], math.nan)
    with pytest.raises(InvalidDataError, match="layer 1"):
        write_scene(tmp_path / "scene", scene.params, network, [submodel])
    assert not (tmp_path / "scene").exists()
