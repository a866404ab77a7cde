"""``smerf render``: a video along a path through several submodels, and damaged scenes."""

import dataclasses
import json

import imageio.v2 as imageio
import numpy as np
import pytest

from smerf.capture import load_capture
from smerf.cli.main import main
from smerf.render.march import render_camera
from smerf.scene import load_scene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import SceneCamera
from smerf.scene.types import BakedScene
from smerf.scene.write import write_scene


@pytest.fixture(scope="module")
def baked(tmp_path_factory):
    scene = example_scene(32, 2, (1, 5, 7))
    target = tmp_path_factory.mktemp("render") / "scene"
    submodels = [scene.submodel(k) for k in range(3)]
    return write_scene(target, scene.params, scene.mlp, submodels, scene.manifest, "raw").root


def write_path(file, places):
    frames = []
    for index, place in enumerate(places):
        pose = np.eye(4)
        pose[:3] = example_camera(turn=0.1 * index).world_from_cam
        pose[:3, 3] = place
        frames.append({"camera_to_world": pose.ravel().tolist(), "fov": 70.0, "aspect": 4 / 3})
    document = {"render_width": 32, "render_height": 24, "fps": 8, "camera_path": frames}
    file.write_text(json.dumps(document))
    return file


def smerf(capsys, *words):
    code = main([str(word) for word in words])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_a_video_through_two_cells_reads_two_submodels_one_at_a_time(baked, tmp_path, capsys, monkeypatch):
    read, held = [], []
    submodel = BakedScene.submodel

    def counted(self, k):
        load = self.load
        self.load = lambda k: (held.append(len(self._cache)), read.append(k), load(k))[-1]
        try:
            return submodel(self, k)
        finally:
            self.load = load

    monkeypatch.setattr(BakedScene, "submodel", counted)
    # From the cell (0, 0, 1) to (1, 0, 1); nothing happens in (1, 1, 1).
    places = [[x, -0.5, 0.12] for x in (-0.4, -0.3, -0.1, 0.1, 0.2, 0.3)]
    path, video = write_path(tmp_path / "path.json", places), tmp_path / "walk.mp4"
    code, out, err = smerf(capsys, "render", baked, "--path", path, "-o", video, "--device", "cpu", "-q")
    assert code == 0, err
    assert read == [0, 1] and held == [0, 0]
    frames = np.stack([np.asarray(frame) for frame in imageio.get_reader(video)])
    assert frames.shape == (6, 24, 32, 3) and frames.std() > 10 and "(6 frames)" in out


def test_a_damaged_file_is_exit_4_and_named(baked, tmp_path, capsys):
    path = write_path(tmp_path / "path.json", [[-0.4, -0.5, 0.12]])
    for name, change in (
        ("sm_001/plane_rgb_1.raw", lambda data: data[:-7]),
        ("sm_001/plane_density_0.raw", lambda data: data[:99] + bytes([data[99] ^ 4]) + data[100:]),
        ("sm_001/sparse_grid_block_indices.raw", lambda data: b"PK\x03\x04" + data[4:]),
        ("sm_005/scene_params.json", lambda data: data[: len(data) // 2]),
        ("manifest.json", lambda data: data.replace(b"smerf-baked", b"other-baked")),
    ):
        file = baked / name
        data = file.read_bytes()
        file.write_bytes(change(data))
        code, _, err = smerf(
            capsys, "render", baked, "--path", path, "-o", tmp_path / "out", "--device", "cpu", "-q"
        )
        file.write_bytes(data)
        assert code == 4 and name in err, (name, err)
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_objects_can_be_left_out_by_name_or_id(tmp_path, capsys):
    scene = example_scene(64, objects=True)
    baked = write_scene(
        tmp_path / "scene", scene.params, scene.mlp, [scene.submodel(0)], scene.manifest, "raw"
    ).root
    path = write_path(tmp_path / "path.json", [[0.1, -0.45, 0.12]])
    pictures = {}
    for name, words in (("whole", ()), ("named", ("--hide", "Blue box, 1")), ("ids", ("--hide", "77,1"))):
        output = tmp_path / name
        code, _, err = smerf(
            capsys, "render", baked, "--path", path, "-o", output, "--device", "cpu", "-q", *words
        )
        assert code == 0, err
        pictures[name] = np.asarray(imageio.imread(next(output.iterdir()))).astype(int)
    assert np.array_equal(pictures["named"], pictures["ids"])
    assert (np.abs(pictures["named"] - pictures["whole"]).max(-1) > 8).mean() > 0.05
    code, _, err = smerf(capsys, "render", baked, "--path", path, "-o", tmp_path / "x", "--hide", "sofa")
    assert code == 2 and "red box (1), blue box (77)" in err and not (tmp_path / "x").exists()
    code, out, _ = smerf(capsys, "info", baked)
    assert code == 0 and "red box (1), blue box (77)" in out


def test_a_scene_becomes_a_capture_that_can_be_loaded(tmp_path, capsys):
    scene = example_scene(32, 1, (0,))
    splits = ("train", "test", "train")
    cameras = tuple(
        SceneCamera(f"{i}.jpg", split, example_camera(turn=0.2 * i)) for i, split in enumerate(splits)
    )
    manifest = dataclasses.replace(scene.manifest, cameras=cameras)
    baked = write_scene(
        tmp_path / "scene", scene.params, scene.mlp, [scene.submodel(0)], manifest, "raw"
    ).root
    code, out, _ = smerf(capsys, "render", baked, "--split", "all", "--capture", tmp_path / "capture")
    scene = load_scene(baked)
    capture = load_capture(tmp_path / "capture", normalise="scale")
    assert code == 0 and "smerf run" in out and len(capture.frames) == 3
    assert len(capture.split("test")) == 1
    for frame, view in zip(capture.frames, scene.manifest.cameras):
        assert frame.camera.intrinsics.width == view.camera.intrinsics.width
    first = scene.manifest.cameras[0].camera
    wanted = np.clip(render_camera(scene, first), 0.0, 1.0)
    found = np.asarray(imageio.imread(tmp_path / "capture" / "images" / capture.frames[0].name)) / 255.0
    assert np.abs(found - wanted).max() < 0.01


def test_a_capture_needs_a_split_and_a_place(baked, tmp_path, capsys):
    place = tmp_path / "capture"
    for words in (
        ("--split", "all"),
        ("--split", "all", "-o", place),
        ("--path", "x.json", "--capture", place),
    ):
        assert smerf(capsys, "render", baked, *words)[0] == 2
    assert not place.exists()
