"""Labels become the ids of a baked scene's voxels, on the full and the coarse level, and nothing else changes."""

import functools
import hashlib
import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from smerf.baking.coarse import coarse_files
from smerf.capture import fingerprint
from smerf.capture.types import Capture, Frame, Similarity
from smerf.engine.folder import RunFolder
from smerf.errors import InvalidDataError
from smerf.export.site import export_site
from smerf.pipeline.object_ids import add_objects, add_to_run, keep_objects
from smerf.render.assets import sample_ids
from smerf.render.march import render_camera, render_ids
from smerf.scene import load_scene, verify_manifest, write_scene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.read import load_submodel, read_object_ids
from smerf.scene.types import VIEWER_FROM_TRAINING
from smerf.scene.view import MarchOptions
from smerf.vision.label_files import StoredLabels
from smerf.vision.lift import VoxelGrid
from tests.helpers.labels import write_stored

TURNS = (-0.5, -0.35, -0.2, 0.0, 0.15, 0.3, 0.45, 0.6)
RED, BLUE = 1, 77
NUMBERS = {4: RED, 9: BLUE}
"""Instance -> id in the example."""


def camera_at(turn, shift=0.0):
    camera = example_camera(96, 72, turn=turn)
    pose = camera.world_from_cam.copy()
    pose[0, 3] += shift
    return replace(camera, world_from_cam=pose)


@pytest.fixture(scope="module")
def truth():
    return example_scene(128, objects=True)


@pytest.fixture
def baked(truth, tmp_path):
    submodel = replace(truth.submodel(0), object_ids=None)
    manifest = replace(truth.manifest, objects=(), extra={"kept": [1, 2]})
    coarse = functools.partial(coarse_files, truth.params, truth.mlp, 120_000)
    return write_scene(tmp_path / "scene", truth.params, truth.mlp, [submodel], manifest, coarse=coarse).root


@pytest.fixture
def capture(truth, tmp_path):
    """Photos' cameras with true instance masks, one of the photos held out."""
    root = tmp_path / "capture"
    root.mkdir()
    frames, entries = [], []
    for i, turn in enumerate(TURNS):
        camera = camera_at(turn, 0.1 * (i % 3))
        ids = render_ids(truth, camera)
        mask = np.zeros_like(ids)
        for instance, number in NUMBERS.items():
            mask[ids == number] = instance
        Image.fromarray(mask).save(root / f"mask_{i}.png")
        frames.append(Frame(f"{i}.png", root / f"{i}.png", camera, "test" if i == 3 else "train"))
        entries.append({"file_path": f"{i}.png", "instance_path": f"mask_{i}.png"})
    names = {"0": "background", "4": "red_box", "9": "blue_box"}
    (root / "transforms.json").write_text(json.dumps({"instances": names, "frames": entries}))
    none = np.zeros((0, 3))
    return Capture(root, "made", tuple(frames), Similarity(), 0.05, 10.0, False, None, none)


def labels_of(truth, instances, mark=""):
    """Labels as ``smerf label`` writes them, in voxels of 0.05; ids count from 1."""
    grid = VoxelGrid(np.full(3, -1.0), 0.05)
    keys = np.argwhere(np.ones((40, 40, 40)))
    centres, ids = grid.centres(keys), np.zeros(len(keys), np.int64)
    entries = []
    for number, each in enumerate(truth.manifest.objects, 1):
        inside = (np.abs(centres - each.centre) <= np.array(each.half) + 0.03).all(-1)
        ids[inside] = number
        entries.append(
            {
                "id": number, "word": "box", "score": 0.8, "colour": [200, 30, 30],
                "box": {"centre": list(each.centre), "half": list(each.half)},
                "instance": [4, 9][number - 1] if instances else None,
            }
        )  # fmt: skip
    return StoredLabels(tuple(entries), grid, keys[ids > 0], ids[ids > 0], mark)


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json" and not path.name.startswith("object_ids")
    }


def iou(found, wanted):
    return (found & wanted).sum() / (found | wanted).sum()


@pytest.mark.parametrize(("instances", "least"), [(True, 0.9), (False, 0.75)])
def test_labels_become_ids_and_the_other_files_stay(truth, baked, capture, instances, least):
    before = hashes(baked)
    old = json.loads((baked / "manifest.json").read_text())
    objects = add_objects(baked, capture, labels_of(truth, instances), quiet=True)
    assert [(each.id, each.name) for each in objects] == [(1, "box 1"), (2, "box 2")]
    assert hashes(baked) == before and verify_manifest(baked) == []
    new = json.loads((baked / "manifest.json").read_text())
    added = {name for name in new["files"] if "object_ids_" in name}
    assert {name.rpartition("/")[0] for name in added} == {"sm_000", "sm_000/coarse"}
    assert {key: new[key] for key in new if key not in ("objects", "files")} == {
        key: old[key] for key in old if key != "files"
    }
    page = export_site(baked, baked.parent / "one.html", single_file=True).read_text()
    assert '"sm_000/object_ids_000.png"' in page
    scene, held_out = load_scene(baked), capture.split("test")[0].camera
    found, wanted = render_ids(scene, held_out), render_ids(truth, held_out)
    for number, true in ((1, RED), (2, BLUE)):
        assert iou(found == number, wanted == true) >= least
    coarse = baked / "sm_000" / "coarse"
    ids = read_object_ids(coarse, scene.manifest, load_submodel(coarse, 0).atlas.shape[:3])
    assert set(np.unique(ids)) == {0, 1, 2}
    # Again, and by nothing: the ids of before go.
    add_objects(baked, capture, replace(labels_of(truth, instances), objects=()), quiet=True)
    assert not load_scene(baked).manifest.objects and not list(baked.rglob("object_ids*"))
    assert hashes(baked) == before and verify_manifest(baked) == []


def test_what_no_photo_shows_inside_a_thing_belongs_to_it(truth, baked, capture):
    """Hidden, nothing of it is left: neither a shell nor its inside."""
    add_objects(baked, capture, labels_of(truth, True), quiet=True)
    scene, camera = load_scene(baked), capture.split("test")[0].camera
    ids = render_ids(scene, camera)
    gone = render_ids(scene, camera, options=MarchOptions(hidden=frozenset([2])))
    assert not (gone == 2).any() and (gone == 1)[ids != 2].sum() == (ids == 1)[ids != 2].sum()
    shares = []
    for hidden in ((), (2,)):
        picture = render_camera(scene, camera, options=MarchOptions(hidden=frozenset(hidden)))
        shares.append(((picture[..., 2] > 0.5) & (picture[..., 0] < 0.35))[ids == 2].mean())
    assert shares[0] > 0.8 and shares[1] < 0.3
    for each in scene.manifest.objects:
        inside = torch.from_numpy(VIEWER_FROM_TRAINING @ np.array(each.centre)).float()[None]
        assert sample_ids(scene.submodel(0), scene.params, inside).tolist() == [each.id]


def test_a_scene_that_is_baked_again_gets_labels_that_still_fit(truth, baked, capture, tmp_path, caplog):
    folder = tmp_path / "labels"
    keep_objects(baked, capture, folder, quiet=True)
    write_stored(folder, labels_of(truth, True, "other photos"))
    with caplog.at_level(logging.WARNING, "smerf"):
        keep_objects(baked, capture, folder, quiet=True)
    assert "other photos" in caplog.text and not load_scene(baked).manifest.objects
    write_stored(folder, labels_of(truth, True, fingerprint(capture)))
    (folder / "volume.npz").write_bytes(b"PK")
    keep_objects(baked, capture, folder, quiet=True)
    assert "without objects" in caplog.text and not load_scene(baked).manifest.objects
    write_stored(folder, labels_of(truth, True, fingerprint(capture)))
    keep_objects(baked, capture, folder, quiet=True)
    assert len(load_scene(baked).manifest.objects) == 2


def test_a_run_gets_them_and_what_follows_is_out_of_date(truth, baked, capture, tmp_path):
    folder = tmp_path / "labels"
    write_stored(folder, labels_of(truth, True, fingerprint(capture)))
    run = RunFolder(tmp_path / "run")
    assert add_to_run(run.path, capture, folder, quiet=True) is None
    run.path.mkdir()
    run.config.write_text("{}")
    with run:
        shutil.copytree(baked, run.begin("baked", "key", resumes=False))
        before = run.finish("baked", "key", 1.0)
    assert add_to_run(run.path, capture, folder, quiet=True) == 2
    after = run.stage("baked")
    assert after.key == "key" and after.digest != before.digest
    assert len(load_scene(run.folder("baked")).manifest.objects) == 2


def test_a_scene_without_manifest_is_refused_and_stays(truth, baked, capture):
    (baked / "manifest.json").unlink()
    before = hashes(baked)
    with pytest.raises(InvalidDataError, match=r"manifest\.json"):
        add_objects(baked, capture, labels_of(truth, True), quiet=True)
    assert hashes(baked) == before
