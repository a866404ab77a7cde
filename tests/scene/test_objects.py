"""Objects of a scene: written and read back, and refused where damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from smerf.errors import InvalidDataError, UsageError
from smerf.scene import load_scene, verify_manifest, write_scene
from smerf.scene.arrays import encode_array
from smerf.scene.example import example_scene
from smerf.scene.objects import SceneObject, choose_objects


@pytest.fixture(scope="module")
def scene():
    return example_scene(64, objects=True)


@pytest.fixture
def folder(scene, tmp_path):
    write(scene, tmp_path / "scene")
    return tmp_path / "scene"


def write(scene, path, **options):
    return write_scene(path, scene.params, scene.mlp, [scene.submodel(0)], scene.manifest, **options)


def change(folder, edit):
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("array_format", ["png", "raw.gz"])
def test_ids_and_their_meaning_read_back_the_same_and_are_hashed(scene, tmp_path, array_format):
    again = write(scene, tmp_path / "scene", array_format=array_format)
    assert again.manifest.objects == scene.manifest.objects and len(scene.manifest.objects) == 2
    assert np.array_equal(again.submodel(0).object_ids, scene.submodel(0).object_ids)
    assert set(np.unique(again.submodel(0).object_ids)) == {0, 1, 77}
    name = f"sm_000/object_ids_000.{array_format}"
    assert name in again.manifest.files
    (tmp_path / "scene" / name).write_bytes(b"else")
    assert [line for line in verify_manifest(tmp_path / "scene") if name in line]
    with pytest.raises(InvalidDataError, match="object_ids_000"):
        load_scene(tmp_path / "scene").submodel(0)


def test_ids_lie_in_the_slices_of_the_atlas(tmp_path, monkeypatch):
    monkeypatch.setattr("smerf.scene.layout._SLICE_BYTES", 60_000)
    scene = example_scene(128, objects=True)
    again = write(scene, tmp_path / "scene")
    parts = sorted(path.name for path in (tmp_path / "scene" / "sm_000").glob("object_ids_*"))
    assert len(parts) > 1 and parts == [f"object_ids_{i:03d}.png" for i in range(len(parts))]
    assert len(parts) == len(list((tmp_path / "scene" / "sm_000").glob("sparse_grid_rgb_*")))
    assert np.array_equal(again.submodel(0).object_ids, scene.submodel(0).object_ids)


def test_a_submodel_may_lack_the_file_but_not_if_it_is_listed(folder):
    (folder / "sm_000" / "object_ids_000.png").unlink()
    with pytest.raises(InvalidDataError, match=r"object_ids_000.png: missing"):
        load_scene(folder).submodel(0)
    change(folder, lambda value: value["files"].pop("sm_000/object_ids_000.png"))
    assert not load_scene(folder).submodel(0).object_ids.any()
    change(folder, lambda value: value.pop("objects"))
    assert load_scene(folder).submodel(0).object_ids is None


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda o: o.update(list={}), "'list' must be a list"),
        (lambda o: o.update(count=3), "'count' is 3, but the list has 2"),
        (lambda o: o["list"].append(5), "object 2: expected an object"),
        (lambda o: o["list"][1].update(id=1), "two objects have the same id"),
        (lambda o: o["list"][1].update(id=256), "object 1: 'id' must be a whole number from 1 to 255"),
        (lambda o: o["list"][1].update(id=0.5), "'id' must be a whole number"),
        (lambda o: o["list"][1].update(name=" "), "'name' must be 1 to 200"),
        (lambda o: o["list"][1].update(name="\x1b[2J"), "'name' must be 1 to 200"),
        (lambda o: o["list"][0].update(colour=[0, 0, 1.5]), "'colour' must be three numbers from 0 to 1"),
        (lambda o: o["list"][0].update(box=None), "'box': expected an object"),
        (lambda o: o["list"][0]["box"].update(half=[1, -1, 1]), "'half' must not be negative"),
        (lambda o: o["list"][0]["box"].update(centre=[1, 2]), "'centre' must be finite numbers"),
        (lambda o: o["list"][0].update(score="sure"), "'score' must be a finite number"),
    ],
)
def test_a_damaged_list_is_refused_by_name(folder, edit, fault):
    change(folder, lambda value: edit(value["objects"]))
    with pytest.raises(InvalidDataError, match=r"manifest\.json: 'objects'") as caught:
        load_scene(folder)
    assert fault in str(caught.value) and caught.value.exit_code == 4


def test_an_id_without_entry_is_refused_while_reading_and_while_writing(scene, folder, tmp_path):
    change(folder, lambda value: value["objects"].update(count=1, list=value["objects"]["list"][:1]))
    with pytest.raises(InvalidDataError, match=r"object_ids_000.png: names object 77"):
        load_scene(folder).submodel(0)
    with pytest.raises(InvalidDataError, match="names object 77"):
        write_scene(
            tmp_path / "other", scene.params, scene.mlp, [scene.submodel(0)],
            replace(scene.manifest, objects=scene.manifest.objects[:1]),
        )  # fmt: skip


def test_a_file_of_another_size_is_refused(scene, folder):
    size = np.array(scene.submodel(0).object_ids.shape) + (0, 0, 9)
    wrong = encode_array(np.zeros((*size, 1), np.uint8), "png")
    (folder / "sm_000" / "object_ids_000.png").write_bytes(wrong)
    with pytest.raises(InvalidDataError, match=r"object_ids_000.png: image is"):
        load_scene(folder).submodel(0)


def test_objects_are_chosen_by_name_or_id_and_a_wrong_one_lists_those_there_are():
    box = ((0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    objects = [SceneObject(i, name, *box) for i, name in ((3, "Vase"), (4, "chair"), (9, "chair"))]
    assert choose_objects(objects, ["vase", "9"], "--hide") == (3, 9)
    assert choose_objects(objects, ["chair", "4"], "--hide") == (4, 9)
    with pytest.raises(UsageError, match=r"--hide sofa: .*Vase \(3\), chair \(4\), chair \(9\)"):
        choose_objects(objects, ["sofa"], "--hide")
