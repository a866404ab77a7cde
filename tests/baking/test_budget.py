"""Baking to a size, one submodel at a time, and folders that were damaged afterwards."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from smerf.baking import BakeConfig, bake
from smerf.baking.budget import fit_size
from smerf.errors import InvalidDataError, UsageError
from smerf.fields.ray_bank import camera_rays
from smerf.kernels import grid_render
from smerf.render.scene import load_scene
from smerf.scene import verify_manifest
from smerf.student import load_student, save_student
from smerf.student.partition import Partition
from smerf.student.visibility import BlockWeights
from tests.helpers.toy_room import CONFIG, Room, make_capture, make_student

SMALL = replace(CONFIG, voxel_resolution=64, plane_resolution=64)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A student of three submodels whose blocks know what they contribute."""
    folder = tmp_path_factory.mktemp("seen")
    capture = make_capture(folder, size=16)
    student = make_student(Room(), SMALL, Partition(2, (1, 3, 7), 1.6), noise=0.3)
    for one in student.submodels:
        grids = one.grids
        weights = BlockWeights(grids.spec)
        for frame in capture.frames[::2]:
            rays = camera_rays(frame.camera)
            edges = Room().query(rays).edges
            weights.add(
                rays, edges, grid_render(grids, torch.zeros(1), rays.origins, rays.directions, edges)[1]
            )
        one.block_weights = weights.grid()
    save_student(student, folder / "student")
    full = bake(student, capture, BakeConfig(), folder=folder / "full")
    return capture, folder / "student", full, size_of(folder / "full")


def test_contributions_are_shares_of_what_a_ray_sees(seen):
    student = load_student(seen[1])
    for k in range(3):
        weights, index = student.submodels[k].block_weights, student.submodels[k].grids.block_index
        assert weights.min() >= 0.0 and 0.8 < float(weights.sum()) <= 1.0 + 1e-5
        # Nothing is seen where there is no block.
        assert float(weights[index < 0].sum()) < 1e-6


@pytest.mark.parametrize("share", [0.4, 0.25])
def test_a_size_is_reached_and_its_cost_is_said(seen, tmp_path, share):
    capture, student, full, full_bytes = seen
    limit = share * full_bytes / 1e6
    scene = bake(load_student(student), capture, BakeConfig(max_mb=limit), folder=tmp_path / "small")
    size = size_of(tmp_path / "small")
    assert 0.75 * limit * 1e6 < size <= limit * 1e6
    cost = scene.manifest.extra["size_budget"]
    assert cost["max_mb"] == limit and cost["mb"] == pytest.approx(size / 1e6, rel=0.05)
    assert cost["full_mb"] == pytest.approx(full_bytes / 1e6, rel=0.05)
    assert 0.0 < cost["blocks_kept"] < 1.0 and len(cost["views"]) > 2
    assert np.isfinite([cost["full_psnr"], cost["psnr"]]).all() and cost["full_psnr"] != cost["psnr"]
    # What goes is what is seen least: the picture stays.
    camera = capture.frames[1].camera
    error = np.mean((scene.render(camera) - full.render(camera)) ** 2)
    assert -10 * np.log10(error) > (22.0 if share > 0.3 else 12.0)
    assert verify_manifest(tmp_path / "small") == []


def test_a_generous_size_changes_nothing_but_the_manifest(seen, tmp_path):
    capture, student, full, _ = seen
    bake(load_student(student), capture, BakeConfig(max_mb=1000.0), folder=tmp_path / "same")
    for path in full.root.rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "same" / path.relative_to(full.root)).read_bytes()


def test_the_same_budget_twice_gives_the_same_bytes(seen, tmp_path):
    capture, student, _, full_bytes = seen
    config = BakeConfig(max_mb=0.4 * full_bytes / 1e6)
    for name in ("one", "two"):
        bake(load_student(student), capture, config, folder=tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) > 30
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


def test_what_cannot_be_reached_is_said(seen, tmp_path):
    capture, student, _, _ = seen
    with pytest.raises(UsageError, match=r"smaller than \d+\.\d MB"):
        bake(load_student(student), capture, BakeConfig(max_mb=0.02), folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="max_mb"):
        BakeConfig(max_mb=0.0)
    ignorant = make_student(Room(), SMALL)
    with pytest.raises(UsageError, match="distil it again"):
        bake(ignorant, capture, BakeConfig(max_mb=1.0), folder=tmp_path / "none")


def test_the_search_for_a_size_bakes_seldom():
    values = np.random.default_rng(0).exponential(size=5000).astype(np.float32)
    calls = []

    def size_of(threshold):
        calls.append(threshold)
        return 300_000 + int(700 * (values >= threshold).sum() ** 0.95)

    for budget in (400_000, 1_000_000, 2_000_000):
        calls.clear()
        fit = fit_size(values, size_of, budget, size_of(0.0))
        assert 0.95 * budget < fit.size <= budget and len(calls) < 9


def test_baking_holds_one_submodel(seen, tmp_path, monkeypatch):
    capture, folder, _, _ = seen
    student, alive = load_student(folder), []
    load = student.submodels.load

    def counted(k):
        assert not [one for one in alive if one() is not None]
        submodel = load(k)
        alive.append(weakref.ref(submodel.grids))
        return submodel

    monkeypatch.setattr(student.submodels, "load", counted)
    bake(student, capture, BakeConfig(array_format="raw"), folder=tmp_path / "baked")
    # For the photos' depths, for the first views, and for the folder.
    assert len(alive) <= 9


def test_a_scene_reads_only_the_submodels_of_its_cameras(seen):
    capture, _, full, _ = seen
    scene, read = load_scene(full.root, cache_size=1), []
    load = scene.load
    scene.load = lambda k: read.append(k) or (len(scene._cache) == 0 and load(k))
    for frame in (capture.frames[0], capture.frames[1], capture.frames[3]):
        assert scene.render(frame.camera).shape == (16, 16, 3)
    # The first two stand in the same cell; room is made before the next one is read.
    assert len(read) == 2


@pytest.mark.parametrize("fault", ["cut", "foreign", "flipped", "text", "gone"])
def test_a_damaged_asset_is_named(seen, tmp_path, fault):
    capture, student, _, _ = seen
    array_format = "raw" if fault == "flipped" else "png"
    bake(load_student(student), capture, BakeConfig(array_format=array_format), folder=tmp_path / "baked")
    path = tmp_path / "baked" / "sm_003" / f"plane_rgb_1.{array_format}"
    content = path.read_bytes()
    if fault == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "foreign":
        # A file of the right kind and size, of another submodel.
        path.write_bytes((tmp_path / "baked" / "sm_001" / path.name).read_bytes())
    elif fault == "flipped":
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif fault == "text":
        path.write_text("not a picture")
    else:
        path.unlink()
    scene = load_scene(tmp_path / "baked")
    with pytest.raises(InvalidDataError, match=r"sm_003/plane_rgb_1\S*: \w+") as error:
        scene.submodel(1)
    assert error.value.exit_code == 4
