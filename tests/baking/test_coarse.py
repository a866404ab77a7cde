"""The coarse level: what is written, how large it is, and that it shows the same scene."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from smerf.baking.coarse import coarse_files, coarsen
from smerf.export.site import export_site
from smerf.render.march import render_camera, render_ids
from smerf.scene import load_scene, verify_manifest
from smerf.scene.example import example_camera, example_scene
from smerf.scene.types import BakedScene
from smerf.scene.write import write_scene

LIMIT = 60_000


def write(scene, folder, limit):
    submodels = (scene.submodel(k) for k in range(len(scene.params.params_to_sm)))
    coarse = partial(coarse_files, scene.params, scene.mlp, limit)
    return write_scene(folder, scene.params, scene.mlp, submodels, scene.manifest, coarse=coarse)


@pytest.fixture(scope="module")
def scene():
    return example_scene(128, 2, (3, 7))


@pytest.fixture(scope="module")
def scene_dir(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("coarse") / "baked"
    write(scene, folder, LIMIT)
    return folder


def coarse_sizes(folder, region):
    return {path.name: path.stat().st_size for path in (folder / f"sm_{region:03d}" / "coarse").glob("*")}


def test_every_large_submodel_gets_a_level_below_the_limit_and_the_manifest_lists_it(scene_dir):
    files = json.loads((scene_dir / "manifest.json").read_text())["files"]
    for region in (3, 7):
        sizes = coarse_sizes(scene_dir, region)
        assert 0 < sum(sizes.values()) <= LIMIT
        assert {f"sm_{region:03d}/coarse/{name}" for name in sizes} <= set(files)
        full = sum(
            record["bytes"] for name, record in files.items() if name.startswith(f"sm_{region:03d}/plane")
        )
        coarse = sum(size for name, size in sizes.items() if name.startswith("plane"))
        assert 3 * coarse < full
    assert verify_manifest(scene_dir) == []


def test_readers_of_the_full_scene_do_not_notice(scene, scene_dir):
    again = load_scene(scene_dir)
    assert again.params == scene.params
    assert np.array_equal(again.submodel(1).planes, scene.submodel(1).planes)


def test_the_level_shows_the_same_room():
    scene, camera = example_scene(128), example_camera(48, 36)
    fine = render_camera(scene, camera)
    params, level = coarsen(scene.params, scene.submodel(0), 2, 2)
    assert params.triplane_resolution == 64 and level.planes.shape == (3, 64, 64, 8)
    coarse = render_camera(BakedScene(params, scene.mlp, scene.manifest, lambda k: level), camera)
    # As far from the full picture as a small blur, and much nearer than a flat picture of its mean.
    error = np.mean((coarse - fine) ** 2)
    assert error < 0.3 * np.mean((fine.mean((0, 1)) - fine) ** 2)
    assert -10 * np.log10(error) > 15


def test_the_level_has_the_ids_of_objects():
    scene, camera = example_scene(128, objects=True), example_camera(48, 36)
    params, level = coarsen(scene.params, scene.submodel(0), 2, 2)
    ids = render_ids(scene, camera)
    coarse = render_ids(BakedScene(params, scene.mlp, scene.manifest, lambda k: level), camera)
    for each in scene.manifest.objects:
        both, either = (ids == each.id) & (coarse == each.id), (ids == each.id) | (coarse == each.id)
        assert both.sum() > 0.4 * either.sum()


def test_the_networks_file_holds_this_submodel_alone(scene, scene_dir):
    import gzip

    path = scene_dir / "sm_007" / "coarse" / "deferred_mlp.json.gz"
    value = json.loads(gzip.decompress(path.read_bytes()))["ResampleDense_1/kernel"]
    expected = scene.mlp["ResampleDense_1/kernel"][1:2]
    assert value["shape"] == list(expected.shape)
    assert np.array_equal(np.array(value["data"], np.float32), expected.ravel())


def test_small_submodels_and_a_limit_of_nothing_get_none(scene, tmp_path):
    write(scene, tmp_path / "small", 4_000_000)
    write(scene, tmp_path / "none", 0)
    assert not list(tmp_path.rglob("coarse"))


def test_a_scene_without_the_level_is_exported_as_it_is(scene, tmp_path):
    write(scene, tmp_path / "baked", 0)
    export_site(tmp_path / "baked", tmp_path / "site")
    names = [
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        for folder in (tmp_path / "baked", tmp_path / "site" / "baked")
    ]
    assert names[0] == names[1]
    assert verify_manifest(tmp_path / "site" / "baked") == []


def test_a_damaged_coarse_file_is_noticed(scene_dir, tmp_path):
    import shutil

    shutil.copytree(scene_dir, tmp_path / "baked")
    path = tmp_path / "baked" / "sm_003" / "coarse" / "plane_rgb_1.png"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    (tmp_path / "baked" / "sm_003" / "coarse" / "stray.png").write_bytes(b"")
    problems = " ".join(verify_manifest(tmp_path / "baked"))
    assert "sm_003/coarse/plane_rgb_1.png" in problems and "stray.png" in problems


def test_a_single_file_leaves_the_level_out(scene_dir, tmp_path):
    page = export_site(scene_dir, tmp_path / "one.html", single_file=True).read_text()
    assert '"sm_003/plane_rgb_0.png"' in page and 'coarse/plane_rgb_0.png": "iVBOR' not in page
