"""Built-in captures: exact geometry, determinism, split, and errors that name their cause."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smerf.capture.synth import built_in_scenes, render_capture
from smerf.errors import InvalidDataError, UsageError

SMALL = """
near: 0.5
far: 10
bounded: true
cell: 0.25
lights:
  - {kind: rect, center: [0.5, 0.5, 2.6], look_at: [0, 0, 0], size: [0.8, 0.8], strength: 6}
materials:
  wall: {texture: {kind: checker, colors: ["#c0b090", "#807050"], scale: 0.5}}
  matt: {texture: {kind: noise, colors: ["#4060a0", "#4463a4"], scale: 0.1}}
  glossy: {color: "#a02020", specular: 0.3, roughness: 0.05}
objects:
  - name: room
    shape: {kind: lathe, profile: [[0, 3], [3, 3], [3, -0.5], [0, -0.5]], smooth: false}
    material: wall
    instance: false
  - {name: cube, shape: {kind: box, size: [0.6, 0.6, 0.6], cell: 0.1}, material: matt, at: [-0.5, 0, -0.2]}
  - {name: ball, shape: {kind: sphere, radius: 0.35, cell: 0.08}, material: glossy, at: [0.5, 0.1, 0.2]}
rig: {kind: orbit, views: 12, fov: 50, center: [0, 0, 0.1], radius: [2, 2], elevation: [20, 35], turns: 0.25}
paths:
  walk: {kind: orbit, fov: 50, radius: [2, 2], elevation: [20, 20], turns: 1, seconds: 1}
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synth")
    (folder / "small.yaml").write_text(SMALL)
    return render_capture(folder / "small.yaml", folder / "capture", width=80, height=60)


def load(capture: Path, index: int) -> dict:
    transforms = json.loads((capture / "transforms.json").read_text())
    frame = transforms["frames"][index]

    def read(key: str) -> np.ndarray:
        return np.array(Image.open(capture / frame[key]))

    return {
        "rgb": read("file_path"),
        "depth": read("depth_file_path") * transforms["depth_unit_scale_factor"],
        "ids": read("instance_path"),
        "pose": np.array(frame["transform_matrix"]),
        "focal": transforms["fl_x"],
        "center": (transforms["cx"], transforms["cy"]),
    }


def reproject(a: dict, b: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unproject the pixels of ``a`` and find them in ``b``: flat pixel index, depth, and which lie inside."""
    height, width = a["depth"].shape
    y, x = np.mgrid[0:height, 0:width] + 0.5
    camera = np.stack(
        [(x - a["center"][0]) / a["focal"], -(y - a["center"][1]) / a["focal"], -np.ones_like(x)], -1
    )
    world = (camera * a["depth"][..., None]).reshape(-1, 3) @ a["pose"][:3, :3].T + a["pose"][:3, 3]
    local = (world - b["pose"][:3, 3]) @ b["pose"][:3, :3]
    depth = -local[:, 2]
    column = np.floor(local[:, 0] / depth * b["focal"] + b["center"][0]).astype(int)
    row = np.floor(-local[:, 1] / depth * b["focal"] + b["center"][1]).astype(int)
    inside = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return np.where(inside, row * width + column, 0), depth, inside


def test_neighbouring_frames_agree_through_their_poses_and_depth(capture):
    a, b = load(capture, 3), load(capture, 4)
    index, depth, inside = reproject(a, b)
    there = b["depth"].ravel()[index]
    same = inside & (np.abs(there - depth) < 0.03 * depth)
    # What is left over is hidden in one of the two views, or lies on an outline.
    assert inside.mean() > 0.75
    assert same.sum() / inside.sum() > 0.9
    assert np.median(np.abs(there - depth)[same]) < 0.01
    assert (a["ids"].ravel()[same] == b["ids"].ravel()[index][same]).mean() > 0.98
    error = np.abs(a["rgb"].reshape(-1, 3)[same].astype(float) - b["rgb"].reshape(-1, 3)[index][same])
    assert np.median(error) <= 6


def test_wrong_pose_breaks_the_agreement(capture):
    a, b = load(capture, 3), load(capture, 4)
    b["pose"] = a["pose"]
    index, depth, inside = reproject(a, b)
    right = load(capture, 4)["depth"].ravel()[index]
    assert (np.abs(right - depth) < 0.03 * depth)[inside].mean() < 0.9


def test_depth_is_along_the_optical_axis(capture):
    frame = load(capture, 0)
    ball = frame["ids"] == 2
    nearest = frame["depth"][ball].min()
    to_ball = np.array([0.5, 0.1, 0.2]) - frame["pose"][:3, 3]
    along_axis = -(frame["pose"][:3, :3].T @ to_ball)[2]
    assert along_axis - 0.36 < nearest < along_axis - 0.25


def test_masks_name_the_objects(capture):
    transforms = json.loads((capture / "transforms.json").read_text())
    assert transforms["instances"] == {"0": "background", "1": "cube", "2": "ball"}
    ids = np.concatenate([load(capture, i)["ids"].ravel() for i in range(12)])
    assert set(np.unique(ids)) == {0, 1, 2}


def test_glossy_surfaces_change_with_the_view_and_matt_ones_do_not(capture):
    changes = {1: [], 2: []}
    for i in range(8):
        a, b = load(capture, i), load(capture, i + 4)
        index, depth, inside = reproject(a, b)
        same = inside & (np.abs(b["depth"].ravel()[index] - depth) < 0.01 * depth)
        difference = np.abs(a["rgb"].reshape(-1, 3).astype(float) - b["rgb"].reshape(-1, 3)[index]).mean(1)
        for number, found in changes.items():
            found.append(
                difference[same & (a["ids"].ravel() == number) & (b["ids"].ravel()[index] == number)]
            )
    matt, glossy = (np.percentile(np.concatenate(changes[number]), 75) for number in (1, 2))
    assert glossy > 3
    assert glossy > 2 * matt, matt


def test_split_interleaves_and_covers_all_frames(capture):
    transforms = json.loads((capture / "transforms.json").read_text())
    files = [frame["file_path"] for frame in transforms["frames"]]
    test, train = transforms["test_filenames"], transforms["train_filenames"]
    assert sorted(test + train) == files and not set(test) & set(train)
    assert [files.index(name) for name in test] == [4]
    assert transforms["units"] == "metres" and transforms["bounded"] is True
    assert (transforms["near"], transforms["far"]) == (0.5, 10)


def test_images_are_rgb_without_alpha_and_of_the_stated_size(capture):
    transforms = json.loads((capture / "transforms.json").read_text())
    image = Image.open(capture / transforms["frames"][0]["file_path"])
    assert image.mode == "RGB" and image.size == (transforms["w"], transforms["h"]) == (80, 60)
    assert Image.open(capture / transforms["frames"][0]["depth_file_path"]).mode.startswith("I;16")
    assert Image.open(capture / transforms["frames"][0]["instance_path"]).mode == "L"
    assert image.resize((1, 1)).getpixel((0, 0)) > (40, 40, 40)


def test_camera_path_is_nerfstudios(capture):
    path = json.loads((capture / "paths" / "walk.json").read_text())
    assert len(path["camera_path"]) == int(path["fps"] * path["seconds"])
    pose = np.array(path["camera_path"][0]["camera_to_world"]).reshape(4, 4)
    assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3)) and np.isclose(np.linalg.det(pose), 1)


def test_same_seed_same_bytes_other_seed_other_noise(capture, tmp_path):
    again = render_capture(capture.parent / "small.yaml", tmp_path / "again", width=80, height=60)
    for file in sorted(p for p in capture.rglob("*.*") if p.is_file()):
        assert file.read_bytes() == (again / file.relative_to(capture)).read_bytes(), file.name
    other = render_capture(
        capture.parent / "small.yaml", tmp_path / "other", width=80, height=60, views=2, seed=1
    )
    two = render_capture(capture.parent / "small.yaml", tmp_path / "two", width=80, height=60, views=2)
    name = "images/frame_00000.png"
    assert (other / name).read_bytes() != (two / name).read_bytes()


def test_processes_give_the_same_bytes_as_one(capture, tmp_path, monkeypatch):
    from smerf.capture.synth import worker

    monkeypatch.setattr(worker, "SMALL_JOB", 0)
    monkeypatch.setattr(worker, "cpu_count", lambda: 2)
    seen = []
    again = render_capture(
        capture.parent / "small.yaml",
        tmp_path / "again",
        width=80,
        height=60,
        progress=lambda d, n: seen.append((d, n)),
    )
    assert seen == [(i, 12) for i in range(13)]
    for file in sorted((capture / "images").iterdir()):
        assert file.read_bytes() == (again / "images" / file.name).read_bytes(), file.name


@pytest.mark.parametrize("scene", ["tabletop", "courtyard", "flat"])
def test_built_in_scene_renders(scene, tmp_path):
    assert scene in built_in_scenes()
    capture = render_capture(scene, tmp_path / scene, views=4, width=40, height=30)
    transforms = json.loads((capture / "transforms.json").read_text())
    assert len(transforms["frames"]) == 4 and len(transforms["test_filenames"]) == 1
    for index in range(4):
        frame = load(capture, index)
        assert frame["rgb"].std() > 5, "a frame shows nothing"
        found = frame["depth"] > 0
        assert found.mean() > (0.5 if scene == "courtyard" else 0.999)
        assert frame["depth"][found].min() > transforms["near"]
        assert frame["depth"].max() < transforms["far"]
    assert (capture / "paths" / "walk.json").is_file()


def test_unknown_scene_names_the_choices(tmp_path):
    with pytest.raises(InvalidDataError, match=r"unknown scene 'tabletopp'.*tabletop"):
        render_capture("tabletopp", tmp_path)
    with pytest.raises(InvalidDataError, match=r"missing\.yaml: no such file"):
        render_capture(tmp_path / "missing.yaml", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("near: 0.5", "nearr: 0.5", r"unknown key 'nearr'; did you mean 'near'"),
        ("near: 0.5\n", "", r"key 'near' is missing"),
        ("near: 0.5", "near: -1", r"'near' must be a positive number"),
        (
            "specular: 0.3",
            "specularity: 0.3",
            r"materials\.glossy: unknown key 'specularity'; did you mean 'specular'",
        ),
        ("radius: 0.35", "radios: 0.35", r"object 'ball': shape 'sphere' has no key 'radios'"),
        ("kind: sphere", "kind: spere", r"object 'ball': unknown shape 'spere'"),
        ("kind: noise", "kind: noize", r"material 'matt': unknown texture 'noize'"),
        ("material: matt", "material: mat", r"objects\[1\]: unknown material 'mat'; did you mean 'matt'"),
        ('"#a02020"', '"red"', r"materials\.glossy.*#rrggbb"),
        ("views: 12", "views: many", r"rig\.views: expected int"),
        ("kind: orbit, views", "kind: orbid, views", r"unknown rig 'orbid'"),
        ("near: 0.5", "near: [", r"not readable as YAML"),
    ],
)
def test_malformed_description_names_the_place(old, new, message, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(InvalidDataError, match=message):
        render_capture(path, tmp_path / "capture", width=16, height=12)
    assert not (tmp_path / "capture" / "transforms.json").exists()


def test_too_few_views_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        render_capture("tabletop", tmp_path, views=1)


def test_importing_is_cheap():
    heavy = ("trimesh", "embreex", "scipy", "yaml", "torch")
    code = f"import smerf.capture.synth, sys; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
